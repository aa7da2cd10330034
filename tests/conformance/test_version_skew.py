# SPDX-License-Identifier: Apache-2.0
"""Peers of other versions: an old agent at our server, and our agent at a server that has only the oldest methods."""
import os

import pytest

from support import h2grpc, pki, process, stubs
from support.fake_server import Failure, FakeServer
from support.node import PREFIX, Node
from support.process import eventually

ME = 'unix:uid:%d' % os.geteuid()
OLDEST = {'AttestAgent', 'RenewAgent', 'GetAuthorizedEntries', 'BatchNewX509SVID', 'GetBundle'}


# ---- an old agent ----
def test_an_agent_that_knows_only_the_oldest_methods_lives_its_whole_life(server):
    node = Node.attest(server)
    alias = '/skew' + node.id.path.replace('/spire/agent', '')
    server.add(alias, node.id.path, ['spiffe_id:spiffe://example.org' + node.id.path])
    made = server.add('/skew/mine', alias, ['unix:uid:7'])
    entries = node.authorized().entries
    assert '/skew/mine' in [e.spiffe_id.path for e in entries]
    key = pki.new_key()
    signed = node.sign((made.id, pki.csr(key, [])))
    assert signed.results[0].status.code == 0 and signed.results[0].svid.id.path == '/skew/mine'
    bundle = node.call('bundle.v1.Bundle/GetBundle', stubs.bundle.GetBundleRequest(), stubs.types.Bundle)
    assert bundle.x509_authorities
    renewed = node.renew()
    assert '/skew/mine' in [e.spiffe_id.path for e in renewed.authorized().entries]


def test_fields_and_methods_of_the_future_are_passed_over_and_unimplemented(server):
    unknown = b'\xa2\x7d\x03new'  # field 2004, length-delimited
    with Node.attest(server).connect() as link:
        call = link.start(PREFIX + 'entry.v1.Entry/GetAuthorizedEntries')
        call.send(unknown, end=True)
        call.receive()
        for method in ('entry.v1.Entry/FromTheFuture', 'entry.v2.Entry/GetAuthorizedEntries'):
            with pytest.raises(h2grpc.RpcError) as error:
                call = link.start(PREFIX + method)
                call.send(b'', end=True)
                call.receive()
            assert error.value.code in (h2grpc.UNIMPLEMENTED, h2grpc.PERMISSION_DENIED), method


# ---- an old server ----
class OldRules(dict):
    """A rule for each method that an old server does not have, whatever its name."""

    def get(self, name, default=None):
        if name not in OLDEST:
            return unimplemented
        return super().get(name, default)


def unimplemented(_peer):
    raise Failure(h2grpc.UNIMPLEMENTED, 'unknown method')


@pytest.fixture
def old():
    fake = FakeServer()
    fake.rules = OldRules()
    yield fake
    fake.close()


def ids(agent):
    with agent.workload() as workload:
        return sorted(s.spiffe_id.replace('spiffe://example.org', '') for s in workload.fetch(wait=10).svids)


def test_an_agent_serves_and_follows_changes_with_the_oldest_methods_only(old, make):
    parent = '/spire/agent/join_token/the-token'
    old.add('/mine', parent, [ME])
    agent = make(process.Agent, old.port, join_token='the-token', start=False, roots=old.authority.pem(),
                 experimental={'sync_interval': '1s'})
    agent.spawn()
    eventually(lambda: ids(agent) == ['/mine'], what='the first SVID')
    old.add('/later', parent, [ME])
    eventually(lambda: ids(agent) == ['/later', '/mine'], what='the second entry')
    tried = {name for name, _ in old.calls} - OLDEST
    assert 'SyncAuthorizedEntries' in tried, 'the newer way is tried first'
    rounds = old.count('GetAuthorizedEntries')
    eventually(lambda: old.count('GetAuthorizedEntries') >= rounds + 2, what='more rounds')
    assert agent.running()
