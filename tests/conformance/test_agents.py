# SPDX-License-Identifier: Apache-2.0
"""The agent service: join tokens, the attestation stream, renewal, the agent check and its details, ban and evict."""
import re
import uuid

import grpc
import pytest

from support import h2grpc, pki, process, stubs
from support.h2grpc import RpcError
from support.node import PREFIX, Node

Reason = stubs.types.PermissionDeniedDetails
ATTEST = PREFIX + 'agent.v1.Agent/AttestAgent'


def rpc_error(call, *args):
    with pytest.raises(grpc.RpcError) as error:
        call(*args)
    return error.value.code(), error.value.details()


def attest_error(server, request):
    with server.tls() as link:
        call = link.start(ATTEST)
        call.send(request)
        with pytest.raises(RpcError) as error:
            call.receive(stubs.agent.AttestAgentResponse)
        return error.value


# ---- join tokens ----
def test_a_join_token_is_a_random_uuid_with_its_expiry(server):
    token = server.agents.CreateJoinToken(stubs.agent.CreateJoinTokenRequest(ttl=60))
    assert uuid.UUID(token.value).version == 4
    later = server.agents.CreateJoinToken(stubs.agent.CreateJoinTokenRequest(ttl=660))
    assert 595 <= later.expires_at - token.expires_at <= 660


@pytest.mark.parametrize('ttl', [0, -1])
def test_a_join_token_needs_a_ttl(server, ttl):
    assert rpc_error(server.agents.CreateJoinToken, stubs.agent.CreateJoinTokenRequest(ttl=ttl)) == (
        grpc.StatusCode.INVALID_ARGUMENT, 'ttl is required, you must provide one')


def test_a_join_token_may_be_chosen_and_exists_once(server):
    assert server.token(token='chosen-token') == 'chosen-token'
    code, _ = rpc_error(server.agents.CreateJoinToken, stubs.agent.CreateJoinTokenRequest(ttl=60, token='chosen-token'))
    assert code in (grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.INTERNAL)


def test_a_join_token_with_an_agent_id_makes_the_alias_entry(server):
    token = server.token('/alias/of/token')
    listed = server.entries.ListEntries(stubs.entry.ListEntriesRequest(
        filter=stubs.entry.ListEntriesRequest.Filter(by_spiffe_id=server.id('/alias/of/token')))).entries
    parent = '/spire/agent/join_token/' + token
    assert [e.parent_id.path for e in listed] == [parent]
    assert [(s.type, s.value) for s in listed[0].selectors] == [('spiffe_id', 'spiffe://example.org' + parent)]


def test_a_join_token_for_another_trust_domain_is_refused(server):
    request = stubs.agent.CreateJoinTokenRequest(ttl=60, agent_id=stubs.types.SPIFFEID(trust_domain='other.org', path='/x'))
    code, text = rpc_error(server.agents.CreateJoinToken, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert '"spiffe://other.org/x" is not a member of trust domain "example.org"' in text


# ---- attestation ----
def test_attestation_by_join_token_gives_an_agent_svid(server):
    token = server.token()
    node = Node.attest(server, token)
    assert node.id.path == '/spire/agent/join_token/' + token
    assert node.result.reattestable is False
    assert pki.uris_of(node.certificate) == ['spiffe://example.org/spire/agent/join_token/' + token]
    assert len(node.chain) == 1
    assert node.result.svid.expires_at > 0


def test_the_record_of_an_attested_agent(server):
    node = Node.attest(server)
    record = server.agents.GetAgent(stubs.agent.GetAgentRequest(id=node.id))
    assert record.attestation_type == 'join_token' and not record.banned and not record.can_reattest
    assert record.x509svid_serial_number == str(node.certificate.serial_number)
    assert record.x509svid_expires_at == node.result.svid.expires_at and not record.selectors


def test_attestation_ignores_what_else_the_csr_asks_for(server):
    node = Node(server)
    with server.tls() as link:
        call = link.start(ATTEST)
        request = node.attest_request(server.token())
        request.params.params.csr = pki.csr(node.key, ['spiffe://example.org/spire/server'], ['evil.example'],
                                            pki.name(CN='evil'))
        call.send(request)
        svid = call.receive(stubs.agent.AttestAgentResponse).result.svid
    node.chain = list(svid.cert_chain)
    assert pki.uris_of(node.certificate)[0].startswith('spiffe://example.org/spire/agent/join_token/')
    assert node.certificate.subject.rfc4514_string() in ('O=SPIRE,C=US', 'C=US,O=SPIRE')


def test_a_token_works_once(server):
    token = server.token()
    Node.attest(server, token)
    error = attest_error(server, Node(server).attest_request(token))
    assert (error.code, error.message) == (
        h2grpc.INVALID_ARGUMENT, 'failed to attest: join token does not exist or has already been used')


def test_an_unknown_token_is_refused(server):
    error = attest_error(server, Node(server).attest_request('no-such-token'))
    assert (error.code, error.message) == (
        h2grpc.INVALID_ARGUMENT, 'failed to attest: join token does not exist or has already been used')


def test_an_expired_token_is_refused(server):
    token = server.token(ttl=1)
    import time
    time.sleep(2.1)
    error = attest_error(server, Node(server).attest_request(token))
    assert (error.code, error.message) == (h2grpc.INVALID_ARGUMENT, 'join token expired')


def test_a_token_that_is_not_text_is_refused(server):
    assert attest_error(server, Node(server).attest_request(b'\xff\x00')).code == h2grpc.INVALID_ARGUMENT


@pytest.mark.parametrize('spoil', ['params', 'data', 'csr_params', 'csr', 'type', 'payload'])
def test_a_malformed_first_message_is_refused(server, spoil):
    request = Node(server).attest_request('x')
    if spoil == 'params':
        request = stubs.agent.AttestAgentRequest()
    elif spoil == 'data':
        request.params.ClearField('data')
    elif spoil == 'csr_params':
        request.params.ClearField('params')
    elif spoil == 'csr':
        request.params.params.csr = b''
    elif spoil == 'type':
        request.params.data.type = ''
    else:
        request.params.data.payload = b''
    error = attest_error(server, request)
    assert error.code == h2grpc.INVALID_ARGUMENT and error.message.startswith('malformed param: '), error


def test_a_challenge_response_first_is_malformed(server):
    error = attest_error(server, stubs.agent.AttestAgentRequest(challenge_response=b'x'))
    assert error.code == h2grpc.INVALID_ARGUMENT and error.message.startswith('malformed param: ')


def test_a_token_file_of_any_name_is_read(make, server, folder):
    path = folder / 'a "token"\tfile'
    process.write(path, server.token('/odd'))
    agent = make(process.Agent, server.port, roots=server.roots(), join_token_file=path)
    assert agent.healthy()


def test_an_unknown_attestor_fails_the_precondition(server):
    error = attest_error(server, Node(server).attest_request('x', 'no_such'))
    assert (error.code, error.message) == (
        h2grpc.FAILED_PRECONDITION, 'error getting node attestor: could not find node attestor type "no_such"')


def test_an_endless_attestor_name_is_refused_and_does_not_fill_the_log(server):
    node = Node(server)
    before = len(server.logs())
    for name in ('x' * 1_000_000, '\x01' * 1_000_000):
        with server.tls() as link:
            call = link.start(PREFIX + 'agent.v1.Agent/AttestAgent')
            call.send(node.attest_request('x', name))
            with pytest.raises(RpcError) as error:
                call.receive(stubs.agent.AttestAgentResponse)
        assert error.value.code == h2grpc.INVALID_ARGUMENT, error.value
        assert error.value.message == ("malformed param: attestation data type is longer than any node attestor's name")
    assert len(server.logs()) - before < 10_000


def test_a_csr_that_is_none_is_refused_and_the_server_lives(server):
    request = Node(server).attest_request(server.token())
    request.params.params.csr = b'not a csr'
    assert attest_error(server, request).code == h2grpc.INVALID_ARGUMENT
    Node.attest(server)


# ---- renewal ----
def test_renewal_gives_a_new_serial_and_the_old_svid_works_until_the_new_one_is_used(server):
    node = Node.attest(server)
    renewed = node.renew()
    assert renewed.certificate.serial_number != node.certificate.serial_number
    assert pki.uris_of(renewed.certificate) == pki.uris_of(node.certificate)
    node.authorized()                       # the old one still works
    record = server.agents.GetAgent(stubs.agent.GetAgentRequest(id=node.id))
    assert record.x509svid_serial_number == str(node.certificate.serial_number)
    renewed.authorized()                    # first use
    record = server.agents.GetAgent(stubs.agent.GetAgentRequest(id=node.id))
    assert record.x509svid_serial_number == str(renewed.certificate.serial_number)
    with pytest.raises(RpcError) as error:
        node.authorized()
    assert error.value.code == h2grpc.PERMISSION_DENIED and error.value.reason() == Reason.AGENT_NOT_ACTIVE


def test_a_second_renewal_before_use_replaces_the_first(server):
    node = Node.attest(server)
    first, second = node.renew(), node.renew()
    with pytest.raises(RpcError) as error:
        first.authorized()
    assert error.value.reason() == Reason.AGENT_NOT_ACTIVE
    second.authorized()


def test_renewal_needs_params_and_csr(server):
    node = Node.attest(server)
    for params, text in ((None, 'params cannot be nil'), (stubs.agent.AgentX509SVIDParams(), 'missing CSR')):
        with pytest.raises(RpcError) as error:
            node.call('agent.v1.Agent/RenewAgent', stubs.agent.RenewAgentRequest(params=params), stubs.agent.RenewAgentResponse)
        assert error.value.code == h2grpc.INVALID_ARGUMENT, text


def test_renewal_with_a_broken_csr_is_refused(server):
    node = Node.attest(server)
    with pytest.raises(RpcError) as error:
        node.call('agent.v1.Agent/RenewAgent', stubs.agent.RenewAgentRequest(
            params=stubs.agent.AgentX509SVIDParams(csr=b'broken')), stubs.agent.RenewAgentResponse)
    assert error.value.code in (h2grpc.INVALID_ARGUMENT, h2grpc.INTERNAL)
    node.authorized()


def test_post_status_keeps_the_version_shown(server):
    node = Node.attest(server)
    node.call('agent.v1.Agent/PostStatus', stubs.agent.PostStatusRequest(current_bundle_serial=7, agent_version='9.8.7'),
              stubs.agent.PostStatusResponse)
    assert server.agents.GetAgent(stubs.agent.GetAgentRequest(id=node.id)).agent_version == '9.8.7'


def test_post_status_refuses_a_version_of_more_than_255_bytes(server):
    node = Node.attest(server)
    with pytest.raises(RpcError) as error:
        node.call('agent.v1.Agent/PostStatus', stubs.agent.PostStatusRequest(agent_version='v' * 256),
                  stubs.agent.PostStatusResponse)
    assert error.value.code == h2grpc.INVALID_ARGUMENT


# ---- the agent check ----
def denied(node, reason):
    with pytest.raises(RpcError) as error:
        node.authorized()
    assert error.value.code == h2grpc.PERMISSION_DENIED
    assert error.value.message == \
        'authorization denied for method /spire.api.server.entry.v1.Entry/GetAuthorizedEntries'
    assert error.value.reason() == reason


def test_a_caller_without_a_certificate_is_denied_without_details(server):
    with server.tls() as link:
        with pytest.raises(RpcError) as error:
            link.unary(PREFIX + 'entry.v1.Entry/GetAuthorizedEntries', b'', stubs.entry.GetAuthorizedEntriesResponse)
    assert error.value.code == h2grpc.PERMISSION_DENIED and error.value.reason() is None


def test_an_evicted_agent_is_told_it_is_not_attested(server):
    node = Node.attest(server)
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=node.id))
    denied(node, Reason.AGENT_NOT_ATTESTED)


def test_a_banned_agent_is_told_so_and_shown_so(server):
    node = Node.attest(server)
    server.agents.BanAgent(stubs.agent.BanAgentRequest(id=node.id))
    denied(node, Reason.AGENT_BANNED)
    record = server.agents.GetAgent(stubs.agent.GetAgentRequest(id=node.id))
    assert record.banned and record.x509svid_serial_number == ''


def test_a_ban_holds_for_a_renewed_svid_too(server):
    node = Node.attest(server)
    renewed = node.renew()
    server.agents.BanAgent(stubs.agent.BanAgentRequest(id=node.id))
    denied(renewed, Reason.AGENT_BANNED)


def test_an_expired_agent_svid_is_told_so_or_refused_in_the_handshake(make):
    import ssl
    mine = make(process.Server, agent_ttl='10s')
    node = Node.attest(mine)
    link = node.connect()
    import time
    time.sleep(11.5)
    # the connection made in time still carries calls: the check of the call says expired
    with pytest.raises(RpcError) as error:
        link.unary(PREFIX + 'entry.v1.Entry/GetAuthorizedEntries', b'', stubs.entry.GetAuthorizedEntriesResponse)
    assert error.value.reason() == Reason.AGENT_EXPIRED
    with pytest.raises((ssl.SSLError, h2grpc.ConnectionGone)):
        node.authorized()


def test_an_agent_of_the_workloads_own_making_is_not_attested(server):
    key = pki.new_key()
    answer = server.svids.MintX509SVID(stubs.svid.MintX509SVIDRequest(
        csr=pki.csr(key, ['spiffe://example.org/not/an/agent'])))
    node = Node(server, key, list(answer.svid.cert_chain))
    denied(node, Reason.AGENT_NOT_ATTESTED)


# ---- administration ----
@pytest.mark.parametrize('call,request_type', [('GetAgent', 'GetAgentRequest'), ('DeleteAgent', 'DeleteAgentRequest'),
                                               ('BanAgent', 'BanAgentRequest')])
def test_an_unknown_agent_is_not_found(server, call, request_type):
    request = getattr(stubs.agent, request_type)(id=server.id('/spire/agent/none'))
    assert rpc_error(getattr(server.agents, call), request) == (grpc.StatusCode.NOT_FOUND, 'agent not found')


@pytest.mark.parametrize('call,request_type', [('GetAgent', 'GetAgentRequest'), ('DeleteAgent', 'DeleteAgentRequest'),
                                               ('BanAgent', 'BanAgentRequest')])
def test_a_missing_or_malformed_agent_id_is_invalid(server, call, request_type):
    for bad in (None, stubs.types.SPIFFEID(trust_domain='example.org'), stubs.types.SPIFFEID(trust_domain='other.org', path='/a'),
                stubs.types.SPIFFEID(trust_domain='EXAMPLE.ORG', path='/a'),
                stubs.types.SPIFFEID(trust_domain='example.org', path='no-slash')):
        code, _ = rpc_error(getattr(server.agents, call), getattr(stubs.agent, request_type)(id=bad))
        assert code == grpc.StatusCode.INVALID_ARGUMENT, bad


def test_evicting_a_join_token_agent_removes_its_alias_entry(server):
    token = server.token('/alias/evicted')
    node = Node.attest(server, token)
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=node.id))
    listed = server.entries.ListEntries(stubs.entry.ListEntriesRequest(
        filter=stubs.entry.ListEntriesRequest.Filter(by_spiffe_id=server.id('/alias/evicted')))).entries
    assert not listed


def test_agents_are_listed_counted_filtered_masked_and_paged(make):
    mine = make(process.Server)
    nodes = [Node.attest(mine) for _ in range(5)]
    mine.agents.BanAgent(stubs.agent.BanAgentRequest(id=nodes[4].id))
    Filter, Count = stubs.agent.ListAgentsRequest.Filter, stubs.agent.CountAgentsRequest

    def listed(**more):
        return mine.agents.ListAgents(stubs.agent.ListAgentsRequest(filter=Filter(**more))).agents

    assert len(listed()) == 5
    assert mine.agents.CountAgents(Count()).count == 5
    assert len(listed(by_attestation_type='join_token')) == 5 and not listed(by_attestation_type='x509pop')
    assert [a.id.path for a in listed(by_banned=stubs.BoolValue(value=True))] == [nodes[4].id.path]
    assert len(listed(by_banned=stubs.BoolValue(value=False))) == 4
    assert not listed(by_can_reattest=stubs.BoolValue(value=True))
    assert len(listed(by_expires_before='2999-01-01 00:00:00 +0000 +00')) == 5
    assert not listed(by_expires_before='2001-01-01 00:00:00 +0000 +00')
    assert len(listed(by_expires_before='nonsense')) == 5  # SPIRE ignores what it cannot parse
    assert mine.agents.CountAgents(Count(filter=Count.Filter(by_banned=stubs.BoolValue(value=True)))).count == 1

    masked = mine.agents.ListAgents(stubs.agent.ListAgentsRequest(
        output_mask=stubs.types.AgentMask(attestation_type=True))).agents
    assert all(a.id.path and a.attestation_type and not a.x509svid_serial_number for a in masked)

    seen, token, pages = [], '', 0
    while True:
        page = mine.agents.ListAgents(stubs.agent.ListAgentsRequest(page_size=2, page_token=token))
        pages += 1
        seen += [a.id.path for a in page.agents]
        token = page.next_page_token
        if not token:
            assert not page.agents or len(page.agents) < 2
            break
        assert re.fullmatch(r'\d+', token) and len(page.agents) <= 2
    assert sorted(seen) == sorted(n.id.path for n in nodes) and pages >= 3


def test_a_malformed_page_token_is_internal(server):
    Node.attest(server)
    code, text = rpc_error(server.agents.ListAgents, stubs.agent.ListAgentsRequest(page_size=1, page_token='x'))
    assert code == grpc.StatusCode.INTERNAL and text.startswith('failed to list agents: could not parse token'), text
