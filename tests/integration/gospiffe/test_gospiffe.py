# SPDX-License-Identifier: Apache-2.0
"""go-spiffe, the reference client, against the built binary: rotation without a gap, mTLS between two workloads."""
import os
import subprocess
import time

import pytest
from conftest import needs_root

from support import process
from support.users import UIDS

HERE = os.path.dirname(os.path.abspath(__file__))
GO = '/usr/lib/go-1.24/bin/go'
pytestmark = pytest.mark.skipif(not os.path.exists(GO), reason='needs Go 1.24: tools/setup test')


@pytest.fixture(scope='module')
def client():
    """The Go program, built once into a folder that every user may read."""
    folder = process.Folder()
    out = folder / 'gospiffe'
    environment = dict(os.environ, GO111MODULE='off', GOTOOLCHAIN='local', GOFLAGS='', GOPATH='/usr/share/gocode',
                       GOCACHE=os.environ.get('GOCACHE', os.path.join(os.path.expanduser('~'), '.cache', 'go-build')))
    subprocess.run([GO, 'build', '-o', out, os.path.join(HERE, 'main.go')], check=True, env=environment, timeout=600)
    os.chmod(out, 0o755)
    yield out
    folder.remove()


def start(client, agent, uid, *args):
    environment = dict(os.environ, SPIFFE_ENDPOINT_SOCKET='unix://' + agent.socket)
    return subprocess.Popen([client, *args], stdout=subprocess.PIPE, universal_newlines=True, env=environment, user=uid,
                            group=uid)


def finish(child, wait=120):
    out, _ = child.communicate(timeout=wait)
    assert child.returncode == 0, out
    return out.splitlines()


def test_three_rotations_are_seen_without_a_gap(client, server, agent):
    uid = os.geteuid()
    server.add('/watched', '/host', ['unix:uid:%d' % uid], id='watched', x509_svid_ttl=12)
    lines = finish(start(client, agent, uid, 'watch', '4'))
    svids = [line.split() for line in lines if line.startswith('svid ')]
    assert [svid[1] for svid in svids] == ['spiffe://example.org/watched'] * 4
    assert len({svid[2] for svid in svids}) == 4
    ends = [int(svid[3]) for svid in svids]
    assert ends == sorted(ends) and ends[-1] > time.time() - 1
    # once it had an identity it was never told that it has none
    assert not [line for line in lines[lines.index(' '.join(svids[0])):] if line.startswith('watch error')]


@needs_root
def test_two_workloads_speak_mtls(client, server, agent):
    for name in ('web', 'db'):
        server.add('/' + name, '/host', ['unix:uid:%d' % UIDS[name]], id=name)
    db = start(client, agent, UIDS['db'], 'serve', 'spiffe://example.org/web')
    first = db.stdout.readline().split()
    assert first[0] == 'listening', first
    web = start(client, agent, UIDS['web'], 'call', 'spiffe://example.org/db', first[1])
    assert finish(web) == ['answer heard hello']
    assert finish(db) == ['served spiffe://example.org/web']


def test_authorities_rotate_under_two_peers_without_one_failed_handshake(client, make):
    """Two workloads at two agents. LIMPET_LONG_TESTS=1: an authority of one minute, ten rotations (six minutes)."""
    long_run = bool(os.environ.get('LIMPET_LONG_TESTS'))
    server = make(process.Server, ca_ttl='60s' if long_run else '36s')
    left = make(process.Agent, server.port, join_token=server.token('/left'), roots=server.roots())
    right = make(process.Agent, server.port, join_token=server.token('/right'), roots=server.roots())
    uid = os.geteuid()
    for name in ('left', 'right'):
        server.add('/' + name + '/peer', '/' + name, ['unix:uid:%d' % uid], id=name)
    peer = start(client, left, uid, 'peer', 'spiffe://example.org/right/peer')
    try:
        first = peer.stdout.readline().split()
        assert first[0] == 'listening', first
        caller = start(client, right, uid, 'rotate', 'spiffe://example.org/left/peer', first[1],
                       '11' if long_run else '3')
        lines = finish(caller, 800)
        _, handshakes, _, failed = lines[-1].split()
        assert failed == '0' and int(handshakes) > 50, lines
        assert peer.poll() is None
    finally:
        peer.kill()
        peer.wait()


def test_a_connection_that_grew_old_is_replaced_without_a_failed_call(client, make):
    server = make(process.Server, experimental={'max_connection_age': '1s'})
    lines = finish(start(client, server, os.geteuid(), 'calls', '127.0.0.1:%d' % server.port, '5'))
    counts = dict(zip(lines[0].split()[::2], map(int, lines[0].split()[1::2])))
    assert counts['failed'] == 0 and counts['calls'] > 50, lines
    assert counts['connections'] >= 3, lines
    # the stream was open on the first connection, long past its age, and still has its answer
    assert lines[1] == 'stream InvalidArgument'
