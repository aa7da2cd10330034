# SPDX-License-Identifier: Apache-2.0
"""What an operator and a service manager see: sd_notify, log files that are moved away, a configuration read anew."""
import http.client
import json
import os
import signal
import socket
import time

import pytest

from support import process, stubs


class Manager:
    """A service manager's socket; everything it was told, as dictionaries."""

    def __init__(self, folder, abstract=False):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.path = '@limpet-test-%d-%d' % (os.getpid(), time.monotonic_ns()) if abstract else folder / 'notify'
        self.socket.bind('\0' + self.path[1:] if abstract else self.path)
        self.socket.setblocking(False)
        self.told = []

    def look(self):
        while True:
            try:
                text = self.socket.recv(65536).decode()
            except BlockingIOError:
                return self.told
            self.told.append(dict(line.split('=', 1) for line in text.splitlines()))

    def has(self, **wanted):
        return [t for t in self.look() if all(t.get(k) == v for k, v in wanted.items())]


@pytest.fixture
def with_environment(monkeypatch):
    def put(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))
    return put


@pytest.mark.parametrize('abstract', [False, True])
def test_a_service_manager_hears_when_it_is_ready_and_when_it_stops(make, folder, with_environment, abstract):
    manager = Manager(folder, abstract)
    with_environment(NOTIFY_SOCKET=manager.path)
    server = make(process.Server)
    process.eventually(lambda: manager.has(READY='1'), what='READY=1')
    assert manager.has(STATUS='Starting the server')
    process.eventually(lambda: manager.has(STATUS='server ok'), what='a status')
    assert not manager.has(STOPPING='1') and not manager.has(WATCHDOG='1')
    assert server.stop() == 0
    assert manager.has(STOPPING='1')


def test_the_watchdog_is_fed_twice_within_its_time(make, folder, with_environment):
    manager = Manager(folder)
    with_environment(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC=1_000_000)
    make(process.Server)
    start = time.monotonic()
    before = len(manager.has(WATCHDOG='1'))
    process.eventually(lambda: len(manager.has(WATCHDOG='1')) >= before + 4, what='four signs of life')
    assert time.monotonic() - start > 1.2, 'twice a second, not more'


def test_a_watchdog_of_another_process_is_not_fed(make, folder, with_environment):
    manager = Manager(folder)
    with_environment(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC=100_000, WATCHDOG_PID=os.getpid())
    make(process.Server)
    time.sleep(0.5)
    assert not manager.has(WATCHDOG='1')


def test_a_manager_that_is_not_there_stops_nothing(make, folder, with_environment):
    with_environment(NOTIFY_SOCKET=folder / 'nobody', WATCHDOG_USEC='soon')
    server = make(process.Server)
    assert server.has_logged('The service manager is not told') and server.has_logged('nobody')


def test_a_server_that_cannot_start_tells_why(folder, with_environment):
    manager = Manager(folder)
    with_environment(NOTIFY_SOCKET=manager.path)
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        server = process.Server(bind_port=taken.getsockname()[1])
        try:
            server.spawn()
            process.eventually(lambda: not server.running(), what='its end')
        finally:
            server.kill()
            server.folder.remove()
    assert any(t.get('STATUS', '').startswith('Cannot start the server: ') for t in manager.look())
    assert not manager.has(READY='1')


def test_sigusr2_opens_the_log_file_anew(make, folder):
    log = folder / 'limpet.log'
    server = make(process.Server, log_file=log)
    os.rename(log, log + '.1')
    server.process.send_signal(signal.SIGUSR2)
    process.eventually(lambda: os.path.exists(log), what='a new log file')
    with open(log + '.1') as old:
        size = len(old.read())
    server.token()
    server.process.send_signal(signal.SIGHUP)  # says something
    process.eventually(lambda: 'Configuration reloaded' in open(log).read(), what='a line in the new file')
    assert os.path.getsize(log + '.1') == size > 0


def test_sigusr2_keeps_the_old_file_when_there_can_be_no_new_one(make, folder):
    place = folder / 'logs'
    os.mkdir(place)
    log = os.path.join(place, 'limpet.log')
    server = make(process.Server, log_file=log)
    os.rename(place, folder / 'moved')
    server.process.send_signal(signal.SIGUSR2)
    moved = os.path.join(folder / 'moved', 'limpet.log')
    process.eventually(lambda: 'Log file cannot be opened anew' in open(moved).read(), what='the error in the old file')
    assert server.healthy()


def reload(server, **keys):
    server.keys.update(keys)
    process.write(server.config_path, server.config())
    count = server.logs().count('Configuration reloaded')
    server.process.send_signal(signal.SIGHUP)
    process.eventually(lambda: server.logs().count('Configuration reloaded') > count, what='the reload')


def test_sighup_takes_over_what_can_change(make):
    server = make(process.Server, log_level='INFO', log_format='json')

    def ttl():
        svid = server.svids.MintJWTSVID(stubs.svid.MintJWTSVIDRequest(id=server.id('/w'), audience=['a'])).svid
        return svid.expires_at - svid.issued_at

    assert ttl() == 300
    reload(server, default_jwt_svid_ttl='10m', audit_log_enabled=True, log_level='DEBUG')
    assert ttl() == 600
    process.eventually(lambda: server.has_logged('"type":"audit"'), what='an audit record')
    lines = [json.loads(line) for line in server.logs().splitlines() if line.startswith('{')]
    told = [line for line in lines if line['msg'] == 'Configuration reloaded'][-1]
    assert sorted(told['changed'].split(',')) == ['audit_log_enabled', 'default_jwt_svid_ttl', 'log_level']
    assert not server.has_logged('only after a restart')


def test_sighup_makes_and_unmakes_administrators(make):
    from support import node, pki
    server = make(process.Server)
    key = pki.new_key()
    minted = server.svids.MintX509SVID(stubs.svid.MintX509SVIDRequest(
        csr=pki.csr(key, uris=['spiffe://example.org/ops']))).svid
    ops = node.Node(server, key, list(minted.cert_chain))

    def count():
        return ops.call('agent.v1.Agent/CountAgents', stubs.agent.CountAgentsRequest(), stubs.agent.CountAgentsResponse)

    with pytest.raises(Exception):
        count()
    reload(server, admin_ids=['spiffe://example.org/ops'])
    assert count().count == 0
    reload(server, admin_ids=[])
    with pytest.raises(Exception):
        count()


def test_sighup_names_what_needs_a_restart(make):
    server = make(process.Server)
    reload(server, ca_ttl='48h', socket_path=server.folder / 'other.sock')
    process.eventually(lambda: server.has_logged('only after a restart'), what='the warning')
    assert server.has_logged('keys="socket_path,ca_ttl"')
    assert server.healthy() and not os.path.exists(server.folder / 'other.sock')


def test_sighup_with_a_bad_file_keeps_what_was_in_force(make):
    server = make(process.Server)
    process.write(server.config_path, server.config() + '\n[server.nonsense]\nx = 1\n')
    server.process.send_signal(signal.SIGHUP)
    process.eventually(lambda: server.has_logged('Configuration not reloaded'), what='the error')
    assert server.has_logged('level=error msg="Configuration not reloaded, what was in force stays"')
    assert server.has_logged('unknown key \\"nonsense\\"')
    assert server.healthy()
    os.remove(server.config_path)
    server.process.send_signal(signal.SIGHUP)
    process.eventually(lambda: server.logs().count('Configuration not reloaded') == 2, what='the second error')
    assert server.healthy()


def test_sighup_tells_a_service_manager_of_the_reload(make, folder, with_environment):
    manager = Manager(folder)
    with_environment(NOTIFY_SOCKET=manager.path)
    server = make(process.Server)
    process.eventually(lambda: manager.has(READY='1'))
    reload(server, default_jwt_svid_ttl='6m')
    told = manager.look()
    at = next(i for i, t in enumerate(told) if t.get('RELOADING') == '1')
    assert int(told[at]['MONOTONIC_USEC']) > 0
    process.eventually(lambda: any(t.get('READY') == '1' for t in manager.look()[at + 1:]), what='READY=1 after it')


def test_sighup_gives_an_agent_another_interval_and_level(make):
    server = make(process.Server)
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=server.roots(), sync='1h',
                 log_level='INFO')
    server.add('/late', '/host', ['unix:uid:%d' % os.geteuid()])
    reload(agent, experimental={'sync_interval': '1s'}, log_level='DEBUG')
    with agent.workload() as workload:
        process.eventually(lambda: workload.fetch(wait=20).svids, what='the entry, by the new interval')


def test_an_agent_tells_how_long_it_can_go_on(make):
    port = process.free_port()
    server = make(process.Server, default_x509_svid_ttl='2h')
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=server.roots(),
                 health_checks={'listener_enabled': True, 'bind_address': '127.0.0.1', 'bind_port': port})
    server.add('/w', '/host', ['unix:uid:4713'])

    def facts():
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=10)
        try:
            connection.request('GET', '/ready')
            return json.loads(connection.getresponse().read())['facts']
        finally:
            connection.close()

    # the token's alias is an entry too
    process.eventually(lambda: facts().get('cached_svids') == 2, what='the SVIDs')
    told = facts()
    assert 1.8 <= told['survivable_hours'] <= 2
    assert told['next_expiry'].endswith('Z') and told['agent_svid_expires'].endswith('Z')
    first = told['last_contact']
    process.eventually(lambda: facts()['last_contact'] > first, what='another contact')
    assert server.stop() == 0
    process.eventually(lambda: agent.has_logged('Could not synchronise'))
    stands = facts()['last_contact']
    time.sleep(2.5)
    assert facts()['last_contact'] == stands
    assert 1.8 <= facts()['survivable_hours'] <= 2


def test_a_server_tells_how_long_its_ca_is_good(make):
    port = process.free_port()
    make(process.Server, health_checks={'listener_enabled': True, 'bind_address': '127.0.0.1', 'bind_port': port})
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=10)
    connection.request('GET', '/ready')
    told = json.loads(connection.getresponse().read())['facts']
    connection.close()
    assert 23.9 <= told['ca_hours_left'] <= 24 and told['ca_expires'].endswith('Z') and told['svid_expires'].endswith('Z')
