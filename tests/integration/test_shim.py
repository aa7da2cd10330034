# SPDX-License-Identifier: Apache-2.0
"""Plugins in processes of their own, under running roles: killed, stopped and refused. Nobody else notices."""
import hashlib
import http.client
import json
import os
import signal

import pytest

from support import process
from support.process import eventually, plugin_processes, status_of, toml_plugin, write

BUILD = os.path.dirname(process.BINARY)
MOODY = os.path.join(BUILD, 'tests/abi/mock_moody.so')
DISK = os.path.join(BUILD, 'plugins/key_manager_disk.so')


def by_path(kind, name, path, data=None, **more):
    with open(path, 'rb') as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return toml_plugin(kind, name, data, path=path, sha256=digest, **more)


def end_child(role, how):
    """The child is dead, or stopped; another one has taken its place where it is dead."""
    old = eventually(lambda: plugin_processes(role), what='a plugin\'s process')[0]
    os.kill(old, how)
    if how != signal.SIGSTOP:
        eventually(lambda: plugin_processes(role) and old not in plugin_processes(role), what='another process')
    return old


def ready(port):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
    connection.request('GET', '/ready')
    return json.loads(connection.getresponse().read())


@pytest.fixture
def agent(server, make, request):
    name = '/' + request.node.name[:40]
    token = server.token(name)
    port = process.free_port()
    agent = make(process.Agent, server.port, join_token=token, roots=server.roots(),
                 plugins=by_path('WorkloadAttestor', 'moody', MOODY),
                 health_checks={'listener_enabled': True, 'bind_address': '127.0.0.1', 'bind_port': port})
    agent.health_port, agent.alias = port, name
    return agent


def fetched(agent):
    with agent.workload() as workload:
        return [svid.spiffe_id for svid in workload.fetch(wait=30).svids]


@pytest.fixture
def entry(server, agent):
    me = 65534 if os.geteuid() == 0 else os.geteuid()
    server.add(agent.alias + '/workload', agent.alias, ['moody:me:%d' % me, 'moody:pidfd:alive'])
    eventually(lambda: fetched(agent), what='an SVID by what the plugin saw')
    return 'spiffe://example.org%s/workload' % agent.alias


def test_a_workload_is_attested_by_a_plugin_in_its_own_process(agent, entry):
    assert fetched(agent) == [entry]
    child, = plugin_processes(agent)
    status = status_of(child)
    assert status['NoNewPrivs'] == '1' and status['Seccomp'] == '2'
    if os.geteuid() == 0:
        assert status['Uid'].split() == ['65534'] * 4 and int(status['CapEff'], 16) == 1 << 19 | 1 << 2
        assert os.readlink('/proc/%d/ns/net' % child) != os.readlink('/proc/self/ns/net')


def test_a_killed_process_is_replaced_and_five_deaths_show_in_health(agent, entry):
    for _ in range(5):
        end_child(agent, signal.SIGKILL)
        assert fetched(agent) == [entry]
    parts = ready(agent.health_port)['parts']
    part = parts['plugin moody of org.example.moody']
    assert part['state'] == 'degraded' and 'died 5 times' in part['reason'] and 'signal 9' in part['reason']
    assert agent.healthy()
    assert agent.has_logged("a plugin's process died and is started again")


def test_a_process_that_stands_still_is_killed_and_replaced(agent, entry):
    old = end_child(agent, signal.SIGSTOP)
    eventually(lambda: old not in plugin_processes(agent), wait=40, what='the end of a process that does not answer')
    assert eventually(lambda: fetched(agent), wait=30) == [entry]
    assert agent.healthy()


def test_the_process_ends_with_the_daemon(agent, entry):
    child, = plugin_processes(agent)
    agent.kill()
    eventually(lambda: not os.path.exists('/proc/%d' % child), what='the end of the plugin\'s process')


@pytest.mark.skipif(not os.path.exists(DISK), reason='needs the module of the key manager disk')
def test_a_servers_keys_live_in_another_process(make, folder):
    keys = folder / 'keys'
    os.makedirs(keys)
    who = {}
    if os.geteuid() == 0:
        os.chown(keys, 65534, 65534)
        who['user'] = 'nobody'
    server = process.Server()
    server.key_manager = by_path('KeyManager', 'disk', DISK, {'keys_path': keys + '/keys.json'}, role='server',
                                 write_paths=[keys], **who)
    server = make(lambda: server)
    assert os.stat(keys + '/keys.json').st_uid == (65534 if os.geteuid() == 0 else os.geteuid())
    for _ in range(2):
        end_child(server, signal.SIGKILL)
        done = server.cli('x509', 'mint', '-spiffeID', 'spiffe://example.org/minted')
        assert done.returncode == 0, done.stderr
    assert server.healthy()


@pytest.mark.parametrize('keys, said', [
    ({'isolation': 'container'}, 'isolation'), ({'devices': ['tpm0']}, 'an absolute path is expected'),
    ({'user': 'nobody-of-this-name'}, 'there is no such user'),
    ({'write_paths': ['/nonexistent/keys']}, '/nonexistent/keys cannot be written by'),
    ({'isolation': 'in-process', 'network': True}, "it needs a plugin with")])
def test_a_mistake_in_the_keys_is_named_by_validate(folder, keys, said):
    if 'user' in keys and os.geteuid() != 0:
        pytest.skip('only root can give a process another user')
    agent = process.Agent(1, folder=folder, join_token='x', plugins=by_path('WorkloadAttestor', 'moody', MOODY, **keys))
    write(folder / 'agent.toml', agent.config())
    done = process.run(['validate', '-config', folder / 'agent.toml'])
    assert done.returncode == 1
    assert said in done.stdout + done.stderr


def test_a_plugin_that_dies_in_its_configuration_is_an_error_of_the_start(folder):
    agent = process.Agent(1, folder=folder, join_token='x',
                          plugins=by_path('WorkloadAttestor', 'moody', MOODY, {'mood': 'crash'}))
    write(folder / 'agent.toml', agent.config())
    done = process.run(['validate', '-config', folder / 'agent.toml'])
    assert done.returncode == 1
    assert "the plugin's process died: killed by signal 6" in done.stdout + done.stderr
