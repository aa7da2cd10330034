# SPDX-License-Identifier: Apache-2.0
"""Who may call what: every method by every kind of caller. Allowed means: answered with anything but a denial."""
import pytest

from support import h2grpc, pki, stubs
from support.h2grpc import RpcError
from support.node import Node

LOCAL, ADMIN, AGENT, DOWNSTREAM, NOBODY = 'local', 'admin', 'agent', 'downstream', 'nobody'
ALL = {LOCAL, ADMIN, AGENT, DOWNSTREAM, NOBODY}
A = 'spire.api.server.'

TABLE = {
    'bundle.v1.Bundle/GetBundle': ALL,
    'agent.v1.Agent/AttestAgent': ALL,
    'svid.v1.SVID/BatchNewX509SVID': {AGENT},
    'svid.v1.SVID/NewJWTSVID': {AGENT},
    'svid.v1.SVID/BatchNewWITSVID': {AGENT},
    'entry.v1.Entry/GetAuthorizedEntries': {AGENT},
    'entry.v1.Entry/SyncAuthorizedEntries': {AGENT},
    'agent.v1.Agent/RenewAgent': {AGENT},
    'agent.v1.Agent/PostStatus': {AGENT},
    'bundle.v1.Bundle/GetFederatedBundle': {AGENT, ADMIN, LOCAL},
    'svid.v1.SVID/NewDownstreamX509CA': {DOWNSTREAM},
    'bundle.v1.Bundle/PublishJWTAuthority': {DOWNSTREAM},
    'bundle.v1.Bundle/PublishWITAuthority': {DOWNSTREAM},
    'debug.v1.Debug/GetInfo': {LOCAL},
    'logger.v1.Logger/GetLogger': {LOCAL},
    'logger.v1.Logger/SetLogLevel': {LOCAL},
    'logger.v1.Logger/ResetLogLevel': {LOCAL},
}
for service, methods in {
    'agent.v1.Agent': ['BanAgent', 'CountAgents', 'CreateJoinToken', 'DeleteAgent', 'GetAgent', 'ListAgents'],
    'bundle.v1.Bundle': ['AppendBundle', 'BatchCreateFederatedBundle', 'BatchDeleteFederatedBundle',
                         'BatchSetFederatedBundle', 'BatchUpdateFederatedBundle', 'CountBundles', 'ListFederatedBundles'],
    'entry.v1.Entry': ['BatchCreateEntry', 'BatchDeleteEntry', 'BatchUpdateEntry', 'CountEntries', 'GetEntry', 'ListEntries'],
    'svid.v1.SVID': ['MintJWTSVID', 'MintWITSVID', 'MintX509SVID'],
    'trustdomain.v1.TrustDomain': ['BatchCreateFederationRelationship', 'BatchDeleteFederationRelationship',
                                   'BatchUpdateFederationRelationship', 'GetFederationRelationship',
                                   'ListFederationRelationships', 'RefreshBundle'],
    'localauthority.v1.LocalAuthority': [v + w for v in ('Prepare', 'Activate', 'Taint', 'Revoke')
                                         for w in ('JWTAuthority', 'X509Authority', 'WITAuthority')]
    + ['GetJWTAuthorityState', 'GetX509AuthorityState', 'GetWITAuthorityState', 'TaintX509UpstreamAuthority',
       'RevokeX509UpstreamAuthority'],
}.items():
    for method in methods:
        TABLE[service + '/' + method] = {ADMIN, LOCAL}

ON_TCP_ONLY_DENIED = ('logger.v1.Logger', 'debug.v1.Debug')  # SPIRE does not register them on TCP at all


@pytest.fixture(scope='module')
def callers(server):
    """A connection for each kind of caller."""
    parent = '/spire/agent/join_token/none'
    connections = {LOCAL: server.connect(), NOBODY: server.tls()}
    for kind in (ADMIN, DOWNSTREAM):
        server.add('/caller/' + kind, parent, ['unix:uid:1'], **{kind: True})
        connections[kind] = server.tls(*minted(server, 'spiffe://example.org/caller/' + kind))
    connections[AGENT] = Node.attest(server).connect()
    yield connections
    for connection in connections.values():
        connection.close()


def minted(server, spiffe_id):
    key = pki.new_key()
    answer = server.svids.MintX509SVID(stubs.svid.MintX509SVIDRequest(csr=pki.csr(key, [spiffe_id])))
    return pki.pem_from_der(*answer.svid.cert_chain), pki.key_pem(key)


def outcome(connection, method):
    """OK or the error of an empty request; (None, None) when a stream just waits for more."""
    call = connection.start(A + method)
    call.send(b'', end=True)
    try:
        call.receive()
        return h2grpc.OK, ''
    except RpcError as error:
        return error.code, error.message


@pytest.mark.parametrize('method', sorted(TABLE))
def test_each_method_answers_its_callers_and_no_other(callers, method):
    service = method.split('/')[0]
    for kind, connection in callers.items():
        code, text = outcome(connection, method)
        denied = code == h2grpc.PERMISSION_DENIED and 'authorization denied for method /' + A + method in text
        if kind in TABLE[method]:
            assert not denied, (kind, code, text)
        elif kind != LOCAL and service in ON_TCP_ONLY_DENIED:
            assert denied or code == h2grpc.UNIMPLEMENTED, (kind, code, text)
        else:
            assert denied, (kind, code, text)


def test_the_denial_reads_as_spire_writes_it(callers):
    assert outcome(callers[NOBODY], 'entry.v1.Entry/CountEntries') == (
        h2grpc.PERMISSION_DENIED, 'authorization denied for method /spire.api.server.entry.v1.Entry/CountEntries')


def test_a_workload_svid_is_nobody(server):
    with server.tls(*minted(server, 'spiffe://example.org/just/a/workload')) as connection:
        assert outcome(connection, 'entry.v1.Entry/CountEntries')[0] == h2grpc.PERMISSION_DENIED
        assert outcome(connection, 'bundle.v1.Bundle/GetBundle')[0] == h2grpc.OK


def test_an_admin_entry_made_and_removed_counts_at_once(server):
    chain, key = minted(server, 'spiffe://example.org/later/admin')
    with server.tls(chain, key) as connection:
        assert outcome(connection, 'entry.v1.Entry/CountEntries')[0] == h2grpc.PERMISSION_DENIED
        made = server.add('/later/admin', '/anything', ['unix:uid:1'], admin=True)
        assert outcome(connection, 'entry.v1.Entry/CountEntries')[0] == h2grpc.OK
        server.remove(made.id)
        assert outcome(connection, 'entry.v1.Entry/CountEntries')[0] == h2grpc.PERMISSION_DENIED


def test_admin_ids_of_the_configuration_are_admins(make):
    from support import process
    mine = make(process.Server, admin_ids=['spiffe://example.org/boss'])
    with mine.tls(*minted(mine, 'spiffe://example.org/boss')) as connection:
        assert outcome(connection, 'entry.v1.Entry/CountEntries')[0] == h2grpc.OK
        assert outcome(connection, 'debug.v1.Debug/GetInfo')[0] in (h2grpc.PERMISSION_DENIED, h2grpc.UNIMPLEMENTED)


def test_services_of_later_versions_are_unimplemented_for_those_who_may_call(callers):
    for method in ('trustdomain.v1.TrustDomain/ListFederationRelationships',
                   'localauthority.v1.LocalAuthority/GetX509AuthorityState'):
        for kind in (LOCAL, ADMIN):
            assert outcome(callers[kind], method)[0] in (h2grpc.OK, h2grpc.UNIMPLEMENTED)
