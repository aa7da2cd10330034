# SPDX-License-Identifier: Apache-2.0
"""The reasons of a denial (wire notes 2.4, 3) and what our agent makes of them: it attests again by itself for four of
them and waits for an operator at the fifth. It serves what is valid all the while."""
import os
import signal
import time

import pytest
from test_node_attestors import Pki, attest, payload, prove

from support import process, stubs
from support.fake_server import Failure, FakeServer
from support.process import eventually

ME = 'unix:uid:%d' % os.geteuid()
PARENT = '/spire/agent/join_token/the-token'
Reason = stubs.types.PermissionDeniedDetails


def ids(agent):
    with agent.workload() as workload:
        return [s.spiffe_id.replace('spiffe://example.org', '') for s in workload.fetch(wait=10).svids]


class Pair:
    """A server, our agent attested by a device certificate, and that certificate to play its twin by hand."""

    def __init__(self, make, folder, **keys):
        self.factory = Pki(folder)
        self.key, self.certificate = self.factory.device()
        self.server = make(process.Server, plugins=self.factory.server_plugin(), **keys)
        self.agent = make(process.Agent, self.server.port, roots=self.server.roots(),
                          attestor=self.factory.agent_plugin(self.key, self.certificate))
        self.id = eventually(lambda: self.server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents)[0].id
        self.add('/mine')
        eventually(lambda: ids(self.agent) == ['/mine'])

    def add(self, path):
        return self.server.add(path, self.id.path, [ME])

    def serial(self):
        agents = self.server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents
        return agents[0].x509svid_serial_number if agents else None

    def attested_anew(self, before):
        eventually(lambda: self.serial() not in (None, '', before), wait=60, what='another attestation')
        self.add('/new')
        eventually(lambda: sorted(ids(self.agent)) == ['/mine', '/new'], wait=60)


@pytest.fixture
def pair(make, folder):
    return Pair(make, folder)


def test_an_evicted_agent_attests_again_and_goes_on(pair):
    before = pair.serial()
    pair.server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=pair.id))
    assert ids(pair.agent) == ['/mine']
    pair.attested_anew(before)


def test_an_agent_whose_twin_has_attested_attests_again_and_goes_on(pair):
    twin, _ = attest(pair.server, payload(pair.certificate, pair.factory.middle), lambda c: prove(pair.key, c))
    assert twin.id == pair.id
    assert ids(pair.agent) == ['/mine']
    pair.attested_anew(str(twin.certificate.serial_number))


def test_an_agent_that_slept_until_its_svid_had_expired_attests_again_and_goes_on(make, folder):
    pair = Pair(make, folder, agent_ttl='10s')
    pair.agent.process.send_signal(signal.SIGSTOP)
    before = pair.serial()
    time.sleep(11)
    pair.agent.process.send_signal(signal.SIGCONT)
    assert ids(pair.agent) == ['/mine']
    pair.attested_anew(before)


def test_a_banned_agent_lives_serves_what_is_valid_and_returns_when_an_operator_evicts_it(pair):
    pair.server.agents.BanAgent(stubs.agent.BanAgentRequest(id=pair.id))
    eventually(lambda: pair.agent.has_logged('The server has banned this agent'), what='a word about the ban')
    pair.add('/late')
    time.sleep(3)
    assert pair.agent.running() and ids(pair.agent) == ['/mine']
    assert pair.serial() == '', 'it has not got round the ban'
    assert pair.server.cli('agent', 'evict', '-spiffeID', 'spiffe://example.org' + pair.id.path).returncode == 0
    eventually(lambda: pair.serial(), wait=60, what='attestation after the ban')
    eventually(lambda: sorted(ids(pair.agent)) == ['/late', '/mine'], wait=60)


# ---- each call of an agent that may be denied, by a server played by hand ----
@pytest.fixture
def fake():
    server = FakeServer()
    server.add('/mine', PARENT, [ME], id='m-mine')
    yield server
    server.close()


METHODS = ['SyncAuthorizedEntries', 'RenewAgent', 'BatchNewX509SVID']


def denying(reason):
    def deny(peer):
        raise Failure(7, 'authorization denied', reason)
    return deny


@pytest.mark.parametrize('reason', ['AGENT_EXPIRED', 'AGENT_NOT_ATTESTED', 'AGENT_NOT_ACTIVE', 'AGENT_MUST_REATTEST'])
@pytest.mark.parametrize('method', METHODS)
def test_whichever_call_is_denied_the_agent_attests_again(fake, make, method, reason):
    fake.agent_ttl = 8 if method == 'RenewAgent' else 3600
    fake.svid_ttl = 8
    agent = make(process.Agent, fake.port, join_token='the-token', roots=fake.authority.pem())
    eventually(lambda: ids(agent) == ['/mine'])
    fake.tokens.add('the-token')
    deny = denying(getattr(Reason, reason))

    def first(peer):  # whom a server denies one call it denies the next ones, too
        fake.rules.update(dict.fromkeys(METHODS, deny))
        return deny(peer)
    fake.rules[method] = first
    eventually(lambda: fake.count('AttestAgent') >= 2, wait=60, what='attesting again')
    fake.rules.clear()
    fake.add('/new', PARENT, [ME], id='a-new')
    eventually(lambda: ids(agent) == ['/new', '/mine'], wait=60)


@pytest.mark.parametrize('reason', [None, 0, 99])
def test_a_denial_without_a_known_reason_changes_nothing(fake, make, reason):
    agent = make(process.Agent, fake.port, join_token='the-token', roots=fake.authority.pem())
    eventually(lambda: ids(agent) == ['/mine'])
    fake.rules['SyncAuthorizedEntries'] = denying(reason)
    before = fake.count('SyncAuthorizedEntries')
    eventually(lambda: fake.count('SyncAuthorizedEntries') > before + 2, wait=60)
    assert fake.count('AttestAgent') == 1 and ids(agent) == ['/mine']
