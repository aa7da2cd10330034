# SPDX-License-Identifier: Apache-2.0
"""JWT-SVIDs of the server: MintJWTSVID and NewJWTSVID, what a token says, its keys in the bundle and their rotation.
Tokens are verified by PyJWT."""
import re
import time

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

from support import h2grpc, process, stubs
from support.h2grpc import RpcError
from support.node import Node
from support.process import eventually

S = stubs.svid
NEW = 'spire.api.server.svid.v1.SVID/NewJWTSVID'


def mint(server, path='/web', audience=('aud',), **more):
    request = S.MintJWTSVIDRequest(id=server.id(path), audience=audience, **more)
    return server.svids.MintJWTSVID(request).svid


def mint_error(server, **more):
    with pytest.raises(grpc.RpcError) as error:
        server.svids.MintJWTSVID(S.MintJWTSVIDRequest(**more))
    return error.value.code(), error.value.details()


def keys(server):
    bundle = server.bundles.GetBundle(stubs.bundle.GetBundleRequest())
    return {key.key_id: key for key in bundle.jwt_authorities}


def verified(server, token, audience='aud'):
    """Header and claims, verified with the key that the bundle has under the token's kid."""
    header = jwt.get_unverified_header(token)
    key = load_der_public_key(keys(server)[header['kid']].public_key)
    return header, jwt.decode(token, key, algorithms=[header['alg']], audience=audience)


def test_a_token_says_what_it_must_and_nothing_else(server):
    before = int(time.time())
    svid = mint(server, audience=['aud', '', 'other'])
    header, claims = verified(server, svid.token)
    assert header == {'alg': 'ES256', 'kid': header['kid'], 'typ': 'JWT'}
    assert re.fullmatch('[A-Za-z0-9]{32}', header['kid'])
    assert set(claims) == {'aud', 'exp', 'iat', 'sub'}
    assert claims['aud'] == ['aud', 'other'] and claims['sub'] == 'spiffe://example.org/web'
    assert isinstance(claims['iat'], int) and before <= claims['iat'] <= before + 60
    assert claims['exp'] - claims['iat'] == 300
    assert (svid.issued_at, svid.expires_at) == (claims['iat'], claims['exp'])
    assert (svid.id.trust_domain, svid.id.path) == ('example.org', '/web')


def test_one_audience_is_an_array_too(server):
    assert verified(server, mint(server).token)[1]['aud'] == ['aud']


def test_the_ttl_is_the_callers_and_capped_by_the_keys_end(server):
    svid = mint(server, ttl=60)
    assert svid.expires_at - svid.issued_at == 60
    (key,) = keys(server).values()
    assert mint(server, ttl=10**9).expires_at == key.expires_at


def test_any_text_may_be_an_audience(server):
    odd = 'a"b\\c\n\u00e9\U0001f41a</script>'
    assert verified(server, mint(server, audience=[odd]).token, odd)[1]['aud'] == [odd]


@pytest.mark.parametrize('trust_domain, path, audience, ttl, text', [
    ('', '', ['a'], 0, 'invalid SPIFFE ID: '),
    ('other.org', '/x', ['a'], 0, 'invalid SPIFFE ID: "spiffe://other.org/x" is not a member of trust domain "example.org"'),
    ('example.org', '/spire/server', ['a'], 0, 'invalid SPIFFE ID: '),
    ('example.org', '', ['a'], 0, 'invalid SPIFFE ID: '),
    ('example.org', '/x', [], 0, 'at least one audience is required'),
    ('example.org', '/x', [''], 0, 'at least one audience is required'),
    ('example.org', '/x', ['a'], -1, 'ttl cannot be negative'),
])
def test_what_cannot_be_minted_is_said(server, trust_domain, path, audience, ttl, text):
    code, details = mint_error(server, id=stubs.types.SPIFFEID(trust_domain=trust_domain, path=path), audience=audience, ttl=ttl)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and details.startswith(text), details


def test_an_agent_gets_tokens_for_its_entries_only(server):
    node = Node.attest(server)
    entry = server.add('/db', node.id.path, ['unix:uid:1'], jwt_svid_ttl=77)
    elsewhere = server.add('/far', '/elsewhere', ['unix:uid:1'])
    with node.connect() as link:
        svid = link.unary(NEW, S.NewJWTSVIDRequest(entry_id=entry.id, audience=['aud']), S.NewJWTSVIDResponse).svid
        claims = verified(server, svid.token)[1]
        assert claims['sub'] == 'spiffe://example.org/db' and claims['exp'] - claims['iat'] == 77 and 'jti' not in claims
        for entry_id, audience, code, text in [
                (elsewhere.id, ['a'], h2grpc.NOT_FOUND, 'entry not found or not authorized'),
                ('none', ['a'], h2grpc.NOT_FOUND, 'entry not found or not authorized'),
                ('', ['a'], h2grpc.INVALID_ARGUMENT, 'missing entry ID'),
                (entry.id, [], h2grpc.INVALID_ARGUMENT, 'at least one audience is required')]:
            with pytest.raises(RpcError) as error:
                link.unary(NEW, S.NewJWTSVIDRequest(entry_id=entry_id, audience=audience), S.NewJWTSVIDResponse)
            assert (error.value.code, error.value.message) == (code, text)


def test_jti_where_the_entry_asks_for_it(server):
    node = Node.attest(server)
    attributes = stubs.types.Entry.AdditionalAttributes(jwt_svid_include_jti=True)
    entry = server.add('/jti', node.id.path, ['unix:uid:1'], additional_attributes=attributes)
    with node.connect() as link:
        ids = {verified(server, link.unary(NEW, S.NewJWTSVIDRequest(entry_id=entry.id, audience=['aud']),
                                           S.NewJWTSVIDResponse).svid.token)[1]['jti'] for _ in range(5)}
    assert len(ids) == 5 and all(re.fullmatch('[A-Za-z0-9_-]{22}', one) for one in ids)


@pytest.mark.parametrize('key_type, alg', [('ec-p384', 'ES384'), ('rsa-2048', 'RS256')])
def test_the_algorithm_is_the_keys(make, key_type, alg):
    server = make(process.Server, jwt_key_type=key_type, jwt_issuer='https://issuer.test')
    header, claims = verified(server, mint(server).token)
    assert header['alg'] == alg and claims['iss'] == 'https://issuer.test'


def test_where_jwt_svids_are_disabled_there_are_no_keys_and_no_tokens(make):
    server = make(process.Server, disable_jwt_svids=True)
    assert not keys(server)
    code, text = mint_error(server, id=server.id('/web'), audience=['a'])
    assert code == grpc.StatusCode.UNIMPLEMENTED and text == 'JWT functionality is disabled'


def test_a_key_is_in_the_bundle_before_it_signs_and_outlives_a_kill(make):
    server = make(process.Server, ca_ttl='12s')
    known, used = set(keys(server)), set()

    def rotated():
        nonlocal known
        kid = jwt.get_unverified_header(mint(server, ttl=2).token)['kid']
        assert kid in known or kid in used, 'signed with a key that nobody can have seen'
        used.add(kid)
        known |= set(keys(server))
        return len(used) == 3
    eventually(rotated, what='three keys')
    kid = jwt.get_unverified_header(mint(server).token)['kid']
    server.kill()
    server.start()
    assert kid in keys(server)
    assert jwt.get_unverified_header(mint(server).token)['kid'] in keys(server)


def test_the_command_prints_or_writes_a_token(server, folder):
    done = server.cli('jwt', 'mint', '-spiffeID', 'spiffe://example.org/cli', '-audience', 'aud', '-ttl', '60s')
    assert done.returncode == 0
    assert verified(server, done.stdout.strip())[1]['sub'] == 'spiffe://example.org/cli'
    path = folder / 'token'
    done = server.cli('jwt', 'mint', '-spiffeID', 'spiffe://example.org/cli', '-audience', 'aud', '-write', path)
    assert (done.returncode, done.stdout, done.stderr) == (0, 'JWT-SVID written to %s\n' % path, '')
    with open(path) as token:
        assert verified(server, token.read())
    done = server.cli('jwt', 'mint', '-spiffeID', 'spiffe://example.org/cli', '-audience', 'aud', '-ttl', '100000h')
    assert re.fullmatch(r'JWT-SVID lifetime was capped shorter than specified ttl; expires "\d{4}-[0-9T:-]+Z"\n', done.stderr)
    for arguments, text in [(['-audience', 'a'], 'Error: spiffeID must be specified\n'),
                            (['-spiffeID', 'spiffe://example.org/x'], 'Error: at least one audience must be specified\n')]:
        done = server.cli('jwt', 'mint', *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (1, '', text)
