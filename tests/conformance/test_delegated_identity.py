# SPDX-License-Identifier: Apache-2.0
"""The Delegated Identity API on the agent's admin socket: who may ask, for whom, what is given, what never is."""
import json
import os
import subprocess

import grpc
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key

from conftest import needs_root
from support import h2grpc, pki, process, stubs, users
from support.h2grpc import Connection, RpcError
from support.process import WAIT, eventually

D, T = stubs.delegated, stubs.types
API = 'spire.api.agent.delegatedidentity.v1.DelegatedIdentity/'
ME = 'unix:uid:%d' % os.geteuid()
DELEGATE = 'spiffe://example.org/delegate'
NEITHER = 'must provide either selectors or non-zero PID, but not both'


def start_agent(server, parent, **keys):
    """An agent with an admin socket in a folder of its own."""
    role = process.Agent(server.port, join_token=server.token(parent), roots=server.roots(), **keys)
    role.place = process.Folder()
    os.chmod(role.place.path, 0o755)
    role.admin_socket = role.keys['admin_socket_path'] = role.place / 'admin.sock'
    return role.start()


def end_agent(role):
    try:
        role.close()
    finally:
        role.place.remove()


@pytest.fixture(scope='module')
def delegating(server):
    """An agent that trusts /delegate, which this process is."""
    server.add('/delegate', '/host', [ME])
    role = start_agent(server, '/host', authorized_delegates=[DELEGATE])
    try:
        eventually(lambda: subscribe(role, selectors('none:x')), what='the entry of the delegate')
        yield role
    finally:
        end_agent(role)


def selectors(*texts):
    return [T.Selector(type=t.split(':', 1)[0], value=t.split(':', 1)[1]) for t in texts]


def stub(role):
    channel = grpc.insecure_channel('unix:' + role.admin_socket, [('grpc.use_local_subchannel_pool', 1)])
    role.channels.append(channel)
    return stubs.delegated_grpc.DelegatedIdentityStub(channel)


def watch(role, wanted=(), pid=0):
    return stub(role).SubscribeToX509SVIDs(D.SubscribeToX509SVIDsRequest(selectors=wanted, pid=pid), timeout=WAIT)


def subscribe(role, wanted=(), pid=0):
    """The first answer."""
    call = watch(role, wanted, pid)
    answer = next(call)
    call.cancel()
    return answer


def refusal(call):
    with pytest.raises(grpc.RpcError) as error:
        next(call)
    return error.value.code(), error.value.details()


def paths(answer):
    return [s.x509_svid.id.path for s in answer.x509_svids]


# ---- what is given ----
def test_an_svid_comes_with_chain_key_and_expiry(server, delegating):
    server.add('/web', '/host', ['docker:label:web'], hint='internal')
    answer = eventually(lambda: [a for a in [subscribe(delegating, selectors('docker:label:web'))] if a.x509_svids],
                        what='the SVID')[0]
    svid = answer.x509_svids[0]
    assert paths(answer) == ['/web'] and svid.x509_svid.id.trust_domain == 'example.org'
    leaf = x509.load_der_x509_certificate(svid.x509_svid.cert_chain[0])
    assert pki.uris_of(leaf) == ['spiffe://example.org/web']
    key = load_der_private_key(svid.x509_svid_key, None)
    assert key.public_key().public_numbers() == leaf.public_key().public_numbers()
    assert svid.x509_svid.expires_at == int(leaf.not_valid_after.timestamp()) or svid.x509_svid.expires_at > 0
    assert svid.x509_svid.hint == 'internal'
    assert list(answer.federates_with) == []


def test_every_entry_within_the_selectors_is_given_in_the_order_of_ids(server, delegating):
    server.add('/both', '/host', ['a:1', 'b:2'], id='d-1')
    server.add('/one', '/host', ['a:1'], id='d-2')
    server.add('/more', '/host', ['a:1', 'b:2', 'c:3'], id='d-3')
    eventually(lambda: paths(subscribe(delegating, selectors('b:2', 'a:1'))) == ['/both', '/one'], what='both')
    assert paths(subscribe(delegating, selectors('a:1'))) == ['/one']


def test_each_change_is_pushed_and_nothing_is_an_answer(server, delegating):
    call = watch(delegating, selectors('push:1'))
    assert paths(next(call)) == []
    entry = server.add('/pushed', '/host', ['push:1'])
    assert paths(next(call)) == ['/pushed']
    server.remove(entry.id)
    assert paths(next(call)) == []
    call.cancel()


def test_admin_and_downstream_identities_are_never_given(server, delegating):
    server.add('/plain', '/host', ['kind:x'])
    server.add('/admin', '/host', ['kind:x'], admin=True)
    server.add('/downstream', '/host', ['kind:x'], downstream=True)
    eventually(lambda: paths(subscribe(delegating, selectors('kind:x'))) == ['/plain'], what='the plain one')
    eventually(lambda: stubs_count(delegating) >= 3, what='all are known')
    assert paths(subscribe(delegating, selectors('kind:x'))) == ['/plain']


def stubs_count(role):
    with Connection.unix(role.admin_socket) as link:
        return link.unary('spire.agent.debug.v1.Debug/GetInfo', b'', stubs.agent_debug.GetInfoResponse).cached_x509_svids_count


def test_a_process_is_attested(server, delegating):
    """It has this process's user, so it is given what this process would be."""
    child = subprocess.Popen(['sleep', '60'])
    try:
        assert '/delegate' in paths(subscribe(delegating, pid=child.pid))
    finally:
        child.kill()
        child.wait()


@needs_root
def test_a_process_of_another_user_is_attested_as_that_user(server, delegating):
    server.add('/user/db', '/host', ['unix:uid:%d' % users.UIDS['db']])
    child = subprocess.Popen(['sleep', '60'], user=users.UIDS['db'], group=users.UIDS['db'], extra_groups=[])
    try:
        eventually(lambda: paths(subscribe(delegating, pid=child.pid)) == ['/user/db'], what='its SVID')
    finally:
        child.kill()
        child.wait()


def test_every_bundle_is_given_as_der(server, delegating):
    call = stub(delegating).SubscribeToX509Bundles(D.SubscribeToX509BundlesRequest(), timeout=WAIT)
    answer = next(call)
    call.cancel()
    roots = answer.ca_certificates['spiffe://example.org']
    assert pki.pem_from_der(roots) == server.roots()


def test_the_response_needs_no_security_header(delegating):
    with Connection.unix(delegating.admin_socket) as link:
        call = link.start(API + 'SubscribeToX509Bundles')
        call.send(b'', end=True)
        assert call.receive(D.SubscribeToX509BundlesResponse).ca_certificates


# ---- JWT ----
def fetch_jwt(role, audience, wanted=(), pid=0):
    return stub(role).FetchJWTSVIDs(D.FetchJWTSVIDsRequest(audience=audience, selectors=wanted, pid=pid), timeout=WAIT)


def jwt_refusal(*args, **more):
    with pytest.raises(grpc.RpcError) as error:
        fetch_jwt(*args, **more)
    return error.value.code(), error.value.details()


def test_jwt_svids_are_given_for_selectors_and_verify_with_the_bundle(server, delegating):
    server.add('/jwt', '/host', ['jwt:1'], hint='internal')
    server.add('/jwt-admin', '/host', ['jwt:1'], admin=True)
    eventually(lambda: paths(subscribe(delegating, selectors('jwt:1'))) == ['/jwt'], what='the entry')
    svids = fetch_jwt(delegating, ['one', 'two'], selectors('jwt:1')).svids
    assert [(s.id.trust_domain, s.id.path, s.hint) for s in svids] == [('example.org', '/jwt', 'internal')]
    call = stub(delegating).SubscribeToJWTBundles(D.SubscribeToJWTBundlesRequest(), timeout=WAIT)
    keys = json.loads(next(call).bundles['spiffe://example.org'])['keys']
    call.cancel()
    kid = jwt.get_unverified_header(svids[0].token)['kid']
    key = jwt.algorithms.ECAlgorithm.from_jwk(json.dumps([k for k in keys if k['kid'] == kid][0]))
    claims = jwt.decode(svids[0].token, key, algorithms=['ES256'], audience='two')
    assert claims['sub'] == 'spiffe://example.org/jwt' and claims['aud'] == ['one', 'two']
    assert (svids[0].expires_at, svids[0].issued_at) == (claims['exp'], claims['iat'])
    assert all('x5c' not in k for k in keys)


def test_jwt_svids_are_given_for_a_process(delegating):
    assert '/delegate' in [s.id.path for s in fetch_jwt(delegating, ['a'], pid=os.getpid()).svids]


def test_kept_jwt_svids_are_counted(delegating):
    fetch_jwt(delegating, ['counted'], pid=os.getpid())
    with Connection.unix(delegating.admin_socket) as link:
        info = link.unary('spire.agent.debug.v1.Debug/GetInfo', b'', stubs.agent_debug.GetInfoResponse)
    assert info.cached_jwt_svids_count >= 1


@pytest.mark.parametrize('audience, wanted, pid, told', [
    ([], ('a:1',), 0, (grpc.StatusCode.INVALID_ARGUMENT, 'audience must be specified')),
    (['a'], (), 0, (grpc.StatusCode.INVALID_ARGUMENT, NEITHER)),
    (['a'], ('a:1',), 1, (grpc.StatusCode.INVALID_ARGUMENT, NEITHER)),
    (['a'], ('none:x',), 0, (grpc.StatusCode.PERMISSION_DENIED, 'no identity issued')),
    (['a'], (), 2 ** 31 - 1, (grpc.StatusCode.INTERNAL, 'could not attest provided pid'))])
def test_what_names_no_token_is_refused(delegating, audience, wanted, pid, told):
    assert jwt_refusal(delegating, audience, selectors(*wanted), pid) == told


# ---- what is refused ----
@pytest.mark.parametrize('wanted, pid', [((), 0), (('unix:uid:1',), 1)])
def test_exactly_one_of_selectors_and_pid_is_required(delegating, wanted, pid):
    assert refusal(watch(delegating, selectors(*wanted), pid)) == (grpc.StatusCode.INVALID_ARGUMENT, NEITHER)


@pytest.mark.parametrize('bad', [T.Selector(type='', value='x'), T.Selector(type='x', value=''),
                                 T.Selector(type='a:b', value='x')])
def test_bad_selectors_are_invalid(delegating, bad):
    assert refusal(watch(delegating, [bad])) == (grpc.StatusCode.INVALID_ARGUMENT, 'could not parse provided selectors')


@pytest.mark.parametrize('pid', [-1, 2 ** 31 - 1, -2 ** 31])
def test_a_process_that_is_not_there_cannot_be_attested(delegating, pid):
    assert refusal(watch(delegating, pid=pid)) == (grpc.StatusCode.INTERNAL, 'could not attest provided pid')


@needs_root
@pytest.mark.parametrize('method, request_bytes', [
    ('SubscribeToX509SVIDs', D.SubscribeToX509SVIDsRequest(selectors=selectors('a:1')).SerializeToString()),
    ('SubscribeToX509SVIDs', b''),
    ('SubscribeToX509Bundles', b''),
    ('SubscribeToJWTBundles', b''),
    ('FetchJWTSVIDs', D.FetchJWTSVIDsRequest(audience=['a']).SerializeToString())])
def test_who_has_no_identity_is_refused_whatever_it_asks(delegating, method, request_bytes):
    with users.As(users.UIDS['nobody'], 0) as user, user.connect(delegating.admin_socket) as link:
        call = link.start(API + method)
        call.send(request_bytes, end=True)
        with pytest.raises(RpcError) as error:
            call.receive(D.SubscribeToX509SVIDsResponse)
    assert (error.value.code, error.value.message) == (h2grpc.PERMISSION_DENIED, 'no identity issued')
    eventually(lambda: delegating.has_logged('A caller of the Delegated Identity API was refused'), what='the log')


@needs_root
def test_a_workload_that_is_no_delegate_is_refused(server, delegating):
    server.add('/user/web', '/host', ['unix:uid:%d' % users.UIDS['web']])

    def answer():
        with users.As(users.UIDS['web'], 0) as user, user.connect(delegating.admin_socket) as link:
            call = link.start(API + 'SubscribeToX509Bundles')
            call.send(b'', end=True)
            with pytest.raises(RpcError) as error:
                call.receive(D.SubscribeToX509BundlesResponse)
            return error.value.code, error.value.message
    wanted = (h2grpc.PERMISSION_DENIED, 'caller not configured as an authorized delegate')
    eventually(lambda: answer() == wanted, what='the refusal')


def test_a_stream_ends_when_its_caller_is_no_delegate_any_more(server):
    entry = server.add('/delegate', '/passing', [ME])
    role = start_agent(server, '/passing', authorized_delegates=[DELEGATE])
    try:
        eventually(lambda: subscribe(role, selectors('none:x')), what='the entry of the delegate')
        svids = watch(role, selectors('none:x'))
        bundles = stub(role).SubscribeToX509Bundles(D.SubscribeToX509BundlesRequest(), timeout=WAIT)
        next(svids), next(bundles)
        server.remove(entry.id)
        assert refusal(svids) == (grpc.StatusCode.PERMISSION_DENIED, 'no identity issued')
        assert refusal(bundles) == (grpc.StatusCode.PERMISSION_DENIED, 'no identity issued')
    finally:
        end_agent(role)


def test_without_authorized_delegates_the_api_is_not_there(server):
    role = start_agent(server, '/closed')
    try:
        assert refusal(watch(role, selectors('a:1')))[0] == grpc.StatusCode.UNIMPLEMENTED
    finally:
        end_agent(role)


def test_the_public_socket_does_not_have_it(delegating):
    with delegating.connect() as link, pytest.raises(RpcError) as error:
        link.unary(API + 'SubscribeToX509Bundles', b'', D.SubscribeToX509BundlesResponse)
    assert error.value.code == h2grpc.UNIMPLEMENTED


@pytest.mark.parametrize('delegate, what', [('delegate', 'a SPIFFE ID'), ('spiffe://other.org/x', 'a workload of the trust domain'),
                                            ('spiffe://example.org', 'a workload of the trust domain')])
def test_a_delegate_must_be_a_workload_of_the_trust_domain(folder, delegate, what):
    role = process.Agent(8081, folder, authorized_delegates=[delegate])
    process.write(role.config_path, role.config())
    done = process.run(['validate', '-config', role.config_path])
    assert done.returncode != 0
    assert '"%s" in "authorized_delegates" is not %s' % (delegate, what) in done.stdout + done.stderr
