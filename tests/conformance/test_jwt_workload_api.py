# SPDX-License-Identifier: Apache-2.0
"""JWT-SVIDs over the Workload API: what is handed out and from where, the bundles, and every token that is refused.
Tokens are made and checked by PyJWT."""
import json
import os
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm

from support import h2grpc, process, stubs
from support.fake_server import Failure, FakeServer
from support.h2grpc import RpcError
from support.process import eventually

W = stubs.workload
API = 'SpiffeWorkloadAPI/'
HEADER = [('workload.spiffe.io', 'true')]
ME = 'unix:uid:%d' % os.geteuid()


def unary(agent, method, request, kind, wait=30):
    with agent.connect() as link:
        call = link.start(API + method, HEADER)
        call.send(request, end=True)
        return call.receive(kind, wait)


def fetch(agent, *audience, spiffe_id=''):
    return list(unary(agent, 'FetchJWTSVID', W.JWTSVIDRequest(audience=audience, spiffe_id=spiffe_id), W.JWTSVIDResponse).svids)


def validate(agent, token, audience='aud'):
    return unary(agent, 'ValidateJWTSVID', W.ValidateJWTSVIDRequest(audience=audience, svid=token), W.ValidateJWTSVIDResponse)


def refusal(call, *args, **more):
    with pytest.raises(RpcError) as error:
        call(*args, **more)
    return error.value.code, error.value.message


def bundles(agent):
    with agent.connect() as link:
        call = link.start(API + 'FetchJWTBundles', HEADER)
        call.send(W.JWTBundlesRequest(), end=True)
        answer = call.receive(W.JWTBundlesResponse)
        call.cancel()
        return {key: json.loads(value) for key, value in answer.bundles.items()}


@pytest.fixture(scope='module')
def mine(server, agent):
    """The entry of this process, known to the agent."""
    entry = server.add('/jwt', '/host', [ME], id='j-mine')
    eventually(lambda: fetch(agent, 'first'), what='the first token')
    return entry


# ---- FetchJWTSVID ----
def test_a_token_is_for_the_workload_and_its_audience(server, agent, mine):
    (svid,) = fetch(agent, 'aud')
    assert svid.spiffe_id == 'spiffe://example.org/jwt' and svid.hint == ''
    (jwk,) = [k for k in bundles(agent)['spiffe://example.org']['keys'] if k['kid'] == jwt.get_unverified_header(svid.svid)['kid']]
    claims = jwt.decode(svid.svid, ECAlgorithm.from_jwk(json.dumps(jwk)), algorithms=['ES256'], audience='aud')
    assert claims['sub'] == svid.spiffe_id and claims['aud'] == ['aud']


def test_several_audiences_stand_in_one_token_and_their_order_makes_no_other(agent, mine):
    (one,), (two,) = fetch(agent, 'x', 'y'), fetch(agent, 'y', 'x')
    assert one.svid == two.svid
    assert jwt.decode(one.svid, options={'verify_signature': False})['aud'] == ['x', 'y']


def test_a_token_is_kept_and_given_again(agent, mine):
    assert fetch(agent, 'kept')[0].svid == fetch(agent, 'kept')[0].svid != fetch(agent, 'another')[0].svid


def test_identities_come_by_entry_id_with_their_hints_and_one_can_be_asked_for(server, agent, mine):
    entry = server.add('/jwt-two', '/host', [ME], id='j-a-second', hint='internal')
    try:
        def both():
            return [s.spiffe_id for s in fetch(agent, 'aud')] == ['spiffe://example.org/jwt-two', 'spiffe://example.org/jwt']
        eventually(both, what='two identities, by entry id')
        assert [s.hint for s in fetch(agent, 'aud')] == ['internal', '']
        (only,) = fetch(agent, 'aud', spiffe_id='spiffe://example.org/jwt')
        assert only.spiffe_id == 'spiffe://example.org/jwt'
    finally:
        server.remove(entry.id)
    eventually(lambda: len(fetch(agent, 'aud')) == 1, what='one identity again')


def test_an_entry_that_wants_a_jti_gets_a_new_token_each_time(server, agent, mine):
    attributes = stubs.types.Entry.AdditionalAttributes(jwt_svid_include_jti=True)
    entry = server.add('/jwt-jti', '/host', [ME], id='j-jti', additional_attributes=attributes)
    wanted = 'spiffe://example.org/jwt-jti'
    try:
        eventually(lambda: fetch(agent, 'aud', spiffe_id=wanted), what='the entry')
        ids = {jwt.decode(fetch(agent, 'aud', spiffe_id=wanted)[0].svid, options={'verify_signature': False})['jti'] for _ in range(3)}
        assert len(ids) == 3
    finally:
        server.remove(entry.id)


@pytest.mark.parametrize('audience, spiffe_id, code, text', [
    ([], '', h2grpc.INVALID_ARGUMENT, 'audience must be specified'),
    (['a'], 'web', h2grpc.INVALID_ARGUMENT, 'invalid requested SPIFFE ID: scheme is missing or invalid'),
    (['a'], 'spiffe://example.org/not-mine', h2grpc.PERMISSION_DENIED, 'no identity issued'),
    (['a'] * 65, '', h2grpc.INVALID_ARGUMENT, 'audience has more than 64 values or 8 KiB'),
    (['a' * 9000], '', h2grpc.INVALID_ARGUMENT, 'audience has more than 64 values or 8 KiB'),
])
def test_what_cannot_be_fetched_is_said(agent, mine, audience, spiffe_id, code, text):
    assert refusal(fetch, agent, *audience, spiffe_id=spiffe_id) == (code, text)


def test_without_an_entry_there_is_no_token(server, make):
    stranger = make(process.Agent, server.port, join_token=server.token('/elsewhere'), roots=server.roots())
    eventually(lambda: 'agent' in stranger.logs() and refusal(fetch, stranger, 'a') == (
        h2grpc.PERMISSION_DENIED, 'no identity issued'), what='the denial')
    assert refusal(bundles, stranger) == (h2grpc.PERMISSION_DENIED, 'no identity issued')


def test_unauthenticated_verifiers_see_the_own_jwt_keys_when_allowed(server, make):
    agent = make(process.Agent, server.port, join_token=server.token('/elsewhere'), roots=server.roots(),
                 allow_unauthenticated_verifiers=True)
    assert eventually(lambda: bundles(agent)['spiffe://example.org']['keys'], what='the keys')


# ---- when the server is slow, refuses or is gone ----
@pytest.fixture
def fake(make):
    """A server played by hand whose NewJWTSVID a test rules, and our agent with one entry."""
    server = FakeServer()
    server.jwt_ttl = 20
    agent = make(process.Agent, server.port, join_token='the-token', roots=server.authority.pem())
    server.add('/web', '/spire/agent/join_token/the-token', [ME], id='e1')
    eventually(lambda: fetch(agent, 'start'), what='the first token')
    yield server, agent
    server.close()


def test_a_token_is_renewed_at_half_its_life(fake):
    server, agent = fake
    first = fetch(agent, 'aud')[0].svid
    claims = jwt.decode(first, options={'verify_signature': False})
    assert fetch(agent, 'aud')[0].svid == first
    time.sleep(max(0, claims['iat'] + 10.2 - time.time()))
    assert fetch(agent, 'aud')[0].svid != first


@pytest.mark.parametrize('how', ['gone', 'refuses'])
def test_a_kept_token_is_given_until_it_expires_when_the_server_does_not_sign(fake, how):
    server, agent = fake
    first = fetch(agent, 'aud')[0].svid
    expires = jwt.decode(first, options={'verify_signature': False})['exp']
    if how == 'gone':
        server.close()
    else:
        server.rules['NewJWTSVID'] = lambda request: (_ for _ in ()).throw(Failure(h2grpc.INTERNAL, 'no'))
    time.sleep(max(0, expires - 9.5 - time.time()))  # past half its life
    for _ in range(20):  # workloads ask as often as they like
        assert fetch(agent, 'aud')[0].svid == first
    assert agent.logs().count('JWT-SVIDs cannot be renewed') == 1
    time.sleep(max(0, expires + 1 - time.time()))
    code, text = refusal(fetch, agent, 'aud')
    assert code == h2grpc.UNAVAILABLE and text.startswith('could not fetch JWT-SVID: ')


# ---- FetchJWTBundles ----
def test_a_jwt_bundle_is_a_plain_jwks_under_the_trust_domain_id(server, agent, mine):
    answer = bundles(agent)
    assert list(answer) == ['spiffe://example.org']
    assert set(answer['spiffe://example.org']) == {'keys'}
    for key in answer['spiffe://example.org']['keys']:
        assert set(key) == {'kty', 'kid', 'crv', 'x', 'y'}
    known = {k.key_id for k in server.bundles.GetBundle(stubs.bundle.GetBundleRequest()).jwt_authorities}
    assert {k['kid'] for k in answer['spiffe://example.org']['keys']} == known


def test_a_new_jwt_key_is_pushed_and_nothing_else_is(server, agent, mine):
    with agent.connect() as link:
        call = link.start(API + 'FetchJWTBundles', HEADER)
        call.send(W.JWTBundlesRequest(), end=True)
        first = call.receive(W.JWTBundlesResponse)
        done = server.cli('localauthority', 'jwt', 'prepare')
        assert done.returncode == 0, done.stderr
        second = call.receive(W.JWTBundlesResponse)
        assert len(json.loads(second.bundles['spiffe://example.org'])['keys']) == 1 + len(
            json.loads(first.bundles['spiffe://example.org'])['keys'])
        call.cancel()


# ---- ValidateJWTSVID ----
class Issuer:
    """Signs tokens as the trust domain could, or as it never would."""

    def __init__(self, key=None, kid='issuer-key'):
        self.key, self.kid = key or ec.generate_private_key(ec.SECP256R1()), kid

    def authority(self):
        spki = self.key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return stubs.types.JWTKey(key_id=self.kid, public_key=spki, expires_at=int(time.time()) + 3600)

    def token(self, alg='ES256', headers=None, key=None, **claims):
        body = {'sub': 'spiffe://example.org/any', 'aud': ['aud'], 'exp': int(time.time()) + 60, **claims}
        body = {k: v for k, v in body.items() if v is not None}
        return jwt.encode(body, key or self.key, alg, {'kid': self.kid, **(headers or {})})


@pytest.fixture(scope='module')
def issuers(server, agent, mine):
    """Keys of three kinds in the bundle, and the agent that knows them."""
    made = {'ES256': Issuer(kid='k-256'), 'ES384': Issuer(ec.generate_private_key(ec.SECP384R1()), 'k-384'),
            'RS256': Issuer(rsa.generate_private_key(65537, 2048), 'k-rsa')}
    server.bundles.AppendBundle(stubs.bundle.AppendBundleRequest(jwt_authorities=[i.authority() for i in made.values()]))
    eventually(lambda: {'k-256', 'k-384', 'k-rsa'} <= {k['kid'] for k in bundles(agent)['spiffe://example.org']['keys']}, what='the keys')
    return made


def test_the_agents_own_tokens_are_valid(agent, mine):
    answer = validate(agent, fetch(agent, 'aud')[0].svid)
    assert answer.spiffe_id == 'spiffe://example.org/jwt'
    assert set(answer.claims) == {'aud', 'exp', 'iat', 'sub'} and list(answer.claims['aud']) == ['aud']
    assert answer.claims['sub'] == 'spiffe://example.org/jwt'


@pytest.mark.parametrize('alg, kid', [('ES256', 'ES256'), ('ES384', 'ES384'), ('RS256', 'RS256'), ('RS384', 'RS256'), ('RS512', 'RS256'),
                                      ('PS256', 'RS256'), ('PS384', 'RS256'), ('PS512', 'RS256')])
def test_each_algorithm_of_the_standard_is_taken(agent, issuers, alg, kid):
    assert validate(agent, issuers[kid].token(alg)).spiffe_id == 'spiffe://example.org/any'


def test_claims_of_every_shape_are_passed_on_and_aud_is_a_list(agent, issuers):
    answer = validate(agent, issuers['ES256'].token(
        aud='aud', text='', number=1.5, yes=True, nothing=None, inner={'a': [1, {'b': None}]}))
    assert list(answer.claims['aud']) == ['aud']
    assert answer.claims['text'] == '' and answer.claims['number'] == 1.5 and answer.claims['yes'] is True
    assert answer.claims['inner']['a'][0] == 1 and answer.claims['inner']['a'][1]['b'] is None


def bad_tokens():
    now = int(time.time())
    part = jwt.utils.base64url_encode

    def raw(header, claims, signature=b'x' * 64):
        return b'.'.join(part(p) for p in (header, claims, signature)).decode()
    good = b'{"sub":"spiffe://example.org/any","aud":["aud"],"exp":%d}' % (now + 60)
    return {
        'no algorithm': (lambda i: raw(b'{"alg":"none","kid":"k-256"}', good, b''), 'unsupported token signature algorithm "none"'),
        'a shared secret': (lambda i: i['ES256'].token('HS256', key='s' * 32), 'unsupported token signature algorithm "HS256"'),
        'the public key as a secret': (
            lambda i: i['ES256'].token('HS256', key=i['ES256'].authority().public_key.hex()), 'unsupported token signature algorithm "HS256"'),
        'an algorithm of another key': (
            lambda i: i['RS256'].token('RS256', {'kid': 'k-256'}), 'token signature algorithm RS256 is not that of its key'),
        'another key': (lambda i: Issuer(kid='k-256').token(), 'token signature does not match its key'),
        'no kid': (lambda i: raw(b'{"alg":"ES256"}', good), 'token missing key id'),
        'an unknown kid': (lambda i: Issuer(kid='never').token(), 'public key "never" not found in trust domain "example.org"'),
        'another typ': (lambda i: i['ES256'].token(headers={'typ': 'at+jwt'}), 'token type "at+jwt" is not JWT'),
        'critical headers': (lambda i: i['ES256'].token(headers={'crit': ['exp']}), 'token has critical header parameters'),
        'another audience': (lambda i: i['ES256'].token(aud=['x', 'y']), 'expected audience in ["aud"] (audience=["x" "y"])'),
        'no audience': (lambda i: i['ES256'].token(aud=None), 'expected audience in ["aud"] (audience=[])'),
        'expired': (lambda i: i['ES256'].token(exp=now - 61), 'token has expired'),
        'no expiry': (lambda i: i['ES256'].token(exp=None), 'token missing exp claim'),
        'no subject': (lambda i: i['ES256'].token(sub=None), 'token missing subject claim'),
        'a subject that is no SPIFFE ID': (
            lambda i: i['ES256'].token(sub='web'), 'token has an invalid subject claim: scheme is missing or invalid'),
        'not valid yet': (lambda i: i['ES256'].token(nbf=now + 120), 'token is not valid yet'),
        'a foreign trust domain': (lambda i: i['ES256'].token(sub='spiffe://other.org/x'), 'no keys found for trust domain "other.org"'),
        'a claim twice': (lambda i: raw(b'{"alg":"ES256","kid":"k-256"}', good[:-1] + b',"sub":"spiffe://example.org/root"}'),
                          'token has the member "sub" twice'),
        'too large': (lambda i: i['ES256'].token(fat='x' * 40_000), 'token is larger than 32 KiB'),
        'no token': (lambda i: 'abc', 'unable to parse JWT token'),
        'an encrypted token': (lambda i: 'a.b.c.d.e', 'unable to parse JWT token'),
    }


@pytest.mark.parametrize('name', sorted(bad_tokens()))
def test_a_token_is_refused_for(agent, issuers, name):
    make_token, text = bad_tokens()[name]
    assert refusal(validate, agent, make_token(issuers)) == (h2grpc.INVALID_ARGUMENT, text)


def test_the_parameters_are_checked_first(agent):
    assert refusal(validate, agent, '', 'a') == (h2grpc.INVALID_ARGUMENT, 'svid must be specified')
    assert refusal(validate, agent, 'x', '') == (h2grpc.INVALID_ARGUMENT, 'audience must be specified')


def test_a_tampered_token_is_refused_each_time_though_the_good_one_is_remembered(agent, issuers):
    token = issuers['ES256'].token()
    head, body, signature = token.split('.')
    other = issuers['ES256'].token(sub='spiffe://example.org/root').split('.')[1]
    for _ in range(2):
        assert validate(agent, token)
        assert refusal(validate, agent, '.'.join((head, other, signature)))[1] == 'token signature does not match its key'


def test_validation_needs_no_identity(server, make, issuers):
    stranger = make(process.Agent, server.port, join_token=server.token('/elsewhere'), roots=server.roots())
    assert eventually(lambda: validate(stranger, issuers['ES256'].token()), what='the bundle')


def test_foreign_tokens_are_taken_where_an_entry_federates_and_their_claims_are_cut(server, make):
    foreign = Issuer(kid='foreign')
    bundle = stubs.types.Bundle(trust_domain='partner.test', jwt_authorities=[foreign.authority()])
    answer = server.bundles.BatchSetFederatedBundle(stubs.bundle.BatchSetFederatedBundleRequest(bundle=[bundle]))
    assert answer.results[0].status.code == 0, answer
    agent = make(process.Agent, server.port, join_token=server.token('/fed-host'), roots=server.roots(),
                 allowed_foreign_jwt_claims=['role'])
    server.add('/fed', '/fed-host', [ME], federates_with=['partner.test'])
    token = foreign.token(sub='spiffe://partner.test/x', role='r', secret='s')
    answer = eventually(lambda: validate(agent, token), what='the foreign keys')
    assert answer.spiffe_id == 'spiffe://partner.test/x'
    assert set(answer.claims) == {'sub', 'aud', 'exp', 'role'}
    assert set(bundles(agent)) == {'spiffe://example.org', 'spiffe://partner.test'}
    assert refusal(validate, agent, foreign.token())[1] == 'public key "foreign" not found in trust domain "example.org"'


# ---- the commands ----
def api(agent, *args):
    return agent.cli('api', *args, '-timeout', '30s')  # a second is what they wait by default


def test_the_commands_print_what_spires_do(agent, mine):
    done = api(agent, 'fetch', 'jwt', '-audience', 'aud1,aud2')
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split('\n')
    assert lines[0] == 'token(spiffe://example.org/jwt):' and lines[1].startswith('\teyJ')
    assert lines[2] == 'bundle(spiffe://example.org):' and lines[3] == '\t{' and lines[4] == '    "keys": ['
    token = lines[1].strip()
    claims = jwt.decode(token, options={'verify_signature': False})
    assert claims['aud'] == ['aud1', 'aud2']
    done = api(agent, 'validate', 'jwt', '-audience', 'aud1', '-svid', token)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout == 'SVID is valid.\nSPIFFE ID : spiffe://example.org/jwt\nClaims    : {"aud":["aud1","aud2"],"exp":%d,"iat":%d,"sub":"spiffe://example.org/jwt"}\n' % (
        claims['exp'], claims['iat'])
    done = api(agent, 'validate', 'jwt', '-audience', 'aud3', '-svid', token)
    assert (done.returncode, done.stdout, done.stderr) == (
        1, '', 'SVID is not valid: expected audience in ["aud3"] (audience=["aud1" "aud2"])\n')
    for words, text in [(['fetch', 'jwt'], 'audience must be specified\n'), (['validate', 'jwt', '-svid', 'x'], 'audience must be specified\n'),
                        (['validate', 'jwt', '-audience', 'x'], 'svid must be specified\n')]:
        done = api(agent, *words)
        assert (done.returncode, done.stdout, done.stderr) == (1, '', text)
    tokens, keys = json.loads(api(agent, 'fetch', 'jwt', '-audience', 'a', '-output', 'json').stdout)
    assert tokens['svids'][0]['spiffe_id'] == 'spiffe://example.org/jwt' and 'spiffe://example.org' in keys['bundles']
