# SPDX-License-Identifier: Apache-2.0
"""What happens when the server, the link or the agent goes away at a bad moment: what is valid is served, nothing
acknowledged is lost, nobody exits because of the network."""
import os
import random
import socket
import threading

import grpc
import pytest

from support import h2grpc, process, stubs
from support.link import Link
from support.node import Node
from support.process import eventually

ME = 'unix:uid:%d' % os.geteuid()
ROUNDS = int(os.environ.get('LIMPET_KILL_ROUNDS', '25'))  # how often each role is killed at a random moment


def ids(agent):
    with agent.workload() as workload:
        return [s.spiffe_id.replace('spiffe://example.org', '') for s in workload.fetch(wait=10).svids]


@pytest.fixture
def pair(make):
    server = make(process.Server)
    server.add('/mine', '/host', [ME], id='m-mine')
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=server.roots())
    eventually(lambda: ids(agent) == ['/mine'])
    # which it tells beside its first sync
    eventually(lambda: server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents[0].agent_version)
    return server, agent


@pytest.fixture
def linked(make):
    """Server and agent with a link between them that can be cut."""
    server = make(process.Server)
    server.add('/mine', '/host', [ME], id='m-mine')
    link = Link(server.port)
    agent = make(process.Agent, link.port, join_token=server.token('/host'), roots=server.roots())
    eventually(lambda: ids(agent) == ['/mine'])
    yield server, link, agent
    link.close()


@pytest.mark.parametrize('end', ['stop', 'kill'])
def test_the_agent_serves_while_the_server_is_gone_and_goes_on_when_it_is_back(pair, end):
    server, agent = pair
    getattr(server, end)()
    with agent.workload() as workload:
        stream = workload.watch()
        assert stream.receive(stubs.workload.X509SVIDResponse).svids
        eventually(lambda: agent.has_logged('Could not synchronise'))
        assert ids(agent) == ['/mine'] and agent.running() and not stream.closed()
        server.start()
        server.add('/new', '/host', [ME], id='a-new')
        eventually(lambda: ids(agent) == ['/new', '/mine'], wait=90)


@pytest.mark.parametrize('agent_end', ['stop', 'kill'])
def test_an_agent_that_restarts_without_its_server_serves_from_its_cache(pair, agent_end):
    server, agent = pair
    with agent.workload() as workload:
        before = workload.fetch()
    if agent_end == 'kill':
        agent.at_rest()
    server.kill()
    getattr(agent, agent_end)()
    agent.spawn()

    def same():
        with agent.workload() as workload:
            return workload.fetch() == before
    eventually(same, what='the same SVID from the cache')
    assert not agent.has_logged('level=error'), agent.logs()
    server.start()
    server.add('/new', '/host', [ME], id='a-new')
    eventually(lambda: ids(agent) == ['/new', '/mine'], wait=90)


def test_a_restarted_agent_does_not_attest_again(pair):
    server, agent = pair
    first = server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents
    agent.kill()
    agent.start()
    server.add('/new', '/host', [ME], id='a-new')
    eventually(lambda: ids(agent) == ['/new', '/mine'])
    assert server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents == first


def test_a_restarted_server_has_the_same_authority_and_knows_its_agents(pair):
    server, agent = pair
    roots, agents = server.roots(), server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents
    server.kill()
    server.start()
    assert server.roots() == roots
    assert server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents == agents
    server.add('/new', '/host', [ME], id='a-new')
    eventually(lambda: ids(agent) == ['/new', '/mine'], wait=60)


def test_a_cut_link_ends_nothing_and_mends(linked):
    server, link, agent = linked
    for round_ in range(2):
        link.cut()
        added = server.add('/new/%d' % round_, '/host', [ME], id='a-new')
        assert ids(agent) == ['/mine']
        link.mend()
        eventually(lambda: len(ids(agent)) == 2, wait=90)
        server.remove(added.id)
        eventually(lambda: len(ids(agent)) == 1, wait=90)


def test_a_stalled_link_ends_nothing_and_mends(linked):
    server, link, agent = linked
    link.stall()
    server.add('/new', '/host', [ME], id='a-new')
    assert ids(agent) == ['/mine']
    link.mend()
    eventually(lambda: ids(agent) == ['/new', '/mine'], wait=90)


def test_an_agent_started_before_its_server_attests_when_it_comes(make):
    server = make(process.Server)
    server.add('/mine', '/host', [ME])
    token, roots = server.token('/host'), server.roots()
    server.stop()
    agent = make(process.Agent, server.port, join_token=token, roots=roots, start=False)
    agent.spawn()
    eventually(lambda: agent.has_logged('level=warn') or agent.has_logged('level=error'), what='a word about the server')
    assert agent.running()
    server.start()
    eventually(lambda: ids(agent) == ['/mine'], wait=90)


def test_svids_that_expired_during_the_outage_come_back_with_the_server(make):
    server = make(process.Server)
    server.add('/mine', '/host', [ME], x509_svid_ttl=5)
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=server.roots())
    eventually(lambda: ids(agent) == ['/mine'])
    server.kill()

    def refused():
        with agent.workload() as workload:
            try:
                workload.fetch(wait=25)
            except h2grpc.RpcError as error:
                return error.code == h2grpc.UNAVAILABLE
    eventually(refused, wait=60, what='an expired SVID is not handed out')
    assert agent.running()
    server.start()
    eventually(lambda: ids(agent) == ['/mine'], wait=90)


def test_an_agent_whose_own_svid_expired_during_the_outage_lives_on(make):
    server = make(process.Server, agent_ttl='12s')
    server.add('/mine', '/host', [ME], x509_svid_ttl=3600)
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=server.roots())
    eventually(lambda: ids(agent) == ['/mine'])
    server.kill()
    import time
    time.sleep(14)
    assert agent.running() and ids(agent) == ['/mine']
    agent.kill()
    agent.spawn()
    eventually(lambda: ids(agent) == ['/mine'], what='workload SVIDs outlive the agent SVID')


def test_every_acknowledged_entry_outlives_kills_of_the_server(make):
    server = make(process.Server)
    acknowledged, chance = [], random.Random(7)
    for round_ in range(ROUNDS):
        stop = threading.Event()

        def load():
            number = 0
            while not stop.is_set():
                try:
                    acknowledged.append(server.add('/r%d/n%d' % (round_, number), '/host', ['unix:uid:1']).id)
                    number += 1
                except (grpc.RpcError, AssertionError, ValueError):
                    return
        worker = threading.Thread(target=load)
        worker.start()
        begun = len(acknowledged)
        eventually(lambda: len(acknowledged) > begun + chance.randint(0, 30))
        server.process.kill()
        stop.set()
        worker.join(30)
        server.kill()
        server.start()
        have = {e.id for e in server.entries.ListEntries(stubs.entry.ListEntriesRequest()).entries}
        assert not set(acknowledged) - have, 'lost after kill %d' % round_


def test_an_agent_killed_at_any_moment_comes_back_serving(pair):
    server, agent = pair
    chance = random.Random(11)
    import time
    for round_ in range(ROUNDS):
        server.add('/r%d' % round_, '/host', [ME], id='r%d' % round_, x509_svid_ttl=6)
        time.sleep(chance.random() * 1.5)
        agent.kill()
        agent.spawn()
        eventually(lambda: '/mine' in ids(agent), what='round %d' % round_)
    eventually(lambda: len(ids(agent)) == ROUNDS + 1, wait=60)
    assert len(server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents) == 1


def test_an_attestation_cut_before_its_answer_leaves_a_clear_state(make):
    server = make(process.Server)
    link = Link(server.port)
    node = Node(server)
    with h2grpc.Connection.tls(link.port, roots=server.roots()) as connection:
        call = connection.start('spire.api.server.agent.v1.Agent/AttestAgent')
        call.send(node.attest_request(server.token()))
        link.cut()
    link.close()
    Node.attest(server)  # others are not harmed


def test_both_roles_in_one_process(make, folder):
    server = process.Server(folder)
    server.spawn = None
    agent = process.Agent(server.port, folder, sync='1s')
    # the server alone first: for the token
    process.Role.spawn(server)
    eventually(server.check_ready)
    token = server.token('/host')
    server.add('/mine', '/host', [ME])
    server.stop()
    agent.keys['join_token'] = token
    both = folder / 'both.toml'
    process.write(both, server.config() + agent.config())
    import signal
    import subprocess
    with open(folder / 'both.log', 'wb') as log:
        running = subprocess.Popen([process.BINARY, 'run', '-role=server,agent', '-config', both], stdout=log, stderr=log)
    try:
        eventually(lambda: ids(agent) == ['/mine'], wait=60)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.wait()


def test_a_signal_at_any_moment_of_a_start_ends_an_agent_cleanly(make):
    """Handshakes and signatures are on worker threads then: what they use has to outlive them."""
    server = make(process.Server)
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=server.roots())
    for attempt in range(60):
        assert agent.stop() == 0, agent.logs()
        agent.spawn()
        starts = attempt + 2
        eventually(lambda: agent.logs().count('Serving the Workload API') == starts, what='a start')
        threading.Event().wait(attempt * 0.005)  # from before the first handshake until after it
        assert agent.running(), agent.logs()
    assert agent.stop() == 0, agent.logs()
    agent.start()


def test_a_crowd_of_idle_connections_leaves_files_for_everybody_else(server, make):
    """With 256 open files at most, as a container may have it, one user's connections must not keep the agent from its
    server, from /proc and from other connections."""
    agent = process.Agent(server.port, join_token=server.token('/few-files'), roots=server.roots())
    agent.prefix = ['prlimit', '--nofile=256:256']
    crowd = []
    try:
        agent.start()
        server.add('/few', '/few-files', [ME])

        def fetched():
            with agent.workload() as workload:
                return [s.spiffe_id for s in workload.fetch().svids]
        eventually(fetched, what='the first SVID')
        for _ in range(150):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(agent.socket)
            crowd.append(sock)
        assert fetched() == ['spiffe://example.org/few']
        server.add('/later', '/few-files', [ME])
        eventually(lambda: len(fetched()) == 2, what='a new entry among the crowd')
        assert len(os.listdir('/proc/%d/fd' % agent.process.pid)) < 220
    finally:
        for sock in crowd:
            sock.close()
        agent.close()
