# SPDX-License-Identifier: Apache-2.0
"""OpenID Connect discovery: the two documents, whom they are for, and tokens of `jwt mint` verified with nothing but
them. PyJWT finds the keys and verifies."""
import contextlib
import http.client
import json
import os
import socket
import ssl
import stat

import h2.config
import h2.connection
import h2.events
import jwt
import pytest

from support import pki, process, stubs
from support.process import eventually

CONFIGURATION, KEYS = '/.well-known/openid-configuration', '/keys'
DOMAIN = 'oidc.example.org'
ISSUER = 'https://' + DOMAIN


class Web:
    """A certificate of the Web for the endpoint."""

    def __init__(self, folder):
        self.authority = pki.Authority('web.invalid')
        self.cert, self.key = folder / 'oidc.pem', folder / 'oidc.key'
        self.issue()

    def issue(self):
        chain, key = self.authority.leaf([], dns=[DOMAIN, 'second.example'])
        process.write(self.cert, chain)
        process.write(self.key, key)


def config(port, web=None, **more):
    if web:
        more.update(cert_file_path=web.cert, key_file_path=web.key)
    return {'domains': [DOMAIN, 'second.example'], 'bind_address': '127.0.0.1', 'bind_port': port, **more}


@pytest.fixture(scope='module')
def web():
    folder = process.Folder()
    yield Web(folder)
    folder.remove()


@pytest.fixture(scope='module')
def server(web):
    """Over HTTPS, with an issuer."""
    port = process.free_port()
    role = process.Server(jwt_issuer=ISSUER, oidc_discovery=config(port, web, set_key_use=True))
    role.oidc, role.web = port, web
    try:
        yield role.start()
    finally:
        role.close()


@pytest.fixture(scope='module')
def plain():
    """Plain HTTP on loopback, without an issuer."""
    port = process.free_port()
    role = process.Server(oidc_discovery=config(port))
    role.oidc, role.web = port, None
    try:
        yield role.start()
    finally:
        role.close()


def tls_context(web, alpn=()):
    context = ssl.create_default_context(cadata=web.authority.pem())
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class Over(http.client.HTTPSConnection):
    """HTTPS to 127.0.0.1 under the name that the certificate has."""

    def connect(self):
        self.sock = self._context.wrap_socket(socket.create_connection(('127.0.0.1', self.port), 10), server_hostname=DOMAIN)


@contextlib.contextmanager
def connected(role):
    if role.web:
        connection = Over(DOMAIN, role.oidc, context=tls_context(role.web), timeout=10)
    else:
        connection = http.client.HTTPConnection('127.0.0.1', role.oidc, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def ask(role, path, method='GET', host=DOMAIN, **headers):
    """(status, fields, body)."""
    with connected(role) as connection:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader('Host', host)
        for name, value in headers.items():
            connection.putheader(name.replace('_', '-'), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()


def document(role, path, **more):
    status, fields, body = ask(role, path, **more)
    assert (status, fields['content-type']) == (200, 'application/json'), (status, body)
    return json.loads(body)


def mint(role, audience='aud'):
    done = role.cli('jwt', 'mint', '-spiffeID', 'spiffe://example.org/web', '-audience', audience)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def verified(role, token, audience='aud', **more):
    """As a verifier of the Web does it: configuration, keys, the key of the token's kid, issuer and audience."""
    told = document(role, CONFIGURATION)
    keys = jwt.PyJWKSet.from_dict(document(role, KEYS)).keys
    kid = jwt.get_unverified_header(token)['kid']
    (key,) = [key for key in keys if key.key_id == kid]
    return jwt.decode(token, key.key, algorithms=told['id_token_signing_alg_values_supported'], audience=audience,
                      issuer=told['issuer'], **more)


# ---- the documents ----
def test_the_configuration_has_these_members_and_no_others(server):
    told = document(server, CONFIGURATION)
    assert told == {
        'issuer': ISSUER, 'jwks_uri': ISSUER + '/keys', 'authorization_endpoint': '', 'response_types_supported': ['id_token'],
        'subject_types_supported': [], 'id_token_signing_alg_values_supported': ['RS256', 'ES256', 'ES384']}
    assert list(told) == ['issuer', 'jwks_uri', 'authorization_endpoint', 'response_types_supported',
                          'subject_types_supported', 'id_token_signing_alg_values_supported']


def test_the_keys_are_the_jwt_authorities_of_the_bundle(server):
    bundle = server.bundles.GetBundle(stubs.bundle.GetBundleRequest())
    keys = document(server, KEYS)
    assert list(keys) == ['keys'] and [k['kid'] for k in keys['keys']] == sorted(a.key_id for a in bundle.jwt_authorities)
    for key in keys['keys']:
        assert set(key) == {'use', 'kty', 'kid', 'crv', 'x', 'y', 'alg'}
        assert (key['use'], key['kty'], key['crv'], key['alg']) == ('sig', 'EC', 'P-256', 'ES256')


def test_a_key_names_no_use_unless_it_is_asked_for(plain):
    for key in document(plain, KEYS)['keys']:
        assert set(key) == {'kty', 'kid', 'crv', 'x', 'y', 'alg'}


def test_nothing_of_x509_is_among_the_keys(server):
    assert 'x5c' not in json.dumps(document(server, KEYS))


def test_a_minted_token_verifies_with_the_documents_alone(server):
    claims = verified(server, mint(server))
    assert claims['sub'] == 'spiffe://example.org/web' and claims['iss'] == ISSUER


@pytest.mark.parametrize('spoil', ['signature', 'audience', 'payload', 'another server'])
def test_a_wrong_token_does_not(server, plain, spoil):
    token, audience = mint(server), 'aud'
    head, body, signature = token.split('.')
    if spoil == 'signature':
        token = '.'.join((head, body, ('A' if signature[0] != 'A' else 'B') + signature[1:]))
    elif spoil == 'audience':
        audience = 'other'
    elif spoil == 'payload':
        token = '.'.join((head, mint(server, 'elsewhere').split('.')[1], signature))
    else:
        token = mint(plain)
    with pytest.raises((jwt.InvalidTokenError, ValueError)):
        verified(server, token, audience)


@pytest.mark.parametrize('key_type, alg, kty', [('rsa-2048', 'RS256', 'RSA'), ('ec-p384', 'ES384', 'EC')])
def test_each_kind_of_key_is_shown_and_verifies(make, key_type, alg, kty):
    port = process.free_port()
    mine = make(process.Server, jwt_key_type=key_type, jwt_issuer=ISSUER, oidc_discovery=config(port))
    mine.oidc, mine.web = port, None
    token = mint(mine)
    assert jwt.get_unverified_header(token)['alg'] == alg and verified(mine, token)
    (key,) = document(mine, KEYS)['keys']
    assert (key['kty'], key['alg']) == (kty, alg)
    assert set(key) - {'kty', 'kid', 'alg'} == ({'n', 'e'} if kty == 'RSA' else {'crv', 'x', 'y'})


def test_a_key_is_shown_before_anything_is_signed_with_it(make):
    port = process.free_port()
    mine = make(process.Server, ca_ttl='12s', jwt_issuer=ISSUER, oidc_discovery=config(port))
    mine.oidc, mine.web = port, None
    seen, used = set(), set()

    def rotated():
        seen.update(key['kid'] for key in document(mine, KEYS)['keys'])
        kid = jwt.get_unverified_header(mint(mine))['kid']
        assert kid in seen, 'signed with a key that no verifier can have'
        used.add(kid)
        return len(used) == 3
    eventually(rotated, wait=60, what='three keys')


def test_a_revoked_key_is_gone(make):
    port = process.free_port()
    mine = make(process.Server, oidc_discovery=config(port))
    mine.oidc, mine.web = port, None
    (old,) = document(mine, KEYS)['keys']
    for words in (['prepare'], ['activate', '-authorityID'], ['taint', '-authorityID'], ['revoke', '-authorityID']):
        if words[0] == 'activate':
            words.append([k['kid'] for k in document(mine, KEYS)['keys'] if k['kid'] != old['kid']][0])
        elif len(words) > 1:
            words.append(old['kid'])
        done = mine.cli('localauthority', 'jwt', *words)
        assert done.returncode == 0, done.stderr
    assert old['kid'] not in [k['kid'] for k in document(mine, KEYS)['keys']]


# ---- whom they are for ----
@pytest.mark.parametrize('host', [DOMAIN, 'OIDC.Example.ORG', DOMAIN + ':443', 'second.example', 'second.example:8443'])
def test_the_domains_are_answered(server, host):
    assert document(server, CONFIGURATION, host=host)['jwks_uri'] == 'https://%s/keys' % host
    assert document(server, KEYS, host=host)['keys']


@pytest.mark.parametrize('host', [
    '', 'other.example', 'x.' + DOMAIN, DOMAIN + '.', DOMAIN + ':', DOMAIN + ':x', DOMAIN + ':123456', DOMAIN + ':443:1', DOMAIN + '/',
    DOMAIN + '/x', 'user@' + DOMAIN, DOMAIN + '"', '[::1]', '127.0.0.1', DOMAIN + ',' + DOMAIN, DOMAIN[:-1]])
def test_other_hosts_are_misdirected(server, host):
    for path in (CONFIGURATION, KEYS, '/'):
        status, _, body = ask(server, path, host=host)
        assert status in (400, 421) and b'"keys"' not in body and b'issuer' not in body
        assert not host or host.encode() not in body


def test_without_an_issuer_the_host_is_it_and_the_log_says_what_is_missing(plain):
    told = document(plain, CONFIGURATION, host='second.example:9')
    assert (told['issuer'], told['jwks_uri']) == ('https://second.example:9', 'https://second.example:9/keys')
    assert plain.has_logged('set jwt_issuer')


def test_a_proxy_in_front_says_which_host_was_asked(plain):
    told = document(plain, CONFIGURATION, host='127.0.0.1', X_Forwarded_Host='second.example')
    assert told['issuer'] == 'https://second.example'
    for forwarded in ('other.example', 'second.example, ' + DOMAIN, 'second.example"', '\t'):
        assert ask(plain, CONFIGURATION, host='127.0.0.1', X_Forwarded_Host=forwarded)[0] in (400, 421)


def test_over_tls_nobody_is_asked_what_a_proxy_would_say(server):
    assert ask(server, CONFIGURATION, host='other.example', X_Forwarded_Host=DOMAIN)[0] == 421
    told = document(server, CONFIGURATION, X_Forwarded_Host='second.example', X_Forwarded_Proto='http')
    assert told['jwks_uri'] == ISSUER + '/keys'


def test_addresses_are_https_unless_it_is_allowed_otherwise(plain, make):
    assert document(plain, CONFIGURATION, X_Forwarded_Proto='http')['jwks_uri'].startswith('https://')
    port = process.free_port()
    mine = make(process.Server, oidc_discovery=config(port, allow_insecure_scheme=True))
    mine.oidc, mine.web = port, None
    assert document(mine, CONFIGURATION)['jwks_uri'] == 'http://%s/keys' % DOMAIN
    assert document(mine, CONFIGURATION, X_Forwarded_Proto='https')['jwks_uri'] == ISSUER + '/keys'


def test_a_prefix_and_an_address_of_the_keys_may_be_given(make):
    port = process.free_port()
    mine = make(process.Server, jwt_issuer=ISSUER + '/tenant', oidc_discovery=config(
        port, server_path_prefix='/tenant', jwks_uri='https://cdn.example/k'))
    mine.oidc, mine.web = port, None
    told = document(mine, '/tenant' + CONFIGURATION)
    assert (told['issuer'], told['jwks_uri']) == (ISSUER + '/tenant', 'https://cdn.example/k')
    assert document(mine, '/tenant/keys')['keys']
    for path in (CONFIGURATION, KEYS, '/tenant', '/tenant/', '/tenantkeys', '/tenant/tenant/keys'):
        assert ask(mine, path)[0] == 404, path


# ---- HTTP ----
@pytest.mark.parametrize('path', ['/', '//keys', '/keys/', '/Keys', '/keys/x', '/.well-known', '/.well-known/', '/..', '/%6beys',
                                  '/.well-known/openid-configuration/', '/.well-known/jwks.json'])
def test_other_paths_are_not_found(server, path):
    assert ask(server, path)[0] == 404


def test_a_query_is_passed_over(server):
    assert document(server, KEYS + '?x=1') == document(server, KEYS)


@pytest.mark.parametrize('method', ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])
def test_other_methods_are_not_allowed(server, method):
    for path in (CONFIGURATION, KEYS):
        status, fields, _ = ask(server, path, method)
        assert status == 405 and fields['allow'] == 'GET, HEAD'


@pytest.mark.parametrize('path', [CONFIGURATION, KEYS])
def test_head_is_get_without_its_body(server, path):
    whole, head = ask(server, path), ask(server, path, 'HEAD')
    assert head[0] == 200 and head[2] == b''
    for name in ('content-length', 'content-type', 'etag', 'cache-control'):
        assert head[1][name] == whole[1][name]
    assert int(head[1]['content-length']) == len(whole[2])


@pytest.mark.parametrize('path', [CONFIGURATION, KEYS])
def test_a_tag_saves_the_document(server, path):
    tag = ask(server, path)[1]['etag']
    status, fields, body = ask(server, path, If_None_Match=tag)
    assert (status, fields['etag'], body) == (304, tag, b'')
    assert ask(server, path, If_None_Match='"other", W/' + tag)[0] == 304
    assert ask(server, path, If_None_Match='"other"')[0] == 200
    assert ask(server, path)[1]['cache-control'] == 'no-cache'


def test_a_new_key_is_a_new_tag(make):
    port = process.free_port()
    mine = make(process.Server, oidc_discovery=config(port))
    mine.oidc, mine.web = port, None
    tag = ask(mine, KEYS)[1]['etag']
    assert mine.cli('localauthority', 'jwt', 'prepare').returncode == 0
    status, _, body = ask(mine, KEYS, If_None_Match=tag)
    assert status == 200 and len(json.loads(body)['keys']) == 2


def test_http2_is_spoken_where_it_is_offered(server):
    with tls_context(server.web, ['h2', 'http/1.1']).wrap_socket(
            socket.create_connection(('127.0.0.1', server.oidc), 10), server_hostname=DOMAIN) as tls:
        assert tls.selected_alpn_protocol() == 'h2'
        link = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding='utf-8'))
        link.initiate_connection()
        link.send_headers(1, [(':method', 'GET'), (':scheme', 'https'), (':path', KEYS), (':authority', DOMAIN)], end_stream=True)
        link.send_headers(3, [(':method', 'GET'), (':scheme', 'https'), (':path', KEYS), (':authority', 'x.example')],
                          end_stream=True)
        tls.sendall(link.data_to_send())
        status, bodies, ended = {}, {1: b'', 3: b''}, set()
        while len(ended) < 2:
            for event in link.receive_data(tls.recv(65536)):
                if isinstance(event, h2.events.ResponseReceived):
                    status[event.stream_id] = dict(event.headers)[':status']
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    ended.add(event.stream_id)
            tls.sendall(link.data_to_send())
    assert status == {1: '200', 3: '421'} and json.loads(bodies[1]) == document(server, KEYS)


def test_http11_is_spoken_where_nothing_else_is_offered(server):
    with tls_context(server.web).wrap_socket(socket.create_connection(('127.0.0.1', server.oidc), 10), server_hostname=DOMAIN) as tls:
        tls.sendall(b'GET /keys HTTP/1.1\r\nHost: oidc.example.org\r\n\r\nGET /nothing HTTP/1.1\r\nHost: oidc.example.org\r\n\r\n')
        got = b''
        while b'not found\n' not in got:
            piece = tls.recv(65536)
            assert piece, got
            got += piece
        assert got.startswith(b'HTTP/1.1 200 OK\r\n') and b'HTTP/1.1 404 Not Found\r\n' in got


def test_tls_older_than_1_2_is_refused(server):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers('ALL:@SECLEVEL=0')
    with pytest.raises(OSError):
        context.wrap_socket(socket.create_connection(('127.0.0.1', server.oidc), 10))


@pytest.mark.parametrize('data', [b'\x00' * 100, b'GET /keys\r\n\r\n', b'GET /keys HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n',
                                  b'GET ' + b'/' * 9000 + b' HTTP/1.1\r\n\r\n', b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + b'\xff' * 64])
def test_garbage_ends_its_connection_and_nothing_else(plain, data):
    with socket.create_connection(('127.0.0.1', plain.oidc), 10) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while True:
                piece = sock.recv(65536)
                assert b'"kid"' not in piece
                if not piece:
                    break
    assert document(plain, KEYS)['keys']


# ---- where it listens ----
def test_a_new_certificate_is_taken_up_and_a_broken_one_is_not(make, folder):
    web, port = Web(folder), process.free_port()
    mine = make(process.Server, oidc_discovery=config(port, web, file_sync_interval='1s'))
    mine.oidc, mine.web = port, web

    def serial():
        with tls_context(web).wrap_socket(socket.create_connection(('127.0.0.1', port), 10), server_hostname=DOMAIN) as tls:
            return tls.getpeercert()['serialNumber']
    first = serial()
    web.issue()
    eventually(lambda: serial() != first, what='the new certificate')
    second = serial()
    process.write(web.cert, 'no certificate\n')
    eventually(lambda: mine.has_logged('OIDC discovery keeps its certificate'), what='a word about the broken file')
    assert serial() == second


def test_a_socket_is_for_a_proxy_in_front(make, folder):
    path = folder / 'oidc.sock'
    mine = make(process.Server, oidc_discovery={'domains': [DOMAIN], 'socket_path': path}, jwt_issuer=ISSUER)
    assert stat.S_ISSOCK(os.stat(path).st_mode) and stat.S_IMODE(os.stat(path).st_mode) == 0o777
    connection = http.client.HTTPConnection('localhost')
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    connection.request('GET', KEYS, headers={'Host': DOMAIN})
    assert len(json.loads(connection.getresponse().read())['keys']) == 1
    connection.close()
    assert mine.stop() == 0 and not os.path.exists(path)


def test_a_port_in_use_is_named(plain):
    second = process.Server(oidc_discovery=config(plain.oidc))
    try:
        second.spawn()
        eventually(lambda: not second.running(), what='the end of the second server')
        assert second.has_logged('oidc_discovery: listen on 127.0.0.1:%d' % plain.oidc), second.logs()
    finally:
        second.kill()


def test_a_missing_certificate_is_named(folder):
    missing = folder / 'none.pem'
    mine = process.Server(oidc_discovery=config(process.free_port(), cert_file_path=missing, key_file_path=missing))
    try:
        mine.spawn()
        eventually(lambda: not mine.running(), what='the end')
        assert mine.has_logged('oidc_discovery: ' + missing), mine.logs()
    finally:
        mine.kill()


@pytest.mark.parametrize('table, text', [
    ({'domains': [DOMAIN]}, '"bind_port" or "socket_path" is required in [server.oidc_discovery]'),
    ({'bind_port': 8443, 'bind_address': '127.0.0.1'}, '"domains" is required in [server.oidc_discovery]'),
    ({'domains': ['https://x.example'], 'socket_path': '/tmp/s'}, '"https://x.example" in "domains" is not a host name'),
    ({'domains': [DOMAIN], 'bind_port': 8443}, '"bind_address" is "0.0.0.0" without a certificate'),
    ({'domains': [DOMAIN], 'bind_port': 8443, 'cert_file_path': '/x'}, '"cert_file_path" and "key_file_path" belong together'),
    ({'domains': [DOMAIN], 'bind_prot': 1}, 'unknown key "bind_prot" in [server.oidc_discovery], did you mean "bind_port"?')])
def test_a_configuration_that_cannot_be_is_refused_with_the_way_out(folder, table, text):
    mine = process.Server(folder, oidc_discovery=table)
    process.write(mine.config_path, mine.config())
    done = process.run(['validate', '-config', mine.config_path])
    assert done.returncode == 1 and text in done.stdout + done.stderr, done
