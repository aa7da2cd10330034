# SPDX-License-Identifier: Apache-2.0
"""Two real servers federate: bundle endpoints of both profiles, workloads of both sides, rotation, outage, and endpoints
that mean no good."""
import base64
import contextlib
import http.client
import http.server
import json
import os
import socket
import ssl
import subprocess
import threading

import pytest
from cryptography import x509

from support import h2grpc, pki, process, stubs
from support.process import eventually

B, T = stubs.bundle, stubs.types
ME = 'unix:uid:%d' % os.geteuid()


def spiffe_endpoint(port, **more):
    return {'bundle_endpoint': {'address': '127.0.0.1', 'port': port, 'profile': {'https_spiffe': {}}, **more}}


def fetch(server, name):
    return server.bundles.GetFederatedBundle(B.GetFederatedBundleRequest(trust_domain=name))


def own(server):
    return server.bundles.GetBundle(B.GetBundleRequest())


def roots(bundle):
    return [a.asn1 for a in bundle.x509_authorities]


def federate(server, name, url, first=None, profile='https_spiffe'):
    """`federation create`, with the bundle to begin with from a file."""
    args = ['federation', 'create', '-trustDomain', name, '-bundleEndpointURL', url, '-bundleEndpointProfile', profile]
    if profile == 'https_spiffe':
        args += ['-endpointSpiffeID', 'spiffe://%s/spire/server' % name]
    if first:
        path = server.folder / (name + '.pem')
        process.write(path, first)
        args += ['-trustDomainBundlePath', path]
    done = server.cli(*args)
    assert done.returncode == 0, done.stderr


def refresh(server, name):
    return server.cli('federation', 'refresh', '-id', name)


def refreshed(server, name):
    done = refresh(server, name)
    assert (done.returncode, done.stdout) == (0, 'Bundle refreshed\n'), done.stderr


@pytest.fixture(scope='module')
def pair():
    """Two servers and an agent for each; the workload is this process."""
    ports = [process.free_port(), process.free_port()]
    roles = []
    try:
        for name, port in zip(('example.org', 'other.org'), ports):
            roles.append(process.Server(trust_domain=name, federation=spiffe_endpoint(port)).start())
        a, b = roles
        federate(a, 'other.org', 'https://127.0.0.1:%d/' % ports[1], b.roots())
        federate(b, 'example.org', 'https://127.0.0.1:%d/' % ports[0], a.roots())
        refreshed(a, 'other.org')
        refreshed(b, 'example.org')
        a.endpoint, b.endpoint = ports
        a.add('/web', '/host', [ME], federates_with=['other.org'])
        b.add('/db', '/host', [ME], federates_with=['example.org'])
        for server in (a, b):
            agent = process.Agent(server.port, trust_domain=server.trust_domain, join_token=server.token('/host'),
                                  roots=server.roots()).start()
            server.agent = agent
            roles.append(agent)
        yield a, b
    finally:
        for role in reversed(roles):
            role.close()


def test_each_side_has_the_others_bundle_with_hint_and_sequence(pair):
    for here, there in (pair, pair[::-1]):
        kept = fetch(here, there.trust_domain)
        assert roots(kept) == roots(own(there)) and kept.sequence_number == own(there).sequence_number
        assert kept.refresh_hint == 300
        assert [(k.key_id, k.public_key) for k in kept.jwt_authorities] == [
            (k.key_id, k.public_key) for k in own(there).jwt_authorities]


def svid_of(server):
    def whole():
        with server.agent.workload() as workload:
            answer = workload.fetch()
            return answer if answer.svids and answer.federated_bundles else None
    return eventually(whole, what='SVID with a federated bundle')


def until(call, good):
    """Reads the stream to the first answer that is good: a new SVID may come as an update of its own before it."""
    for _ in range(5):
        if good(call.receive(stubs.workload.X509SVIDResponse, 20)):
            return
    raise AssertionError('five updates, none of them good')


def pem_certificates(ders):
    """PEM of concatenated DER certificates."""
    out = ''
    while ders:
        head = 4 if ders[1] == 0x82 else 3 if ders[1] == 0x81 else 2
        size = head + (int.from_bytes(ders[2:head], 'big') if head > 2 else ders[1])
        out += pki.pem_from_der(ders[:size])
        ders = ders[size:]
    return out


def tls_context(side, answer, foreign, folder):
    """This workload's end of an mTLS connection: its own SVID, the other side's roots."""
    svid = answer.svids[0]
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=pem_certificates(answer.federated_bundles['spiffe://' + foreign]))
    key = base64.encodebytes(svid.x509_svid_key).decode()
    h2grpc.load_chain(context, pem_certificates(svid.x509_svid),
                      '-----BEGIN PRIVATE KEY-----\n' + key + '-----END PRIVATE KEY-----\n')
    return context


def test_workloads_of_both_sides_connect_by_mtls(pair, folder):
    a, b = pair
    left, right = svid_of(a), svid_of(b)
    assert list(left.federated_bundles) == ['spiffe://other.org']
    server = tls_context(ssl.PROTOCOL_TLS_SERVER, right, 'example.org', folder)
    client = tls_context(ssl.PROTOCOL_TLS_CLIENT, left, 'other.org', folder)
    one, two = socket.socketpair()
    seen = {}

    def serve():
        with server.wrap_socket(two, server_side=True) as end:
            seen['client'] = end.getpeercert(True)
            end.sendall(end.recv(5))

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(one) as end:
        end.sendall(b'hello')
        assert end.recv(5) == b'hello'
        seen['server'] = end.getpeercert(True)
    thread.join(10)
    uris = {k: pki.uris_of(x509.load_der_x509_certificate(v)) for k, v in seen.items()}
    assert uris == {'client': ['spiffe://example.org/web'], 'server': ['spiffe://other.org/db']}


def test_bundle_streams_carry_both_trust_domains(pair):
    with pair[0].agent.workload() as workload:
        call = workload.watch_bundles()
        answer = call.receive(stubs.workload.X509BundlesResponse, 10)
        call.cancel()
    assert sorted(answer.bundles) == ['spiffe://example.org', 'spiffe://other.org']
    assert answer.bundles['spiffe://other.org'] == b''.join(roots(own(pair[1])))


def test_a_new_authority_of_one_side_reaches_workloads_of_the_other(pair):
    a, b = pair
    new = pki.der_of(pki.Authority('other.org').certificate)
    with a.agent.workload() as workload:
        call = workload.watch()
        before = call.receive(stubs.workload.X509SVIDResponse)
        assert not before.federated_bundles['spiffe://other.org'].endswith(new)
        b.bundles.AppendBundle(B.AppendBundleRequest(
            x509_authorities=[T.X509Certificate(asn1=new)],
            jwt_authorities=[T.JWTKey(public_key=pki.public_der(pki.new_key()), key_id='kid-2')]))
        refreshed(a, 'other.org')
        assert fetch(a, 'other.org').sequence_number == own(b).sequence_number
        assert 'kid-2' in [k.key_id for k in fetch(a, 'other.org').jwt_authorities]
        until(call, lambda answer: answer.federated_bundles['spiffe://other.org'] == b''.join(roots(own(b))))
        call.cancel()


def test_a_workload_loses_a_trust_domain_with_its_entry(pair):
    a, _ = pair
    with a.agent.workload() as workload:
        call = workload.watch()
        assert call.receive(stubs.workload.X509SVIDResponse, 10).federated_bundles
        entry = next(e for e in a.entries.ListEntries(stubs.entry.ListEntriesRequest()).entries if e.spiffe_id.path == '/web')
        kept = list(entry.federates_with)
        del entry.federates_with[:]
        mask = T.EntryMask(federates_with=True)
        a.entries.BatchUpdateEntry(stubs.entry.BatchUpdateEntryRequest(entries=[entry], input_mask=mask))
        until(call, lambda answer: not answer.federated_bundles)
        entry.federates_with.extend(kept)
        a.entries.BatchUpdateEntry(stubs.entry.BatchUpdateEntryRequest(entries=[entry], input_mask=mask))
        until(call, lambda answer: answer.federated_bundles)
        call.cancel()


def test_one_side_being_down_harms_nobody(pair):
    a, b = pair
    before = fetch(a, 'other.org')
    b.kill()
    try:
        done = refresh(a, 'other.org')
        assert done.returncode == 1 and done.stderr.startswith('Error: failed to refresh bundle: rpc error: code = Internal')
        assert fetch(a, 'other.org') == before
        assert a.cli('healthcheck').returncode == 0
        assert svid_of(a).federated_bundles['spiffe://other.org'] == b''.join(roots(before))
        assert a.has_logged('Could not fetch the bundle of a federated trust domain, trying again')
    finally:
        b.start()
    refreshed(a, 'other.org')


# ---- the endpoint itself ----

@contextlib.contextmanager
def https(port, version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = version
    connection = http.client.HTTPSConnection('127.0.0.1', port, context=context, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection, method='GET', path='/', **headers):
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer, answer.read()


def test_get_of_the_root_is_the_bundle(pair):
    a, _ = pair
    with https(a.endpoint) as connection:
        answer, body = ask(connection)
        assert answer.status == 200 and answer.getheader('content-type') == 'application/json'
        document = json.loads(body)
        assert document['spiffe_refresh_hint'] == 300 and document['spiffe_sequence'] == own(a).sequence_number
        assert [base64.b64decode(k['x5c'][0]) for k in document['keys'] if k['use'] == 'x509-svid'] == roots(own(a))
        assert [k['kid'] for k in document['keys'] if k['use'] == 'jwt-svid'] == [
            k.key_id for k in own(a).jwt_authorities]


def test_other_paths_are_not_found_and_other_methods_not_allowed(pair):
    with https(pair[0].endpoint) as connection:
        for path in ('/bundle', '//', '/..', '/index.html'):
            assert ask(connection, path=path)[0].status == 404, path
    for method in ('POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'):
        with https(pair[0].endpoint) as connection:
            assert ask(connection, method)[0].status == 405, method


def test_a_tag_saves_the_document(pair):
    a, _ = pair
    with https(a.endpoint) as connection:
        tag = ask(connection)[0].getheader('etag')
        answer, body = ask(connection, **{'If-None-Match': tag})
        assert answer.status == 304 and body == b''
        assert ask(connection, **{'If-None-Match': '"other"'})[0].status == 200
        a.bundles.AppendBundle(B.AppendBundleRequest(
            x509_authorities=[T.X509Certificate(asn1=pki.der_of(pki.Authority('example.org').certificate))]))
        answer, body = ask(connection, **{'If-None-Match': tag})
        assert answer.status == 200 and len(json.loads(body)['keys']) >= 2


def test_the_endpoint_proves_itself_with_the_servers_svid(pair):
    a, _ = pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=a.roots())
    with socket.create_connection(('127.0.0.1', a.endpoint)) as sock, context.wrap_socket(sock) as tls:
        assert pki.uris_of(x509.load_der_x509_certificate(tls.getpeercert(True))) == ['spiffe://example.org/spire/server']


def test_both_versions_of_http_are_spoken(pair):
    for offered, chosen in ((['h2', 'http/1.1'], 'h2'), (['http/1.1'], 'http/1.1')):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(offered)
        with socket.create_connection(('127.0.0.1', pair[0].endpoint)) as sock, context.wrap_socket(sock) as tls:
            assert tls.selected_alpn_protocol() == chosen


@pytest.mark.parametrize('version, good', [(ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)])
def test_tls_versions(pair, version, good):
    with https(pair[0].endpoint, version) as connection:
        assert ask(connection)[0].status == 200


def test_a_rotation_of_one_sides_ca_reaches_the_other(make):
    port = process.free_port()
    b = make(process.Server, trust_domain='other.org', federation=spiffe_endpoint(port), ca_ttl='20s')
    a = make(process.Server)
    federate(a, 'other.org', 'https://127.0.0.1:%d/' % port, b.roots())
    refreshed(a, 'other.org')
    first = roots(fetch(a, 'other.org'))
    eventually(lambda: len(roots(own(b))) > len(first), what='the next authority')
    refreshed(a, 'other.org')
    assert set(first) < set(roots(fetch(a, 'other.org'))) and roots(fetch(a, 'other.org')) == roots(own(b))


# ---- https_web ----

class Web:
    """A certificate authority of the Web, and what it issues for localhost."""

    def __init__(self, folder, name='web'):
        self.authority = pki.Authority('web.invalid')
        self.roots, self.cert, self.key = folder / (name + '-ca.pem'), folder / (name + '.pem'), folder / (name + '.key')
        process.write(self.roots, self.authority.pem())
        self.issue()

    def issue(self, dns=('localhost',)):
        chain, key = self.authority.leaf([], dns=dns)
        process.write(self.cert, chain)
        process.write(self.key, key)


def web_pair(make, monkeypatch, trusted, served):
    """other.org serves with `served`'s certificate; example.org trusts the authorities in `trusted`."""
    port = process.free_port()
    files = {'cert_file_path': served.cert, 'key_file_path': served.key}
    b = make(process.Server, trust_domain='other.org', federation={'bundle_endpoint': {
        'address': '127.0.0.1', 'port': port, 'refresh_hint': '1h', 'profile': {'https_web': {'serving_cert_file': files}}}})
    monkeypatch.setenv('SSL_CERT_FILE', str(trusted))
    a = make(process.Server)
    return a, b, port


def test_https_web_needs_no_bundle_to_begin_with(make, monkeypatch, folder):
    web = Web(folder)
    a, b, port = web_pair(make, monkeypatch, web.roots, web)
    federate(a, 'other.org', 'https://localhost:%d/' % port, profile='https_web')
    refreshed(a, 'other.org')
    assert roots(fetch(a, 'other.org')) == roots(own(b)) and fetch(a, 'other.org').refresh_hint == 3600
    # by another name than the certificate's
    update = ['federation', 'update', '-trustDomain', 'other.org', '-bundleEndpointProfile', 'https_web']
    assert a.cli(*update, '-bundleEndpointURL', 'https://127.0.0.1:%d/' % port).returncode == 0
    assert refresh(a, 'other.org').returncode == 1
    assert roots(fetch(a, 'other.org')) == roots(own(b))


def test_https_web_refuses_authorities_it_does_not_know(make, monkeypatch, folder):
    web, other = Web(folder), Web(folder, 'other')
    a, b, port = web_pair(make, monkeypatch, other.roots, web)
    federate(a, 'other.org', 'https://localhost:%d/' % port, profile='https_web')
    done = refresh(a, 'other.org')
    assert done.returncode == 1 and 'x509' in done.stderr, done.stderr
    assert a.bundles.CountBundles(B.CountBundlesRequest()).count == 1


# ---- relationships of the configuration ----

def test_a_relationship_of_the_configuration_works_and_is_not_shown(make):
    port = process.free_port()
    b = make(process.Server, trust_domain='other.org', federation=spiffe_endpoint(port))
    fixed = {'"other.org"': {'bundle_endpoint_url': 'https://127.0.0.1:%d/' % port, 'bundle_endpoint_profile': {
        'https_spiffe': {'endpoint_spiffe_id': 'spiffe://other.org/spire/server'}}}}
    a = make(process.Server, federation={'federates_with': fixed})
    assert a.cli('bundle', 'set', '-id', 'spiffe://other.org', input=b.roots()).returncode == 0
    federate(a, 'other.org', 'https://127.0.0.1:1/')  # of the API: overridden
    refreshed(a, 'other.org')
    assert fetch(a, 'other.org').sequence_number == own(b).sequence_number
    assert a.cli('federation', 'delete', '-id', 'other.org').returncode == 0
    assert a.cli('federation', 'list').stdout == 'Found 0 federation relationships\n'
    refreshed(a, 'other.org')


def test_acme_is_refused_with_the_way_out(folder):
    path = folder / 'server.toml'
    process.write(path, '[server]\ntrust_domain = "example.org"\ndata_dir = "/nonexistent"\n'
                  '[server.federation.bundle_endpoint.profile.https_web.acme]\ndomain_name = "x"\n')
    done = process.run(['validate', '-config', path])
    assert done.returncode == 1 and '"acme" is not supported' in done.stderr + done.stdout
    assert 'serving_cert_file' in done.stderr + done.stdout


# ---- endpoints that mean no good ----

class Endpoint:
    """A bundle endpoint played by hand; `answer` is (status, headers, body)."""

    def __init__(self, authority, uris=('spiffe://other.org/spire/server',), **leaf):
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                status, headers, body = endpoint.answer
                self.send_response(status)
                for name, value in {'Content-Length': len(body), **headers}.items():
                    if value is not None:
                        self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *args):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        h2grpc.load_chain(context, *authority.leaf(list(uris), **leaf))
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.answer = (500, {}, b'')
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def document(authority, sequence=5, **more):
    der = pki.der_of(authority.certificate)
    numbers = authority.key.public_key().public_numbers()

    def b64(number):
        return base64.urlsafe_b64encode(number.to_bytes(32, 'big')).rstrip(b'=').decode()

    return {'keys': [{'use': 'x509-svid', 'kty': 'EC', 'crv': 'P-256', 'x': b64(numbers.x), 'y': b64(numbers.y),
                      'x5c': [base64.b64encode(der).decode()], **more}], 'spiffe_sequence': sequence}


@pytest.fixture(scope='module')
def victim():
    server = process.Server().start()
    server.other = pki.Authority('other.org')
    try:
        yield server
    finally:
        server.close()


def point_at(server, endpoint):
    put = T.Bundle(trust_domain='other.org', sequence_number=4,
                   x509_authorities=[T.X509Certificate(asn1=pki.der_of(server.other.certificate))])
    server.bundles.BatchSetFederatedBundle(B.BatchSetFederatedBundleRequest(bundle=[put]))
    server.cli('federation', 'delete', '-id', 'other.org')
    federate(server, 'other.org', 'https://127.0.0.1:%d/' % endpoint.port)
    return put


def bad_documents():
    other = pki.Authority('other.org')
    good = document(other)
    key = good['keys'][0]
    for name, change in {
            'nothing': b'', 'no JSON': b'<html>', 'not an object': b'[]', 'NUL': b'\0' * 100, 'no UTF-8': b'{"keys":["\xff"]}',
            'deep': b'[' * 200_000, 'no keys': {}, 'keys of the wrong type': {'keys': {}}, 'no authorities': {'keys': []},
            'a key that is no object': {'keys': [7]}, 'without x5c': {'keys': [{**key, 'x5c': []}]},
            'two in x5c': {'keys': [{**key, 'x5c': key['x5c'] * 2}]}, 'x5c of no base64': {'keys': [{**key, 'x5c': ['%%']}]},
            'x5c of no certificate': {'keys': [{**key, 'x5c': ['AAAA']}]}, 'a private key': {'keys': [{**key, 'd': 'AAAA'}]},
            'another key than the certificate': {'keys': [{**key, 'x': document(pki.Authority('other.org'))['keys'][0]['x']}]},
            'a JWT key without kid': {'keys': [key, {**key, 'use': 'jwt-svid'}]},
            'an older sequence': {**good, 'spiffe_sequence': 3}, 'a negative sequence': {**good, 'spiffe_sequence': -1},
            'a sequence of text': {**good, 'spiffe_sequence': '5'}, 'a fraction': {**good, 'spiffe_sequence': 5.5},
            'a negative hint': {**good, 'spiffe_refresh_hint': -1}, 'a huge hint': {**good, 'spiffe_refresh_hint': 2**63},
            'JWT keys alone': {'keys': [{**key, 'use': 'jwt-svid', 'kid': 'k'}]},
            'too many keys': {'keys': [key] * 2001}, 'too large': b' ' * (2 << 20)}.items():
        yield name, change if isinstance(change, bytes) else json.dumps(change).encode()


def test_documents_that_change_nothing(victim):
    endpoint = Endpoint(victim.other)
    try:
        before = point_at(victim, endpoint)
        for name, body in bad_documents():
            endpoint.answer = (200, {'Content-Type': 'application/json'}, body)
            done = refresh(victim, 'other.org')
            assert done.returncode == 1, name
            assert 'failed to refresh bundle' in done.stderr, name
            assert fetch(victim, 'other.org') == before, name
        endpoint.answer = (200, {}, json.dumps(document(victim.other, 6)).encode())
        refreshed(victim, 'other.org')
        assert fetch(victim, 'other.org').sequence_number == 6
    finally:
        endpoint.close()


@pytest.mark.parametrize('answer', [
    (302, {'Location': 'https://127.0.0.1:1/'}, b''), (304, {}, b''), (404, {}, b'{}'), (500, {}, b''),
    (200, {'Content-Length': str(1 << 40)}, b'{'), (200, {'Content-Length': '-1'}, b'{}'),
    (200, {'Content-Length': None, 'Transfer-Encoding': 'chunked'}, b'zz\r\n')])
def test_answers_that_are_no_document(victim, answer):
    endpoint = Endpoint(victim.other)
    try:
        before = point_at(victim, endpoint)
        endpoint.answer = answer
        assert refresh(victim, 'other.org').returncode == 1
        assert fetch(victim, 'other.org') == before
    finally:
        endpoint.close()


@pytest.mark.parametrize('what, made', [
    ('another ID', lambda a: Endpoint(a, ['spiffe://other.org/someone'])),
    ('another trust domain', lambda a: Endpoint(a, ['spiffe://example.org/spire/server'])),
    ('two IDs', lambda a: Endpoint(a, ['spiffe://other.org/spire/server', 'spiffe://other.org/x'])),
    ('no ID', lambda a: Endpoint(a, [], dns=['localhost'])),
    ('another authority', lambda a: Endpoint(pki.Authority('other.org'))),
    ('expired', lambda a: Endpoint(a, ttl=-1, start=-100)),
    ('a CA as leaf', lambda a: Endpoint(a, ca=True))])
def test_endpoints_that_are_somebody_else(victim, what, made):
    endpoint = made(victim.other)
    try:
        before = point_at(victim, endpoint)
        endpoint.answer = (200, {}, json.dumps(document(victim.other, 9)).encode())
        assert refresh(victim, 'other.org').returncode == 1, what
        assert fetch(victim, 'other.org') == before
    finally:
        endpoint.close()


def test_openssl_verifies_a_federated_svid(pair, folder):
    a, b = pair
    answer = svid_of(a)
    process.write(folder / 'roots.pem', pem_certificates(answer.federated_bundles['spiffe://other.org']))
    process.write(folder / 'leaf.pem', pem_certificates(svid_of(b).svids[0].x509_svid))
    done = subprocess.run(['openssl', 'verify', '-CAfile', folder / 'roots.pem', folder / 'leaf.pem'],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
