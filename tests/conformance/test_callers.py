# SPDX-License-Identifier: Apache-2.0
"""Who may call what (wire notes 2): every method by every kind of caller, one test for each pair. A caller that may is
answered as an empty request deserves; one that may not gets SPIRE's code, text and reason, byte for byte."""
import time

import pytest

from support import h2grpc, pki, process, stubs
from support.h2grpc import RpcError
from support.node import Node

A = 'spire.api.server.'
Reason = stubs.types.PermissionDeniedDetails

# ---- the classes of methods, each with what an empty request is answered ----
OK, INVALID, UNIMPLEMENTED = h2grpc.OK, h2grpc.INVALID_ARGUMENT, h2grpc.UNIMPLEMENTED
PRECONDITION, DENIED = h2grpc.FAILED_PRECONDITION, h2grpc.PERMISSION_DENIED

ANY = {'bundle.v1.Bundle/GetBundle': OK, 'agent.v1.Agent/AttestAgent': INVALID}
AGENT = {
    'svid.v1.SVID/BatchNewX509SVID': INVALID, 'svid.v1.SVID/NewJWTSVID': INVALID,
    'svid.v1.SVID/BatchNewWITSVID': UNIMPLEMENTED, 'entry.v1.Entry/GetAuthorizedEntries': OK,
    'entry.v1.Entry/SyncAuthorizedEntries': OK, 'agent.v1.Agent/RenewAgent': INVALID, 'agent.v1.Agent/PostStatus': OK}
AGENT_OR_ADMIN = {'bundle.v1.Bundle/GetFederatedBundle': INVALID}
DOWNSTREAM = {'svid.v1.SVID/NewDownstreamX509CA': INVALID, 'bundle.v1.Bundle/PublishJWTAuthority': INVALID,
              'bundle.v1.Bundle/PublishWITAuthority': UNIMPLEMENTED}
LOCAL = {'debug.v1.Debug/GetInfo': OK, 'logger.v1.Logger/GetLogger': OK, 'logger.v1.Logger/SetLogLevel': INVALID,
         'logger.v1.Logger/ResetLogLevel': OK, '/grpc.health.v1.Health/Check': OK, '/grpc.health.v1.Health/List': OK,
         '/grpc.health.v1.Health/Watch': OK}
ADMIN = {'trustdomain.v1.TrustDomain/' + m: c for m, c in (
    ('BatchCreateFederationRelationship', OK), ('BatchDeleteFederationRelationship', OK),
    ('BatchUpdateFederationRelationship', OK), ('GetFederationRelationship', INVALID),
    ('ListFederationRelationships', OK), ('RefreshBundle', INVALID))}
ADMIN.update({'agent.v1.Agent/' + m: c for m, c in (
    ('BanAgent', INVALID), ('CountAgents', OK), ('CreateJoinToken', INVALID), ('DeleteAgent', INVALID),
    ('GetAgent', INVALID), ('ListAgents', OK))})
ADMIN.update({'bundle.v1.Bundle/' + m: c for m, c in (
    ('AppendBundle', INVALID), ('BatchCreateFederatedBundle', OK), ('BatchDeleteFederatedBundle', OK),
    ('BatchSetFederatedBundle', OK), ('BatchUpdateFederatedBundle', OK), ('CountBundles', OK),
    ('ListFederatedBundles', OK))})
ADMIN.update({'entry.v1.Entry/' + m: c for m, c in (
    ('BatchCreateEntry', OK), ('BatchDeleteEntry', OK), ('BatchUpdateEntry', OK), ('CountEntries', OK),
    ('GetEntry', INVALID), ('ListEntries', OK))})
ADMIN.update({'svid.v1.SVID/MintJWTSVID': INVALID, 'svid.v1.SVID/MintX509SVID': INVALID,
              'svid.v1.SVID/MintWITSVID': UNIMPLEMENTED})
ADMIN.update({'localauthority.v1.LocalAuthority/' + m: c for m, c in (
    ('GetJWTAuthorityState', OK), ('PrepareJWTAuthority', OK), ('ActivateJWTAuthority', INVALID),
    ('TaintJWTAuthority', INVALID), ('RevokeJWTAuthority', INVALID), ('GetX509AuthorityState', OK),
    ('PrepareX509Authority', OK), ('ActivateX509Authority', INVALID), ('TaintX509Authority', INVALID),
    ('RevokeX509Authority', INVALID), ('TaintX509UpstreamAuthority', PRECONDITION),
    ('RevokeX509UpstreamAuthority', PRECONDITION), ('GetWITAuthorityState', UNIMPLEMENTED),
    ('PrepareWITAuthority', UNIMPLEMENTED), ('ActivateWITAuthority', UNIMPLEMENTED),
    ('TaintWITAuthority', UNIMPLEMENTED), ('RevokeWITAuthority', UNIMPLEMENTED))})

ANSWERS = {**ANY, **AGENT, **AGENT_OR_ADMIN, **DOWNSTREAM, **LOCAL, **ADMIN}
ADMINS = {**ANY, **AGENT_OR_ADMIN, **ADMIN}

# ---- the kinds of callers: what they may call, and why the agent check refuses them (None: it is not asked) ----
KINDS = {
    'unauthenticated': (ANY, None),
    'workload': (ANY, Reason.AGENT_NOT_ATTESTED),
    'agent': ({**ANY, **AGENT, **AGENT_OR_ADMIN}, None),
    'agent-expired': (ANY, Reason.AGENT_EXPIRED),
    'agent-unknown': (ANY, Reason.AGENT_NOT_ATTESTED),
    'agent-outdated': (ANY, Reason.AGENT_NOT_ACTIVE),
    'agent-banned': (ANY, Reason.AGENT_BANNED),
    'downstream': ({**ANY, **DOWNSTREAM}, Reason.AGENT_NOT_ATTESTED),
    'admin-by-entry': (ADMINS, Reason.AGENT_NOT_ATTESTED),
    'admin-by-admin-ids': (ADMINS, Reason.AGENT_NOT_ATTESTED),
    'admin-of-another-trust-domain': (ADMINS, Reason.AGENT_NOT_ATTESTED),
    'admin-and-downstream': ({**ADMINS, **DOWNSTREAM}, Reason.AGENT_NOT_ATTESTED),
    'admin-and-banned-agent': (ADMINS, Reason.AGENT_BANNED),
    'local': ({**ANY, **AGENT_OR_ADMIN, **ADMIN, **LOCAL}, None)}

BOSS, FOREIGN, TOKEN = 'spiffe://example.org/boss', 'spiffe://other.org/boss', 'boss-token'
CONFIG = {'admin_ids': [BOSS, FOREIGN, 'spiffe://example.org/spire/agent/join_token/' + TOKEN],
          'experimental': {'max_connection_age': '1h'}}


def full(method):
    return method[1:] if method.startswith('/') else A + method


def minted(server, spiffe_id, **more):
    key = pki.new_key()
    answer = server.svids.MintX509SVID(stubs.svid.MintX509SVIDRequest(csr=pki.csr(key, [spiffe_id]), **more))
    return pki.pem_from_der(*answer.svid.cert_chain), pki.key_pem(key)


def outcome(connection, method):
    """(code, text, reason) of an empty request."""
    call = connection.start(full(method))
    call.send(b'', end=True)
    try:
        call.receive()
    except RpcError as error:
        return error.code, error.message, error.reason()
    call.cancel()
    return OK, '', None


def denial(method, reason=None):
    return DENIED, 'authorization denied for method /' + full(method), reason


@pytest.fixture(scope='module')
def server():
    role = process.Server(**CONFIG)
    try:
        yield role.start()
    finally:
        role.close()


def expired_agent():
    """A server of its own, and a connection made while the agent's SVID was valid."""
    mine = process.Server(agent_ttl='10s', **CONFIG).start()
    connection = Node.attest(mine).connect()
    time.sleep(11.5)
    return mine, connection


@pytest.fixture(scope='module')
def callers(server):
    """A connection for each kind of caller."""
    links = {'local': server.connect(), 'unauthenticated': server.tls(),
             'workload': server.tls(*minted(server, 'spiffe://example.org/caller/workload')),
             'admin-by-admin-ids': server.tls(*minted(server, BOSS))}
    for kind, flags in (('admin-by-entry', {'admin': True}), ('downstream', {'downstream': True}),
                        ('admin-and-downstream', {'admin': True, 'downstream': True})):
        server.add('/caller/' + kind, '/nowhere', ['unix:uid:1'], **flags)
        links[kind] = server.tls(*minted(server, 'spiffe://example.org/caller/' + kind))
    nodes = {kind: Node.attest(server) for kind in ('agent', 'agent-unknown', 'agent-outdated', 'agent-banned')}
    nodes['admin-and-banned-agent'] = Node.attest(server, server.token(token=TOKEN))
    for kind, node in nodes.items():
        links[kind] = node.connect()
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=nodes['agent-unknown'].id))
    for kind in ('agent-banned', 'admin-and-banned-agent'):
        server.agents.BanAgent(stubs.agent.BanAgentRequest(id=nodes[kind].id))
    nodes['agent-outdated'].renew().authorized()
    other = pki.Authority('other.org')
    server.bundles.BatchSetFederatedBundle(stubs.bundle.BatchSetFederatedBundleRequest(bundle=[stubs.types.Bundle(
        trust_domain='other.org', x509_authorities=[stubs.types.X509Certificate(asn1=pki.der_of(other.certificate))])]))
    links['admin-of-another-trust-domain'] = server.tls(*other.leaf([FOREIGN]))
    second, links['agent-expired'] = expired_agent()
    yield links
    for link in links.values():
        link.close()
    second.close()


def expected(kind, method):
    may_call, reason = KINDS[kind]
    if method in may_call:
        return None
    if method in LOCAL:  # SPIRE does not register these services on TCP at all
        return UNIMPLEMENTED, 'unknown service ' + full(method).split('/')[0], None
    return denial(method, reason if method in AGENT or method in AGENT_OR_ADMIN else None)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('method', sorted(ANSWERS))
def test_each_method_answers_its_callers_and_no_other(callers, kind, method):
    refusal = expected(kind, method)
    said = outcome(callers[kind], method)
    if refusal is not None:
        assert said == refusal
    else:
        assert said[0] == ANSWERS[method] and said[2] is None, said


def test_the_table_has_every_method_of_every_service():
    files = (stubs.agent, stubs.bundle, stubs.debug, stubs.entry, stubs.localauthority, stubs.logger, stubs.svid,
             stubs.trustdomain, stubs.health)
    known = {'/%s/%s' % (service.full_name, method.name) for file in files
             for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods}
    assert known == {'/' + full(method) for method in ANSWERS}


def test_unknown_methods_and_services_are_unimplemented_for_all(callers):
    for kind in ('unauthenticated', 'agent', 'local'):
        assert outcome(callers[kind], 'entry.v1.Entry/None') == (
            UNIMPLEMENTED, 'unknown method None for service spire.api.server.entry.v1.Entry', None)
        assert outcome(callers[kind], 'none.v1.None/None') == (
            UNIMPLEMENTED, 'unknown service spire.api.server.none.v1.None', None)


def test_a_foreign_id_outside_admin_ids_ends_in_the_handshake(server, callers):
    other = pki.Authority('third.org')
    server.bundles.BatchSetFederatedBundle(stubs.bundle.BatchSetFederatedBundleRequest(bundle=[stubs.types.Bundle(
        trust_domain='third.org', x509_authorities=[stubs.types.X509Certificate(asn1=pki.der_of(other.certificate))])]))
    with pytest.raises((OSError, h2grpc.ConnectionGone)):  # an ssl.SSLError is an OSError
        with server.tls(*other.leaf(['spiffe://third.org/x'])) as connection:
            outcome(connection, 'bundle.v1.Bundle/GetBundle')


def test_a_foreign_admin_is_none_once_its_bundle_is_gone(make):
    mine = make(process.Server, **CONFIG)
    other = pki.Authority('other.org')
    with pytest.raises((OSError, h2grpc.ConnectionGone)):
        with mine.tls(*other.leaf([FOREIGN])) as connection:
            outcome(connection, 'bundle.v1.Bundle/GetBundle')


@pytest.mark.parametrize('flag, method', [('admin', 'entry.v1.Entry/CountEntries'),
                                          ('downstream', 'bundle.v1.Bundle/PublishJWTAuthority')])
def test_an_entry_made_and_removed_counts_at_once(server, flag, method):
    with server.tls(*minted(server, 'spiffe://example.org/later/' + flag)) as connection:
        assert outcome(connection, method) == denial(method)
        made = server.add('/later/' + flag, '/anything', ['unix:uid:1'], **{flag: True})
        assert outcome(connection, method)[0] == ANSWERS[method]
        server.remove(made.id)
        assert outcome(connection, method) == denial(method)


def test_any_of_several_entries_makes_an_admin(server):
    server.add('/several', '/one', ['unix:uid:1'])
    server.add('/several', '/two', ['unix:uid:2'], admin=True)
    with server.tls(*minted(server, 'spiffe://example.org/several')) as connection:
        assert outcome(connection, 'entry.v1.Entry/CountEntries')[0] == OK


def test_a_ban_counts_for_connections_that_are_open(server):
    node = Node.attest(server)
    with node.connect() as connection:
        assert outcome(connection, 'entry.v1.Entry/GetAuthorizedEntries')[0] == OK
        server.agents.BanAgent(stubs.agent.BanAgentRequest(id=node.id))
        method = 'entry.v1.Entry/GetAuthorizedEntries'
        assert outcome(connection, method) == denial(method, Reason.AGENT_BANNED)


def test_renewing_where_attesting_again_is_possible_is_denied_with_its_reason(make, folder):
    from test_node_attestors import Pki, attest, payload, prove
    factory = Pki(folder)
    mine = make(process.Server, plugins=factory.server_plugin())
    key, certificate = factory.device()
    node, _ = attest(mine, payload(certificate, factory.middle), lambda c: prove(key, c))
    with pytest.raises(RpcError) as error:
        node.renew()
    assert (error.value.code, error.value.message, error.value.reason()) == (
        DENIED, 'agent must reattest instead of renew', Reason.AGENT_MUST_REATTEST)
