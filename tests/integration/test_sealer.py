# SPDX-License-Identifier: Apache-2.0
"""The agent's cache under a key that a sealer holds: restarts with the device there, away, another one and back."""
import hashlib
import http.client
import json
import os

import pytest

from support import process, stubs
from support.process import eventually, toml_plugin, write

ME = 'unix:uid:%d' % os.geteuid()
MODULE = os.path.join(os.path.dirname(process.BINARY), 'tests', 'abi', 'mock_sealer.so')


def sealer(device, **more):
    with open(MODULE, 'rb') as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return toml_plugin('Sealer', 'mock', {'device': device}, role='agent', path=MODULE, sha256=digest,
                       isolation='in-process', **more)


@pytest.fixture
def setup(make, folder):
    """A server, and an agent with a sealer that has one SVID in its cache."""
    server = make(process.Server)
    server.add('/mine', '/host', [ME])
    device = folder / 'device'
    write(device, 'first')
    port = process.free_port()
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=server.roots(),
                 plugins=sealer(device),
                 health_checks={'listener_enabled': True, 'bind_address': '127.0.0.1', 'bind_port': port})
    agent.health_port = port
    eventually(lambda: svid(agent))
    eventually(lambda: restarts_with_cache(agent))
    return server, agent, device


def svid(agent, wait=20):
    with agent.workload() as workload:
        return workload.fetch(wait=wait).svids[0].x509_svid


def health(agent):
    """What the agent's health says of its sealer."""
    connection = http.client.HTTPConnection('127.0.0.1', agent.health_port, timeout=10)
    try:
        connection.request('GET', '/ready')
        part = json.loads(connection.getresponse().read())['parts']['sealer']
        return part['state'], part.get('reason', '')
    finally:
        connection.close()


def nobody_served(agent):
    """The agent knows the entry and has nothing to give for it: the caller waits."""
    with agent.workload() as workload:
        call = workload.watch()
        with pytest.raises(Exception):
            call.receive(stubs.workload.X509SVIDResponse, 1)


def restarts_with_cache(agent):
    """The SVID is on disk once a commit came after it; the log says nothing of it, so a look into the file."""
    with open(os.path.join(agent.data_dir, 'agent.mdb'), 'rb') as file:
        return svid(agent)[:200] in file.read()


def test_the_cache_opens_after_a_restart_without_the_server(setup):
    server, agent, _ = setup
    before = svid(agent)
    server.kill()
    agent.stop()
    agent.spawn()
    eventually(lambda: svid(agent) == before)
    assert not os.path.exists(os.path.join(agent.data_dir, 'seal.key'))
    assert health(agent) == ('ok', '')
    assert not agent.has_logged('level=error'), agent.logs()


def test_a_device_that_is_away_is_waited_for_while_bundles_are_served(setup):
    server, agent, device = setup
    before = svid(agent)
    server.kill()
    agent.stop()
    os.remove(device)
    agent.spawn()
    eventually(lambda: agent.has_logged('The key of the agent\'s cache cannot be had, trying again'))
    assert health(agent) == ('degraded', 'Unavailable: sealer(mock): the device does not answer')
    with agent.workload() as workload:
        assert workload.watch_bundles().receive(stubs.workload.X509BundlesResponse).bundles
    nobody_served(agent)
    write(device, 'first')
    eventually(lambda: svid(agent) == before, wait=60)
    assert agent.running()


def test_a_device_that_is_away_stops_no_new_svids(setup):
    server, agent, device = setup
    agent.stop()
    os.remove(device)
    agent.spawn()
    first = eventually(lambda: svid(agent))
    agent.stop()
    agent.spawn()
    assert eventually(lambda: svid(agent)) != first, 'nothing was kept without the device'


def test_another_device_costs_the_svids_and_the_first_one_brings_them_back(setup):
    server, agent, device = setup
    before = svid(agent)
    server.stop()
    agent.stop()
    write(device, 'second')
    agent.spawn()
    eventually(lambda: agent.has_logged('Cached SVIDs cannot be opened; they are kept aside'))
    assert health(agent) == ('degraded', 'cached SVIDs (2) cannot be opened: sealer(mock): another device sealed it')
    nobody_served(agent)
    agent.stop()
    write(device, 'first')
    agent.spawn()
    eventually(lambda: svid(agent) == before)
    assert agent.has_logged('Cached SVIDs that were kept aside are back')
    agent.stop()
    write(device, 'second')
    agent.spawn()
    server.start()
    eventually(lambda: svid(agent) != before, wait=90)
    eventually(lambda: health(agent) == ('ok', ''))


def test_a_servers_ca_keys_are_sealed_in_their_file(make, folder):
    device, keys = folder / 'device', folder / 'keys.json'
    write(device, 'first')
    clear = toml_plugin('KeyManager', 'disk', {'keys_path': keys}, role='server')
    server = make(process.Server, key_manager=clear)
    roots = server.roots()
    server.stop()
    with open(keys) as file:
        assert 'x509-CA-A' in file.read()
    server.key_manager = toml_plugin('KeyManager', 'disk', {'keys_path': keys, 'sealed': True}, role='server')
    server.plugins = sealer(device).replace('"agent"', '"server"')
    server.start()
    assert server.roots() == roots
    server.kill()
    with open(keys) as file:
        text = file.read()
    assert 'x509-CA-A' not in text and text.startswith('{"sealed_key":"')
    server.start()
    assert server.roots() == roots
    server.stop()
    write(device, 'second')
    server.spawn()
    eventually(lambda: not server.running())
    assert server.has_logged('another device sealed it; it was left untouched: bring back the device'), server.logs()
    server.process.wait()
    server.process = None
    with open(keys) as file:
        assert file.read() == text
    write(device, 'first')
    server.start()
    assert server.roots() == roots


def test_a_key_file_gives_way_to_a_sealer(make, folder):
    server = make(process.Server)
    server.add('/mine', '/host', [ME])
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=server.roots())
    key_file = os.path.join(agent.data_dir, 'seal.key')
    before = eventually(lambda: svid(agent))
    eventually(lambda: restarts_with_cache(agent))
    assert os.path.exists(key_file)
    server.kill()
    agent.stop()
    write(folder / 'device', 'first')
    agent.plugins = sealer(folder / 'device')
    agent.spawn()
    eventually(lambda: svid(agent) == before)
    assert not os.path.exists(key_file)
    agent.stop()
    agent.spawn()
    eventually(lambda: svid(agent) == before)
