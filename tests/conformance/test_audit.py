# SPDX-License-Identifier: Apache-2.0
"""audit_log_enabled: one record for each call, with SPIRE's message and field names."""
import hashlib
import json
import os
import uuid

import pytest

from support import node, pki, process, stubs


@pytest.fixture(scope='module')
def server():
    role = process.Server(audit_log_enabled=True, log_format='json')
    try:
        yield role.start()
    finally:
        role.close()


def records(server):
    """Every audit record so far, oldest first."""
    lines = [json.loads(line) for line in server.logs().splitlines() if line.startswith('{')]
    return [line for line in lines if line.get('type') == 'audit']


def last(server, method, count=1):
    """The newest records of a method, once there are `count` of them."""
    found = process.eventually(lambda: [r for r in records(server) if r['method'] == method][-count:], what=method)
    assert len(found) == count, found
    return found if count > 1 else found[0]


def test_a_local_call_tells_method_and_caller(server):
    server.agents.CountAgents(stubs.agent.CountAgentsRequest())
    record = last(server, 'CountAgents')
    assert record['msg'] == 'API accessed' and record['level'] == 'info'
    assert record['service'] == 'agent.v1.Agent'
    assert record['status'] == 'success' and 'status_code' not in record
    assert record['authorized_as'] == 'local' and record['authorized_via'] == 'transport'
    assert record['caller_uid'] == str(os.geteuid()) and record['caller_gid'] == str(os.getegid())
    assert record['caller_path'] == os.readlink('/proc/self/exe')
    assert 'caller_addr' not in record and 'caller_id' not in record
    assert uuid.UUID(record['request_id']).version == 4


def test_requests_have_ids_of_their_own(server):
    for _ in range(2):
        server.entries.CountEntries(stubs.entry.CountEntriesRequest())
    first, second = last(server, 'CountEntries', 2)
    assert first['request_id'] != second['request_id']


def test_a_failed_call_tells_code_and_message(server):
    with pytest.raises(process.grpc.RpcError):
        server.entries.GetEntry(stubs.entry.GetEntryRequest(id='nowhere'))
    record = last(server, 'GetEntry')
    assert (record['status'], record['status_code']) == ('error', 'NotFound')
    assert record['status_message'] == 'entry not found'
    assert record['entry_id'] == 'nowhere'


def test_a_batch_has_a_record_for_each_item(server):
    good = server.entry('/audited', '/host', ['unix:uid:1', 'unix:gid:2'], x509_svid_ttl=77, dns_names=['a.test', 'b.test'],
                        hint='h')
    bad = server.entry('/audited', '/host', [])
    answer = server.entries.BatchCreateEntry(stubs.entry.BatchCreateEntryRequest(entries=[good, bad]))
    created, refused = last(server, 'BatchCreateEntry', 2)
    assert created['request_id'] == refused['request_id']
    assert created['status'] == 'success'
    assert created['entry_id'] == answer.results[0].entry.id
    assert created['spiffe_id'] == 'spiffe://example.org/audited'
    assert created['parent_id'] == 'spiffe://example.org/host'
    assert sorted(created['selectors'].split(',')) == ['unix:gid:2', 'unix:uid:1']
    assert created['x509_svid_ttl'] == '77' and created['jwt_svid_ttl'] == '0'
    assert created['admin'] == 'false' and created['downstream'] == 'false'
    assert created['dns_name'] == 'a.test,b.test' and created['hint'] == 'h'
    assert (refused['status'], refused['status_code']) == ('error', 'InvalidArgument')
    assert refused['status_message'] == answer.results[1].status.message
    server.entries.BatchDeleteEntry(stubs.entry.BatchDeleteEntryRequest(ids=[answer.results[0].entry.id, 'none']))
    gone, unknown = last(server, 'BatchDeleteEntry', 2)
    assert gone['entry_id'] == answer.results[0].entry.id and gone['status'] == 'success'
    assert unknown['entry_id'] == 'none' and unknown['status_code'] == 'NotFound'


def test_an_attestation_tells_type_and_agent_and_never_the_token(server):
    token = server.token('/alias', ttl=600)
    assert last(server, 'CreateJoinToken')['ttl'] == '600'
    assert last(server, 'CreateJoinToken')['spiffe_id'] == 'spiffe://example.org/alias'
    agent = node.Node.attest(server, token)
    record = last(server, 'AttestAgent')
    assert record['service'] == 'agent.v1.Agent' and record['status'] == 'success'
    assert record['node_attestor_type'] == 'join_token'
    assert record['agent_id'] == 'spiffe://example.org' + agent.id.path
    assert record['authorized_as'] == 'nobody'
    assert record['caller_addr'].startswith('127.0.0.1:') and 'caller_id' not in record
    # of a join token the agent's ID is made; otherwise it stands nowhere
    assert all(token not in value for name, value in record.items() if name != 'agent_id')


def test_an_agent_is_told_by_its_address_and_id(server):
    agent = node.Node.attest(server, server.token('/host'))
    entry = server.add('/signed', '/host', ['unix:uid:5'])
    csr = pki.csr(pki.new_key())
    agent.sign((entry.id, csr), ('none', csr))
    good, bad = last(server, 'BatchNewX509SVID', 2)
    agent_id = 'spiffe://example.org' + agent.id.path
    assert good['caller_id'] == agent_id and good['caller_addr'].startswith('127.0.0.1:')
    assert 'caller_uid' not in good and 'caller_path' not in good
    assert (good['authorized_as'], good['authorized_via']) == ('agent', 'datastore')
    assert good['entry_id'] == entry.id and good['spiffe_id'] == 'spiffe://example.org/signed'
    assert good['csr'] == hashlib.sha256(csr).hexdigest() and int(good['expires_at']) > 0
    assert bad['status_code'] == 'NotFound' and bad['entry_id'] == 'none'


def test_a_refused_call_is_told_too(server):
    agent = node.Node.attest(server, server.token())
    with pytest.raises(Exception):
        agent.call('entry.v1.Entry/ListEntries', stubs.entry.ListEntriesRequest(), stubs.entry.ListEntriesResponse)
    record = last(server, 'ListEntries')
    assert (record['status'], record['status_code']) == ('error', 'PermissionDenied')
    assert record['caller_id'].startswith('spiffe://example.org/spire/agent/join_token/')
    assert 'authorized_as' not in record


def test_a_minted_token_is_not_in_the_log(server):
    answer = server.svids.MintJWTSVID(stubs.svid.MintJWTSVIDRequest(id=server.id('/w'), audience=['a', 'b'], ttl=60))
    record = last(server, 'MintJWTSVID')
    assert (record['spiffe_id'], record['audience'], record['ttl']) == ('spiffe://example.org/w', 'a,b', '60')
    assert answer.svid.token not in server.logs()


def test_without_the_key_nothing_is_told(make):
    quiet = make(process.Server)
    quiet.agents.CountAgents(stubs.agent.CountAgentsRequest())
    assert not quiet.has_logged('API accessed') and not quiet.has_logged('type=audit')
