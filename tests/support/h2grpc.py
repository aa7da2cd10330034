# SPDX-License-Identifier: Apache-2.0
"""A small gRPC client on python-h2, for what grpcio hides: TLS peers named by a URI instead of a host, ALPN, alerts,
trailers, GOAWAY and raw frames. Blocking, one thread: whoever waits reads the socket."""
import base64
import os
import select
import socket
import ssl
import struct
import tempfile
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from . import stubs

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, \
    RESOURCE_EXHAUSTED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, \
    UNAUTHENTICATED = range(17)

WAIT = 30.0  # seconds; only ever reached by a failing test


class RpcError(Exception):
    def __init__(self, code, message, trailers=()):
        super().__init__('rpc error: code %s: %s' % (code, message))
        self.code, self.message, self.trailers = code, message, list(trailers)

    def reason(self):
        """The reason of the PermissionDeniedDetails in the trailer, or None."""
        raw = dict(self.trailers).get('grpc-status-details-bin')
        if raw is None:
            return None
        status = stubs.rpc_status.Status.FromString(base64.b64decode(raw + '=' * (-len(raw) % 4)))
        assert status.code == self.code, status
        details = stubs.types.PermissionDeniedDetails()
        assert status.details[0].type_url == 'type.googleapis.com/spire.api.types.PermissionDeniedDetails'
        details.ParseFromString(status.details[0].value)
        return details.reason


class ConnectionGone(Exception):
    pass


def percent_decode(text):
    out, i = bytearray(), 0
    while i < len(text):
        if text[i] == '%':
            out.append(int(text[i + 1:i + 3], 16))
            i += 3
        else:
            out += text[i].encode()
            i += 1
    return out.decode()


def frame(message):
    return struct.pack('>BI', 0, len(message)) + message


class Call:
    def __init__(self, connection, stream_id):
        self.connection, self.stream_id = connection, stream_id
        self.headers = self.trailers = None   # lists of pairs
        self.header_blocks = 0
        self.buffer = bytearray()
        self.ended = False
        self.reset = None                     # the error code of an RST_STREAM

    # ---- out ----
    def send(self, message, end=False):
        if not isinstance(message, bytes):
            message = message.SerializeToString()
        self.send_raw(frame(message), end)

    def send_raw(self, data, end=False):
        c = self.connection
        while True:
            c.pump(lambda: self.closed() or c.h2.local_flow_control_window(self.stream_id) > 0 or not data)
            if self.closed():
                return
            size = min(len(data), c.h2.local_flow_control_window(self.stream_id), c.h2.max_outbound_frame_size)
            c.h2.send_data(self.stream_id, data[:size], end_stream=end and size == len(data))
            c.flush()
            data = data[size:]
            if not data:
                return

    def half_close(self):
        self.connection.h2.end_stream(self.stream_id)
        self.connection.flush()

    def cancel(self):
        if not self.closed():
            self.connection.h2.reset_stream(self.stream_id, 8)
            self.connection.flush()
            self.reset = 8

    # ---- in ----
    def closed(self):
        return self.ended or self.reset is not None

    def _whole(self):
        return len(self.buffer) >= 5 and len(self.buffer) >= 5 + struct.unpack('>I', self.buffer[1:5])[0]

    def receive(self, kind=None, wait=WAIT):
        """The next message, or None when the stream ended well; RpcError when it ended badly."""
        self.connection.pump(lambda: self._whole() or self.closed(), wait)
        if self._whole():
            size = struct.unpack('>I', self.buffer[1:5])[0]
            assert self.buffer[0] == 0, 'a compressed message'
            message = bytes(self.buffer[5:5 + size])
            del self.buffer[:5 + size]
            return kind.FromString(message) if kind else message
        if self.reset is not None:
            raise RpcError(UNAVAILABLE, 'stream reset with %d' % self.reset)
        code, text = self.status()
        if code != OK:
            raise RpcError(code, text, self.trailers)
        return None

    def status(self, wait=WAIT):
        self.connection.pump(self.closed, wait)
        if self.reset is not None:
            return UNAVAILABLE, 'stream reset with %d' % self.reset
        last = self.trailers if self.trailers is not None else self.headers
        fields = dict(last or [])
        assert 'grpc-status' in fields, 'no grpc-status: %r' % (last,)
        if self.trailers is None:
            self.trailers = last
        return int(fields['grpc-status']), percent_decode(fields.get('grpc-message', ''))


class Connection:
    def __init__(self, sock, server_name='limpet', h2_settings=None, preface=True):
        self.sock = sock
        self.authority = server_name
        self.calls = {}
        self.goaway = None
        self.gone = None
        self.auto_window = True
        self.pings = 0
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding='utf-8'))
        if preface:
            if h2_settings:
                self.h2.local_settings = h2.settings.Settings(client=True, initial_values=h2_settings)
            self.h2.initiate_connection()
            self.flush()

    # ---- opening ----
    @classmethod
    def unix(cls, path, **more):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(WAIT)
        sock.connect(path)
        return cls(sock, 'localhost', **more)

    @classmethod
    def tls(cls, port, roots=None, chain=None, key=None, alpn=('h2',), host='127.0.0.1', minimum=None, maximum=None,
            source=None, preface=b'', **more):
        return cls(tls_socket(port, roots, chain, key, alpn, host, minimum, maximum, source, preface), **more)

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def peer(self):
        """The server's certificate as DER."""
        return self.sock.getpeercert(True)

    # ---- calls ----
    def start(self, method, metadata=(), end=False, timeout=None, path=None, headers=None):
        if headers is None:
            headers = [(':method', 'POST'), (':scheme', 'http'), (':path', path or '/' + method),
                       (':authority', self.authority), ('content-type', 'application/grpc'), ('te', 'trailers'),
                       ('user-agent', 'limpet-tests')]
            if timeout:
                headers.append(('grpc-timeout', timeout))
            headers += list(metadata)
        stream_id = self.h2.get_next_available_stream_id()
        call = self.calls[stream_id] = Call(self, stream_id)
        self.h2.send_headers(stream_id, headers, end_stream=end)
        self.flush()
        return call

    def unary(self, method, request, kind, metadata=(), wait=WAIT):
        call = self.start(method, metadata)
        call.send(request, end=True)
        answer = call.receive(kind, wait)
        assert answer is not None, 'no message in the answer of ' + method
        code, text = call.status(wait)
        if code != OK:
            raise RpcError(code, text, call.trailers)
        return answer

    # ---- bytes ----
    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.send_bytes(data)

    def send_bytes(self, data):
        try:
            self.sock.sendall(data)
        except (OSError, ssl.SSLError) as error:
            # what the peer said before it closed may still be readable
            self.gone = self.gone or error

    def pump(self, done, wait=WAIT):
        deadline = time.monotonic() + wait
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError('nothing came within %s s' % wait)
            if not self.read_some(left):
                if done():
                    return
                raise ConnectionGone(self.gone)

    def read_some(self, wait):
        """Reads and handles one piece; False when the peer is gone."""
        pending = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()
        if not pending and not select.select([self.sock], [], [], wait)[0]:
            return True
        try:
            data = self.sock.recv(65536)
        except ssl.SSLWantReadError:
            return True
        except (OSError, ssl.SSLError) as error:
            self.gone = error
            return False
        if not data:
            self.gone = self.gone or EOFError('closed by the peer')
            return False
        for event in self.h2.receive_data(data):
            self.on_event(event)
        self.flush()
        return True

    def on_event(self, event):
        call = self.calls.get(getattr(event, 'stream_id', None))
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1
        elif call is None:
            return
        elif isinstance(event, h2.events.ResponseReceived):
            call.headers, call.header_blocks = list(event.headers), call.header_blocks + 1
        elif isinstance(event, h2.events.TrailersReceived):
            call.trailers, call.header_blocks = list(event.headers), call.header_blocks + 1
        elif isinstance(event, h2.events.DataReceived):
            call.buffer += event.data
            if self.auto_window and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            if not call.ended:  # after the trailers it only says that the request may stop (RFC 9113 8.1)
                call.reset = event.error_code
        if isinstance(event, h2.events.StreamEnded):
            call.ended = True


def tls_context(roots=None, chain=None, key=None, alpn=('h2',), minimum=None, maximum=None):
    """A client's context: `roots`, `chain` and `key` as PEM text. The peer's name is not checked: it has no host name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if roots else ssl.CERT_NONE
    if roots:
        context.load_verify_locations(cadata=roots)
    if minimum:
        context.minimum_version = minimum
    if maximum:
        context.maximum_version = maximum
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if chain:
        load_chain(context, chain, key)
    return context


def load_chain(context, chain, key):
    with tempfile.TemporaryDirectory() as folder:
        chain_path, key_path = os.path.join(folder, 'chain.pem'), os.path.join(folder, 'key.pem')
        with open(chain_path, 'w') as out:
            out.write(chain)
        with open(key_path, 'w') as out:
            out.write(key)
        context.load_cert_chain(chain_path, key_path)


def tls_socket(port, roots=None, chain=None, key=None, alpn=('h2',), host='127.0.0.1', minimum=None, maximum=None,
               source=None, preface=b''):
    """`source`: the address to connect from; `preface`: what a proxy would send first."""
    sock = socket.create_connection((host, port), timeout=WAIT, source_address=(source, 0) if source else None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if preface:
        sock.sendall(preface)
    return tls_context(roots, chain, key, alpn, minimum, maximum).wrap_socket(sock)
