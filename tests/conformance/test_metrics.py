# SPDX-License-Identifier: Apache-2.0
"""[telemetry.Prometheus]: metrics under SPIRE's names, as Prometheus's own client library reads them."""
import http.client
import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support import process, stubs

HOST = socket.gethostname()


def telemetry(port, **more):
    return {'Prometheus': {'host': '127.0.0.1', 'port': port}, **more}


def scrape(port, path='/metrics'):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=10)
    try:
        connection.request('GET', path)
        response = connection.getresponse()
        return response.status, response.getheader('content-type'), response.read().decode()
    finally:
        connection.close()


class Metrics:
    """What one question brought: families by name, and samples by name and labels (without the host's)."""

    def __init__(self, port):
        status, kind, self.text = scrape(port)
        assert (status, kind) == (200, 'text/plain; version=0.0.4; charset=utf-8')
        self.families = {f.name: f for f in text_string_to_metric_families(self.text)}
        self.samples = {}
        for family in self.families.values():
            for sample in family.samples:
                labels = {k: v for k, v in sample.labels.items() if k != 'host'}
                # the library gives counters the ending that OpenMetrics asks for
                name = sample.name[:-len('_total')] if family.type == 'counter' else sample.name
                key = (name, tuple(sorted(labels.items())))
                assert key not in self.samples, key
                self.samples[key] = sample.value

    def value(self, name, **labels):
        return self.samples.get((name, tuple(sorted(labels.items()))))


@pytest.fixture(scope='module')
def ports():
    return process.free_port(), process.free_port()


@pytest.fixture(scope='module')
def server(ports):
    role = process.Server(telemetry=telemetry(ports[0]))
    try:
        yield role.start()
    finally:
        role.close()


@pytest.fixture(scope='module')
def agent(server, ports):
    role = process.Agent(server.port, join_token=server.token('/host'), roots=server.roots(),
                         telemetry=telemetry(ports[1]))
    try:
        yield role.start()
    finally:
        role.close()


def test_every_path_answers_and_every_line_is_prometheus_text(server, ports):
    for path in ('/', '/metrics', '/anything'):
        assert scrape(ports[0], path)[0] == 200
    text = scrape(ports[0])[2]
    for line in text.splitlines():
        assert line.startswith(('# HELP spire_server_', '# TYPE spire_server_', 'spire_server_')), line
        if not line.startswith('#'):
            assert 'host="%s"' % HOST in line, line


def test_the_server_says_that_it_started_and_since_when(server, ports):
    metrics = Metrics(ports[0])
    started = [s for s in metrics.families['spire_server_started'].samples]
    assert [(s.labels['trust_domain_id'], s.value) for s in started] == [(process.TRUST_DOMAIN, 1)]
    assert started[0].labels['version']
    first = metrics.value('spire_server_uptime_in_ms')
    process.eventually(lambda: Metrics(ports[0]).value('spire_server_uptime_in_ms') > first)


def test_calls_of_the_server_have_spires_names_their_status_and_their_time(server, ports):
    before = Metrics(ports[0]).value('spire_server_rpc_entry_v1_entry_list_entries', status='OK') or 0
    for _ in range(3):
        server.entries.ListEntries(stubs.entry.ListEntriesRequest())
    with pytest.raises(process.grpc.RpcError):
        server.entries.GetEntry(stubs.entry.GetEntryRequest(id='nowhere'))
    metrics = Metrics(ports[0])
    assert metrics.families['spire_server_rpc_entry_v1_entry_list_entries'].type == 'counter'
    assert metrics.value('spire_server_rpc_entry_v1_entry_list_entries', status='OK') == before + 3
    assert metrics.value('spire_server_rpc_entry_v1_entry_get_entry', status='NotFound') >= 1
    elapsed = 'spire_server_rpc_entry_v1_entry_list_entries_elapsed_time'
    assert metrics.families[elapsed].type == 'summary'
    assert metrics.value(elapsed + '_count', status='OK') == before + 3
    assert metrics.value(elapsed, status='OK', quantile='0.5') is not None


def test_a_method_that_does_not_exist_makes_no_series(server, ports):
    with server.connect() as link:
        for service in ('spire.api.server.entry.v1.Entry', 'made.up.Service'):
            with pytest.raises(Exception):
                link.unary(service + '/MadeUp', stubs.entry.ListEntriesRequest(), stubs.entry.ListEntriesResponse)
    assert 'made_up' not in scrape(ports[0])[2]


def test_the_ca_tells_what_it_prepared_activated_and_signed(server, ports):
    metrics = Metrics(ports[0])
    assert metrics.value('spire_server_ca_manager_x509_ca_prepare', status='OK') == 1
    assert metrics.value('spire_server_ca_manager_x509_ca_activate') == 1
    assert metrics.value('spire_server_ca_manager_jwt_key_prepare', status='OK') == 1
    assert metrics.value('spire_server_manager_jwt_key_activate') == 1
    assert metrics.value('spire_server_svid_rotate', status='OK') == 1
    assert metrics.value('spire_server_server_ca_sign_x509_svid') >= 1
    ttl = metrics.value('spire_server_manager_x509_ca_rotate_ttl', trust_domain_id=process.TRUST_DOMAIN)
    assert 23 * 3600 < ttl <= 24 * 3600
    assert metrics.value('spire_server_manager_x509_ca_rotate_expiration', trust_domain_id=process.TRUST_DOMAIN) > 1e9
    server.svids.MintJWTSVID(stubs.svid.MintJWTSVIDRequest(id=server.id('/w'), audience=['a']))
    assert Metrics(ports[0]).value('spire_server_server_ca_sign_jwt_svid') == 1


def test_entries_and_agents_are_counted(server, agent, ports):
    before = Metrics(ports[0])
    server.add('/counted', '/host', ['unix:uid:4711'])
    after = Metrics(ports[0])
    name = 'spire_server_entry_entries_by_entryid_cache_count'
    assert after.value(name) == before.value(name) + 1
    assert after.value('spire_server_node_agents_by_id_cache_count') == 1


def test_the_agent_tells_how_it_attests_syncs_and_caches(server, agent, ports):
    server.add('/cached', '/host', ['unix:uid:4712'])

    def cached():
        metrics = Metrics(ports[1])
        return metrics if metrics.value('spire_agent_lru_cache_svid_map_size', svid_type='x509') else None

    metrics = process.eventually(cached, what='a cached SVID')
    assert metrics.value('spire_agent_node_attestor_new_svid', status='OK') == 1
    assert metrics.value('spire_agent_manager_sync_fetch_entries_updates', status='OK') >= 1
    assert metrics.value('spire_agent_manager_sync_fetch_svids_updates', status='OK') >= 1
    assert metrics.value('spire_agent_lru_cache_entry_add') >= 1
    assert metrics.value('spire_agent_lru_cache_record_map_size') >= 1
    assert metrics.value('spire_agent_uptime_in_ms') > 0
    assert metrics.value('spire_agent_jwt_svid_cache_size') == 0
    assert metrics.families['spire_agent_started'].type == 'gauge'


def test_workloads_are_counted_while_they_are_there(server, agent, ports):
    server.add('/me', '/host', ['unix:uid:%d' % process.os.geteuid()])
    with agent.workload() as workload:
        process.eventually(lambda: workload.fetch().svids, what='an SVID')
        workload.watch().receive(stubs.workload.X509SVIDResponse)
        metrics = Metrics(ports[1])
        assert metrics.value('spire_agent_workload_api_connections') >= 1
        assert metrics.value('spire_agent_workload_api_connection') >= 1
        assert metrics.value('spire_agent_workload_api_workload_attestation', status='OK') >= 1
        assert metrics.value('spire_agent_workload_api_workload_attestor', attestor='unix', status='OK') >= 1
        assert metrics.value('spire_agent_workload_api_discovered_selectors_count') >= 1
    process.eventually(lambda: Metrics(ports[1]).value('spire_agent_workload_api_connections') == 0)
    metrics = Metrics(ports[1])
    assert metrics.value('spire_agent_rpc_workload_api_fetch_x509svid', status='Canceled') >= 1


def test_prefix_and_labels_are_the_configurations(make):
    port = process.free_port()
    make(process.Server, telemetry=telemetry(port, MetricPrefix='mine', EnableTrustDomainLabel=True,
                                             EnableHostnameLabel=False))
    text = scrape(port)[2]
    assert 'mine_uptime_in_ms{trust_domain="%s"} ' % process.TRUST_DOMAIN in text
    assert 'host=' not in text and 'spire_server' not in text


def test_failed_syncs_are_counted_by_their_status(make):
    port = process.free_port()
    first = make(process.Server)
    agent = make(process.Agent, first.port, join_token=first.token('/host'), roots=first.roots(),
                 telemetry=telemetry(port))
    process.eventually(lambda: Metrics(port).value('spire_agent_manager_sync_fetch_entries_updates', status='OK'), what='a sync')
    assert first.stop() == 0
    process.eventually(lambda: Metrics(port).value('spire_agent_manager_sync_fetch_entries_updates',
                                                   status='Unavailable'), what='a failed sync')
    assert agent.running()


def test_a_port_in_use_is_named(server, ports):
    second = process.Server(telemetry=telemetry(ports[0]))
    try:
        second.spawn()
        process.eventually(lambda: not second.running(), what='the end of the second server')
        assert second.has_logged('telemetry.Prometheus: ')
    finally:
        second.kill()  # it ended with an error, which close() takes for a failure
        second.folder.remove()
