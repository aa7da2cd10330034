# SPDX-License-Identifier: Apache-2.0
"""The server's TCP endpoint and its local socket: TLS, ALPN, client certificates, message size, trailers."""
import os
import socket
import ssl
import stat
import subprocess
import time

import pytest
from cryptography import x509

from support import h2grpc, pki, process, stubs
from support.h2grpc import RpcError
from support.node import Node

GET_BUNDLE = 'spire.api.server.bundle.v1.Bundle/GetBundle'


def get_bundle(connection):
    return connection.unary(GET_BUNDLE, stubs.bundle.GetBundleRequest(), stubs.types.Bundle)


def refused(server, chain, key, roots=None):
    """The TLS alert that ends a connection with this client certificate."""
    try:
        connection = h2grpc.Connection.tls(server.port, roots=roots or server.roots(), chain=chain, key=key)
        get_bundle(connection)
    except ssl.SSLError as error:
        return error
    except h2grpc.ConnectionGone as gone:
        return gone.args[0]
    raise AssertionError('the certificate was accepted')


def test_alpn_is_h2(server):
    with server.tls() as connection:
        assert connection.sock.selected_alpn_protocol() == 'h2'
        get_bundle(connection)


@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(server, version):
    with server.tls(minimum=version, maximum=version) as connection:
        assert connection.sock.version() == version.name.replace('_', '.')
        assert get_bundle(connection).trust_domain == 'example.org'


def test_tls_1_1_is_refused(server):
    done = subprocess.run(['openssl', 's_client', '-connect', '127.0.0.1:%d' % server.port, '-tls1_1', '-cipher',
                           'ALL:@SECLEVEL=0'], stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert done.returncode != 0
    assert b'alert protocol version' in done.stderr, done.stderr


def test_1_3_is_negotiated_by_default(server):
    with server.tls() as connection:
        assert connection.sock.version() == 'TLSv1.3'


def test_tls_1_2_uses_only_ephemeral_elliptic_curves(server):
    done = subprocess.run(['openssl', 's_client', '-connect', '127.0.0.1:%d' % server.port, '-tls1_2', '-cipher', 'kRSA'],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert done.returncode != 0 and b'alert' in done.stderr, done.stderr


def test_a_wrong_alpn_is_refused(server):
    with pytest.raises((ssl.SSLError, h2grpc.ConnectionGone, ConnectionError)):
        connection = server.tls(alpn=('http/1.1',))
        assert connection.sock.selected_alpn_protocol() != 'http/1.1'
        get_bundle(connection)


def test_no_session_tickets(server):
    done = subprocess.run(['openssl', 's_client', '-connect', '127.0.0.1:%d' % server.port, '-tls1_2', '-alpn', 'h2'],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert b'TLS session ticket:' not in done.stdout


def test_the_server_certificate_is_its_spiffe_id_and_the_root_is_not_sent(server):
    done = subprocess.run(['openssl', 's_client', '-connect', '127.0.0.1:%d' % server.port, '-showcerts', '-alpn', 'h2'],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert done.stdout.count(b'BEGIN CERTIFICATE') == 1
    with server.tls() as connection:
        leaf = x509.load_der_x509_certificate(connection.peer())
    assert pki.uris_of(leaf) == ['spiffe://example.org/spire/server']


def test_a_client_certificate_is_requested_but_not_required(server):
    done = subprocess.run(['openssl', 's_client', '-connect', '127.0.0.1:%d' % server.port, '-tls1_2', '-alpn', 'h2', '-state'],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert b'read server certificate request' in done.stderr, done.stderr
    with server.tls() as connection:
        assert get_bundle(connection).trust_domain == 'example.org'


def test_a_client_certificate_of_the_own_trust_domain_is_accepted(server):
    node = Node.attest(server)
    with node.connect() as connection:
        assert get_bundle(connection).trust_domain == 'example.org'


def test_a_client_certificate_of_another_authority_is_refused_with_an_alert(server):
    chain, key = pki.Authority('example.org').leaf(['spiffe://example.org/spire/agent/x'])
    assert 'alert' in str(refused(server, chain, key)).lower()


def test_a_client_certificate_of_another_trust_domain_is_refused_with_an_alert(server):
    chain, key = pki.Authority('other.org').leaf(['spiffe://other.org/spire/agent/x'])
    assert 'alert' in str(refused(server, chain, key)).lower()


@pytest.mark.parametrize('uris', [[], ['spiffe://example.org/a', 'spiffe://example.org/b'], ['https://example.org/a'],
                                  ['spiffe://EXAMPLE.org/a']])
def test_a_client_certificate_without_exactly_one_spiffe_id_is_refused(server, uris):
    chain, key = pki.Authority('example.org').leaf(uris)
    assert refused(server, chain, key)


def test_every_alert_leaves_the_server_serving(server):
    for _ in range(5):
        chain, key = pki.Authority('example.org').leaf(['spiffe://example.org/a'])
        assert refused(server, chain, key)
    with server.tls() as connection:
        get_bundle(connection)


def test_a_message_of_4_mib_is_received_and_one_more_byte_is_not(server):
    # field 15 is unknown to the server: what counts is the size of the message
    def padded(size):
        head = b'\x7a'  # field 15, bytes
        for length in range(size, 0, -1):
            varint, n = b'', length
            while True:
                varint += bytes([(n & 0x7f) | (0x80 if n > 0x7f else 0)])
                n >>= 7
                if not n:
                    break
            if len(head) + len(varint) + length == size:
                return head + varint + b'x' * length
        raise AssertionError
    limit = 4 << 20
    with server.connect() as connection:
        assert connection.unary(GET_BUNDLE, padded(limit), stubs.types.Bundle).trust_domain == 'example.org'
        with pytest.raises(RpcError) as error:
            connection.unary(GET_BUNDLE, padded(limit + 1), stubs.types.Bundle)
        assert error.value.code == h2grpc.RESOURCE_EXHAUSTED
        assert get_bundle(connection).trust_domain == 'example.org'


def test_an_immediate_error_is_one_header_block_with_status_200(server):
    with server.tls() as connection:
        call = connection.start('spire.api.server.entry.v1.Entry/ListEntries')
        call.send(stubs.entry.ListEntriesRequest(), end=True)
        code, _ = call.status()
        assert code == h2grpc.PERMISSION_DENIED
        fields = dict(call.headers)
        assert call.header_blocks == 1 and fields[':status'] == '200'
        assert fields['content-type'] == 'application/grpc' and 'grpc-status' in fields


def test_a_good_answer_has_headers_then_trailers(server):
    with server.tls() as connection:
        call = connection.start(GET_BUNDLE)
        call.send(stubs.bundle.GetBundleRequest(), end=True)
        assert call.receive(stubs.types.Bundle) and call.status() == (0, '')
        assert dict(call.headers)[':status'] == '200' and 'grpc-status' not in dict(call.headers)
        assert call.header_blocks == 2 and dict(call.trailers)['grpc-status'] == '0'


def test_answers_are_never_compressed(server):
    with server.tls() as connection:
        call = connection.start(GET_BUNDLE, [('grpc-accept-encoding', 'identity,deflate,gzip')])
        call.send(stubs.bundle.GetBundleRequest(), end=True)
        assert call.receive(stubs.types.Bundle)
        assert dict(call.headers).get('grpc-encoding', 'identity') == 'identity'


def test_a_compressed_request_is_unimplemented(server):
    with server.tls() as connection:
        call = connection.start(GET_BUNDLE, [('grpc-encoding', 'gzip')])
        call.send_raw(b'\x01\0\0\0\x01x', end=True)
        assert call.status()[0] == h2grpc.UNIMPLEMENTED


def test_unknown_metadata_is_ignored(server):
    with server.tls() as connection:
        connection.unary(GET_BUNDLE, stubs.bundle.GetBundleRequest(), stubs.types.Bundle,
                         metadata=[('x-custom', 'a'), ('x-bin-bin', 'AAEC')])


def test_an_unknown_service_and_an_unknown_method_are_unimplemented(server):
    for method in ('no.such.Service/Method', 'spire.api.server.bundle.v1.Bundle/Nothing'):
        with server.connect() as connection:
            with pytest.raises(RpcError) as error:
                connection.unary(method, b'', stubs.Empty)
            assert error.value.code == h2grpc.UNIMPLEMENTED


def test_a_request_that_is_not_protobuf_is_an_error_of_the_call_only(server):
    with server.connect() as connection:
        for bad in (b'\xff\xff\xff', b'\x0a\xff\xff\xff\xff\x0f', b'\x0b' * 100000):
            with pytest.raises(RpcError) as error:
                connection.unary(GET_BUNDLE, bad, stubs.types.Bundle)
            assert error.value.code in (h2grpc.INTERNAL, h2grpc.INVALID_ARGUMENT, h2grpc.RESOURCE_EXHAUSTED)
        get_bundle(connection)


def test_health_is_on_the_local_socket_only(server):
    assert server.healthy()
    with server.tls() as connection:
        with pytest.raises(RpcError) as error:
            connection.unary('grpc.health.v1.Health/Check', stubs.health.HealthCheckRequest(), stubs.health.HealthCheckResponse)
        assert error.value.code in (h2grpc.UNIMPLEMENTED, h2grpc.PERMISSION_DENIED)


def test_health_of_an_unknown_service_is_not_found(server):
    with server.connect() as connection:
        with pytest.raises(RpcError) as error:
            connection.unary('grpc.health.v1.Health/Check', stubs.health.HealthCheckRequest(service='nothing'),
                             stubs.health.HealthCheckResponse)
        assert error.value.code == h2grpc.NOT_FOUND


def test_health_watch_says_the_state_at_once(server):
    with server.connect() as connection:
        call = connection.start('grpc.health.v1.Health/Watch')
        call.send(stubs.health.HealthCheckRequest(), end=True)
        assert call.receive(stubs.health.HealthCheckResponse).status == 1


def test_the_local_socket_has_mode_0770(server):
    assert stat.S_IMODE(os.stat(server.socket).st_mode) == 0o770


def test_reflection_is_not_there(server):
    for name in ('grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection'):
        with server.connect() as connection:
            with pytest.raises(RpcError) as error:
                connection.unary(name + '/ServerReflectionInfo', b'', stubs.Empty)
            assert error.value.code == h2grpc.UNIMPLEMENTED


def test_a_half_open_connection_harms_nobody(server):
    held = [socket.create_connection(('127.0.0.1', server.port)) for _ in range(40)]
    try:
        held[0].sendall(b'\x16\x03\x01\x02\x00')  # the first bytes of a ClientHello and no more
        with server.tls() as connection:
            get_bundle(connection)
    finally:
        for each in held:
            each.close()


def test_plain_text_on_the_tls_port_harms_nobody(server):
    with socket.create_connection(('127.0.0.1', server.port)) as sock:
        sock.settimeout(30)
        sock.sendall(b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
        while sock.recv(4096):
            pass
    with server.tls() as connection:
        get_bundle(connection)


@pytest.mark.parametrize('timeout, least', [('200m', 0.15), ('1n', 0.0)])
def test_a_call_whose_request_does_not_come_ends_at_its_deadline(server, timeout, least):
    with server.tls() as connection:
        began = time.monotonic()
        call = connection.start(GET_BUNDLE, timeout=timeout)
        assert call.status()[0] == h2grpc.DEADLINE_EXCEEDED
        assert time.monotonic() - began > least
        get_bundle(connection)


def test_stopping_says_goaway_and_ends_well(make):
    mine = make(process.Server)
    connection = mine.tls()
    get_bundle(connection)
    assert mine.stop() == 0
    with pytest.raises(h2grpc.ConnectionGone):
        connection.pump(lambda: False)
    assert connection.goaway is not None
