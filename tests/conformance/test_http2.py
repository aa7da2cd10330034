# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by hand: what a hostile or sloppy peer sends harms that connection and no other. nghttp and h2load look on."""
import socket
import struct
import subprocess
import threading

import h2.errors
import h2.settings
import pytest

from support import h2grpc, stubs

PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
GET_BUNDLE = 'spire.api.server.bundle.v1.Bundle/GetBundle'


def frame(kind, flags=0, stream=0, payload=b''):
    return struct.pack('>I', len(payload))[1:] + bytes([kind, flags]) + struct.pack('>I', stream) + payload


SETTINGS = frame(4)


def raw(server):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(server.socket)
    return sock


def ends(sock):
    """Reads until the server closes; what it said. A timeout fails the test."""
    said = b''
    try:
        while True:
            data = sock.recv(65536)
            if not data:
                return said
            said += data
    except ConnectionResetError:
        return said


def goaway_code(said):
    at = 0
    while at + 9 <= len(said):
        length, kind = int.from_bytes(said[at:at + 3], 'big'), said[at + 3]
        if kind == 7:
            return int.from_bytes(said[at + 13:at + 17], 'big')
        at += 9 + length
    return None


def alive(server):
    with server.connect() as link:
        assert link.unary(GET_BUNDLE, b'', stubs.types.Bundle).trust_domain == 'example.org'


def good_headers(server):
    """A well-formed HEADERS block for GetBundle, made by a throw-away encoder."""
    import hpack
    return hpack.Encoder().encode([(':method', 'POST'), (':scheme', 'http'), (':path', '/' + GET_BUNDLE),
                                   (':authority', 'x'), ('content-type', 'application/grpc'), ('te', 'trailers')])


@pytest.mark.parametrize('first', [b'GET / HTTP/1.1\r\nHost: x\r\n\r\n', b'\0' * 64, PREFACE[:10] + b'X' * 30,
                                   PREFACE + frame(0, 1, 1, b'data without a stream'),
                                   PREFACE + b'\xff\xff\xff' + b'\0' * 60])
def test_a_bad_preface_ends_the_connection(server, first):
    with raw(server) as sock:
        sock.sendall(first)
        ends(sock)
    alive(server)


@pytest.mark.parametrize('what,sent', [
    ('data on stream 0', frame(0, 0, 0, b'x')), ('headers on stream 0', frame(1, 4, 0, b'\x82')),
    ('an even stream', frame(1, 5, 2, b'\x82')), ('settings on a stream', frame(4, 0, 1)),
    ('settings of 5 bytes', frame(4, 0, 0, b'12345')), ('a ping of 7 bytes', frame(6, 0, 0, b'1234567')),
    ('a window update of 0', frame(8, 0, 0, struct.pack('>I', 0))),
    ('a window beyond 2^31', frame(8, 0, 0, struct.pack('>I', 0x7fffffff)) * 2),
    ('a continuation of nothing', frame(9, 4, 1, b'\x82')), ('push promise', frame(5, 4, 1, b'\0\0\0\2\x82')),
    ('a broken header block', frame(1, 5, 1, b'\xff\xff\xff\xff\xff\xff')),
    ('a frame larger than allowed', frame(0, 0, 1, b'x' * 20000)),
    ('initial window of 2^31', frame(4, 0, 0, struct.pack('>HI', 4, 0x80000000)))])
def test_a_frame_against_the_rules_ends_the_connection_with_goaway(server, what, sent):
    with raw(server) as sock:
        sock.sendall(PREFACE + SETTINGS + sent)
        assert goaway_code(ends(sock)) is not None
    alive(server)


def test_a_flood_of_continuations_is_ended(server):
    with raw(server) as sock:
        try:
            sock.sendall(PREFACE + SETTINGS + frame(1, 1, 1, good_headers(server)))
            for _ in range(5000):
                sock.sendall(frame(9, 0, 1, b'\x00\x01a\x01b' * 100))
        except (BrokenPipeError, ConnectionResetError):
            pass
        ends(sock)
    alive(server)


def flood(server, pieces):
    """Sends without end while another thread reads; true when the server ended it."""
    with raw(server) as sock:
        reader = threading.Thread(target=lambda: ends_quietly(sock), daemon=True)
        sock.sendall(PREFACE + SETTINGS)
        reader.start()
        try:
            for piece in pieces:
                sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return True
        reader.join(20)
        return not reader.is_alive()


def ends_quietly(sock):
    try:
        ends(sock)
    except OSError:
        pass


def test_rapid_reset_is_ended(server):
    block = good_headers(server)
    pieces = (frame(1, 4, 2 * i + 1, block) + frame(3, 0, 2 * i + 1, struct.pack('>I', 8)) for i in range(20000))
    assert flood(server, pieces)
    alive(server)


def test_a_ping_flood_is_ended(server):
    assert flood(server, (frame(6, 0, 0, b'12345678') for _ in range(50000)))
    alive(server)


def test_a_settings_flood_is_ended(server):
    assert flood(server, (SETTINGS for _ in range(50000)))
    alive(server)


def test_a_few_pings_are_answered(server):
    with raw(server) as sock:
        sock.sendall(PREFACE + SETTINGS + frame(6, 0, 0, b'abcdefgh'))
        said = b''
        while frame(6, 1, 0, b'abcdefgh') not in said:
            data = sock.recv(4096)
            assert data
            said += data


def test_headers_beyond_the_bound_are_refused(server):
    with server.connect() as link:
        call = link.start(GET_BUNDLE, [('x-%d' % i, 'v' * 1000) for i in range(40)])
        try:
            call.send(b'', end=True)
            code, _ = call.status()
            assert code != 0
        except h2grpc.ConnectionGone:
            pass
    alive(server)


@pytest.mark.parametrize('headers,wanted', [
    ([(':method', 'GET')], None), ([('content-type', 'text/plain')], None), ([('content-type', '')], None)])
def test_a_request_that_is_not_grpc_is_refused(server, headers, wanted):
    base = dict([(':method', 'POST'), (':scheme', 'http'), (':path', '/' + GET_BUNDLE), (':authority', 'x'),
                 ('content-type', 'application/grpc'), ('te', 'trailers')])
    base.update(dict(headers))
    with server.connect() as link:
        call = link.start('', headers=list(base.items()))
        call.send(b'', end=True)
        try:
            link.pump(call.closed)
        except h2grpc.ConnectionGone:
            pass
        fields = dict(call.headers or [])
        assert call.reset is not None or fields.get(':status') in ('405', '415') or fields.get('grpc-status', '0') != '0'
    alive(server)


def test_a_stream_limit_is_announced_and_held(server):
    with server.connect() as link:
        link.pump(lambda: h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS in link.h2.remote_settings)
        limit = link.h2.remote_settings.max_concurrent_streams
        assert 100 <= limit <= 1000
        link.h2.remote_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = 10 * limit  # a peer that does not care
        link.h2.remote_settings.acknowledge()
        held = [link.start(GET_BUNDLE) for _ in range(limit)]  # each waits for its request
        for call in (held[0], held[-1]):
            call.send(b'', end=True)
            assert call.receive(stubs.types.Bundle).trust_domain == 'example.org'
            held.append(link.start(GET_BUNDLE))  # in the place that became free
        assert not any(call.closed() for call in held[1:limit - 1])
        assert link.goaway is None
        link.start(GET_BUNDLE)  # one too many, after the limit was acknowledged: an error of the connection (RFC 9113 5.1.2)
        with pytest.raises(h2grpc.ConnectionGone):
            link.pump(lambda: False)
        assert link.goaway.error_code == h2.errors.ErrorCodes.PROTOCOL_ERROR
    alive(server)


def test_half_sent_messages_wait_and_are_answered_when_complete(server):
    with server.connect() as link:
        call = link.start(GET_BUNDLE)
        whole = h2grpc.frame(b'')
        for byte in whole[:-1]:
            call.send_raw(bytes([byte]))
        call.send_raw(whole[-1:], end=True)
        assert call.receive(stubs.types.Bundle).trust_domain == 'example.org'


def test_a_message_cut_short_by_the_end_is_an_error(server):
    with server.connect() as link:
        for cut in (b'\0\0', b'\0\0\0\0\x05abc'):
            call = link.start(GET_BUNDLE)
            call.send_raw(cut, end=True)
            assert call.status()[0] != 0
    alive(server)


def test_no_message_at_all_is_an_error(server):
    with server.connect() as link:
        call = link.start(GET_BUNDLE, end=True)
        assert call.status()[0] != 0


def test_a_reader_that_does_not_read_does_not_stop_others(server):
    server.entries.BatchCreateEntry(stubs.entry.BatchCreateEntryRequest(
        entries=[server.entry('/big/%d' % i, '/big', ['unix:uid:%d' % i], hint='h' * 500) for i in range(500)]))
    with server.connect() as slow:
        slow.auto_window = False
        calls = [slow.start('spire.api.server.entry.v1.Entry/ListEntries') for _ in range(8)]
        for call in calls:
            call.send(b'', end=True)
        alive(server)
        slow.auto_window = True
    alive(server)


def test_a_small_window_gets_the_whole_answer_piece_by_piece(server):
    settings = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 100}
    with server.connect(h2_settings=settings) as link:
        assert link.unary(GET_BUNDLE, b'', stubs.types.Bundle).trust_domain == 'example.org'


def test_a_reset_in_mid_stream_frees_the_call(server):
    with server.connect() as link:
        for _ in range(50):
            call = link.start('grpc.health.v1.Health/Watch')
            call.send(b'', end=True)
            call.receive()
            call.cancel()
        assert link.unary(GET_BUNDLE, b'', stubs.types.Bundle)


def test_nghttp_speaks_with_the_tls_port(server):
    done = subprocess.run(['nghttp', '-nv', '--no-verify-peer', 'https://127.0.0.1:%d/x' % server.port],
                          capture_output=True, timeout=60)
    text = done.stdout.decode(errors='replace')
    assert 'recv SETTINGS frame' in text and 'negotiated protocol: h2' in text.lower(), text + done.stderr.decode()
    alive(server)


def test_h2load_ends_all_its_requests(server):
    done = subprocess.run(['h2load', '-n', '200', '-c', '4', '-m', '10', '-H', 'content-type: application/grpc', '-H', 'te: trailers',
                           'https://127.0.0.1:%d/%s' % (server.port, GET_BUNDLE)], capture_output=True, timeout=120)
    text = done.stdout.decode()
    assert '200 total, 200 started, 200 done' in text and '0 errored, 0 timeout' in text, text
    alive(server)


def test_unfinished_messages_of_all_connections_together_are_bounded(server):
    """Six connections leave four messages of nearly 4 MiB unfinished each: more than the server keeps. The large ones end,
    a small call still gets through, and afterwards everything is as before."""
    links = [server.tls() for _ in range(6)]
    ended = 0
    try:
        for link in links:
            for _ in range(4):
                call = link.start('spire.api.server.bundle.v1.Bundle/GetBundle')
                call.send_raw(struct.pack('>BI', 0, 4 << 20) + bytes((4 << 20) - 100_000))
                if call.ended or call.trailers or call.reset is not None:
                    ended += 1
        with server.tls() as small:
            small.unary('spire.api.server.bundle.v1.Bundle/GetBundle', stubs.bundle.GetBundleRequest(), stubs.types.Bundle)
        with open('/proc/%d/status' % server.process.pid) as status:
            assert 'VmRSS' in status.read()
    finally:
        for link in links:
            link.close()
    assert ended, 'none of 24 messages of 4 MiB was refused'
