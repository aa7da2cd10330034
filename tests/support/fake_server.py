# SPDX-License-Identifier: Apache-2.0
"""A SPIRE server played by hand, for our agent: a CA of its own, TLS with a SPIFFE server certificate, and answers that a
test can change. Each connection has a thread; `rules` says what is out of the ordinary."""
import base64
import calendar
import contextlib
import select
import socket
import ssl
import struct
import threading
import time
import uuid

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from . import h2grpc, pki, stubs

P = '/spire.api.server.'
SIZE = 500  # entries and revisions in one message


class Failure(Exception):
    """What a handler raises to answer with an error; `reason` puts the details of a denial in the trailer."""

    def __init__(self, code, message, reason=None):
        super().__init__(message)
        self.code, self.message, self.reason = code, message, reason

    def trailers(self):
        fields = [('grpc-status', str(self.code)), ('grpc-message', self.message)]
        if self.reason is not None:
            status = stubs.rpc_status.Status(code=self.code, message=self.message)
            detail = status.details.add()
            detail.type_url = 'type.googleapis.com/spire.api.types.PermissionDeniedDetails'
            detail.value = stubs.types.PermissionDeniedDetails(reason=self.reason).SerializeToString()
            fields.append(('grpc-status-details-bin', base64.b64encode(status.SerializeToString()).decode().rstrip('=')))
        return fields


class FakeServer:
    def __init__(self, trust_domain='example.org', agent_ttl=3600, server_id=None, port=0):
        self.trust_domain, self.agent_ttl = trust_domain, agent_ttl
        self.authority = pki.Authority(trust_domain)
        self.extra_roots = []
        self.server_id = server_id or 'spiffe://%s/spire/server' % trust_domain
        self.entries = {}            # id -> types.Entry
        self.tokens = {'the-token'}
        self.reattestable = False
        self.svid_ttl = 3600
        self.jwt_ttl = 300
        self.jwt_key = ec.generate_private_key(ec.SECP256R1())
        self.revisions = 'many'      # answer sync with revisions: 'always', 'never', or when there are many
        self.rules = {}              # method name -> callable(request) that may raise Failure, stall, or answer itself
        self.calls = []              # (method name, peer's SPIFFE ID or None)
        self.signed = []             # serials of SVIDs handed out to workloads
        self.agents = []             # agent certificates handed out
        self.lock = threading.Lock()
        self.connections = set()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(('127.0.0.1', port))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.handshakes = 0
        self.open = True
        self.new_certificate()
        threading.Thread(target=self._accept, daemon=True).start()

    # ---- state ----
    def new_certificate(self, uris=None, authority=None):
        chain, key = (authority or self.authority).leaf(uris or [self.server_id])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(['h2'])
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.authority.pem())
        h2grpc.load_chain(context, chain, key)
        self.context = context

    def add(self, path, parent, selectors, **more):
        entry = stubs.types.Entry(
            id=more.pop('id', None) or str(uuid.uuid4()), spiffe_id=self.id(path), parent_id=self.id(parent), created_at=1_700_000_000,
            selectors=[stubs.types.Selector(type=s.split(':', 1)[0], value=s.split(':', 1)[1]) for s in selectors], **more)
        with self.lock:
            self.entries[entry.id] = entry
        return entry

    def id(self, path):
        return stubs.types.SPIFFEID(trust_domain=self.trust_domain, path=path)

    def count(self, name):
        return sum(1 for method, _ in list(self.calls) if method == name)

    # ---- connections ----
    def _accept(self):
        while self.open:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            sock.settimeout(120)
            tls = self.context.wrap_socket(sock, server_side=True)
        except (OSError, ssl.SSLError):
            sock.close()
            return
        self.handshakes += 1
        connection = Peer(self, tls)
        with self.lock:
            self.connections.add(connection)
        try:
            connection.run()
        except (OSError, ssl.SSLError, h2.exceptions.ProtocolError, ValueError):
            pass
        with self.lock:
            self.connections.discard(connection)
        tls.close()

    def goaway(self):
        """Says GOAWAY on every connection; calls in flight end well."""
        with self.lock:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.goaway()

    def drop(self):
        with self.lock:
            for connection in self.connections:
                try:
                    connection.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.open = False
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.drop()

    # ---- methods: generators of messages, fed by an iterator of messages ----
    def answer(self, method, messages, peer):
        name = method.rsplit('/', 1)[1]
        with self.lock:
            self.calls.append((name, peer))
        rule = self.rules.get(name)
        if rule:
            special = rule(peer)
            if special is not None:
                yield from special
                return
        handler = {
            P + 'agent.v1.Agent/AttestAgent': self._attest, P + 'agent.v1.Agent/RenewAgent': self._renew,
            P + 'agent.v1.Agent/PostStatus': self._post_status, P + 'bundle.v1.Bundle/GetBundle': self._bundle,
            P + 'entry.v1.Entry/GetAuthorizedEntries': self._authorized,
            P + 'entry.v1.Entry/SyncAuthorizedEntries': self._sync,
            P + 'svid.v1.SVID/BatchNewX509SVID': self._sign, P + 'svid.v1.SVID/NewJWTSVID': self._new_jwt}.get(method)
        if handler is None:
            raise Failure(h2grpc.UNIMPLEMENTED, 'unknown method ' + method)
        if peer is None and name not in ('AttestAgent', 'GetBundle'):
            raise Failure(h2grpc.PERMISSION_DENIED, 'authorization denied for method ' + method)
        yield from handler(messages, peer)

    def _svid(self, csr, spiffe_id, ttl):
        request = x509.load_der_x509_csr(csr)
        certificate = self.authority.issue(['spiffe://%s%s' % (self.trust_domain, spiffe_id)], request.public_key(), ttl=ttl)
        return certificate, stubs.types.X509SVID(cert_chain=[pki.der_of(certificate)], id=self.id(spiffe_id),
                                                 expires_at=calendar.timegm(certificate.not_valid_after.timetuple()))

    def _attest(self, messages, peer):
        request = stubs.agent.AttestAgentRequest.FromString(next(messages))
        token = request.params.data.payload.decode()
        assert request.params.data.type == 'join_token'
        if token not in self.tokens:
            raise Failure(h2grpc.INVALID_ARGUMENT, 'failed to attest: join token does not exist or has already been used')
        if not self.reattestable:
            self.tokens.discard(token)
        certificate, svid = self._svid(request.params.params.csr, '/spire/agent/join_token/' + token, self.agent_ttl)
        self.agents.append(certificate)
        yield stubs.agent.AttestAgentResponse(result=stubs.agent.AttestAgentResponse.Result(
            svid=svid, reattestable=self.reattestable))

    def _renew(self, messages, peer):
        request = stubs.agent.RenewAgentRequest.FromString(next(messages))
        certificate, svid = self._svid(request.params.csr, peer.split(self.trust_domain, 1)[1], self.agent_ttl)
        self.agents.append(certificate)
        yield stubs.agent.RenewAgentResponse(svid=svid)

    def _post_status(self, messages, peer):
        next(messages)
        yield stubs.agent.PostStatusResponse()

    def _bundle(self, messages, peer):
        next(messages)
        yield self.bundle()

    def bundle(self):
        return stubs.types.Bundle(trust_domain=self.trust_domain, sequence_number=1 + len(self.extra_roots), x509_authorities=[
            stubs.types.X509Certificate(asn1=pki.der_of(a.certificate)) for a in [self.authority] + self.extra_roots],
            jwt_authorities=[stubs.types.JWTKey(key_id='jwt-1', expires_at=int(time.time()) + 3600, public_key=self.jwt_key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))])

    def _authorized(self, messages, peer):
        next(messages)
        yield stubs.entry.GetAuthorizedEntriesResponse(entries=self.all_entries())

    def all_entries(self):
        with self.lock:
            return [self.entries[i] for i in sorted(self.entries)]

    def _sync(self, messages, peer):
        R = stubs.entry.SyncAuthorizedEntriesResponse
        request = stubs.entry.SyncAuthorizedEntriesRequest.FromString(next(messages))
        assert not request.ids
        entries = self.all_entries()
        if not entries or self.revisions == 'never' or (self.revisions == 'many' and len(entries) <= SIZE):
            yield R(entries=entries)
            return
        revisions = [stubs.entry.EntryRevision(id=e.id, revision_number=e.revision_number, created_at=e.created_at)
                     for e in entries]
        for at in range(0, len(revisions), SIZE):
            yield R(entry_revisions=revisions[at:at + SIZE], more=at + SIZE < len(revisions))
        for message in messages:
            ids = stubs.entry.SyncAuthorizedEntriesRequest.FromString(message).ids
            assert list(ids) == sorted(ids), 'ids are sorted'
            with self.lock:
                found = [self.entries[i] for i in ids if i in self.entries]
            # as SPIRE does: a page that is full says more, and the last may be empty
            yield R(entries=found[:SIZE // 2], more=True)
            yield R(entries=found[SIZE // 2:], more=False)

    def _sign(self, messages, peer):
        request = stubs.svid.BatchNewX509SVIDRequest.FromString(next(messages))
        answer = stubs.svid.BatchNewX509SVIDResponse()
        for params in request.params:
            result = answer.results.add()
            entry = self.entries.get(params.entry_id)
            if entry is None:
                result.status.code, result.status.message = h2grpc.NOT_FOUND, 'entry not found or not authorized'
                continue
            certificate, svid = self._svid(params.csr, entry.spiffe_id.path, entry.x509_svid_ttl or self.svid_ttl)
            result.status.code, result.status.message = 0, 'OK'
            result.svid.CopyFrom(svid)
            self.signed.append(certificate.serial_number)
        yield answer

    def _new_jwt(self, messages, peer):
        request = stubs.svid.NewJWTSVIDRequest.FromString(next(messages))
        entry = self.entries.get(request.entry_id)
        if entry is None:
            raise Failure(h2grpc.NOT_FOUND, 'entry not found or not authorized')
        now = int(time.time())
        claims = {'sub': 'spiffe://%s%s' % (self.trust_domain, entry.spiffe_id.path), 'aud': list(request.audience), 'iat': now,
                  'exp': now + self.jwt_ttl}
        token = jwt.encode(claims, self.jwt_key, 'ES256', {'kid': 'jwt-1'})
        yield stubs.svid.NewJWTSVIDResponse(svid=stubs.types.JWTSVID(
            token=token, id=entry.spiffe_id, issued_at=now, expires_at=now + self.jwt_ttl))


class Peer:
    """One connection: h2 frames on its thread, each call on a thread of its own."""

    def __init__(self, server, sock):
        self.server, self.sock = server, sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding='utf-8'))
        self.lock = threading.RLock()
        self.window = threading.Condition(self.lock)
        self.calls = {}
        der = sock.getpeercert(True)
        uris = pki.uris_of(x509.load_der_x509_certificate(der)) if der else []
        self.peer = uris[0] if uris else None

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def receive(self):
        """Bytes, b'' at the end, None when there are none yet. One thread at a time may touch a TLS connection."""
        if not self.sock.pending():
            select.select([self.sock], [], [], 1)
        with self.lock:
            self.sock.settimeout(0)
            try:
                return self.sock.recv(65536)
            except (ssl.SSLWantReadError, BlockingIOError):
                return None
            finally:
                self.sock.settimeout(120)

    def goaway(self):
        with self.lock:
            # python-h2 would refuse everything after close_connection: the frame by hand
            last = max(self.calls, default=0)
            self.sock.sendall(struct.pack('>I', 8)[1:] + b'\x07\0' + struct.pack('>III', 0, last, 0))

    def run(self):
        with self.lock:
            self.h2.initiate_connection()
            self.flush()
        while True:
            data = self.receive()
            if data is None:
                continue
            if not data:
                break
            with self.lock:
                for event in self.h2.receive_data(data):
                    self.on_event(event)
                self.flush()
                self.window.notify_all()
        with self.lock:
            for call in self.calls.values():
                call.end()

    def on_event(self, event):
        call = self.calls.get(getattr(event, 'stream_id', None))
        if isinstance(event, h2.events.RequestReceived):
            call = self.calls[event.stream_id] = Incoming(self, event.stream_id, dict(event.headers)[':path'])
            threading.Thread(target=call.run, daemon=True).start()
        elif isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if call:
                call.feed(event.data)
        elif isinstance(event, h2.events.StreamReset) and call:
            call.cancelled = True
            call.end()
        if isinstance(event, h2.events.StreamEnded) and call:
            call.end()


class Incoming:
    def __init__(self, peer, stream_id, path):
        self.peer, self.stream_id, self.path = peer, stream_id, path
        self.buffer, self.ended, self.cancelled = b'', False, False
        self.arrived = threading.Condition(peer.lock)

    def feed(self, data):
        self.buffer += data
        self.arrived.notify_all()

    def end(self):
        self.ended = True
        self.arrived.notify_all()

    def messages(self):
        while True:
            with self.arrived:
                def whole():
                    return len(self.buffer) >= 5 and len(self.buffer) >= 5 + struct.unpack('>I', self.buffer[1:5])[0]
                self.arrived.wait_for(lambda: whole() or self.ended)
                if not whole():
                    return
                size = struct.unpack('>I', self.buffer[1:5])[0]
                message, self.buffer = self.buffer[5:5 + size], self.buffer[5 + size:]
            yield message

    def run(self):
        h2c, headed = self.peer.h2, False
        try:
            try:
                for message in self.peer.server.answer(self.path, self.messages(), self.peer.peer):
                    with self.peer.lock:
                        if not headed:
                            h2c.send_headers(self.stream_id, [(':status', '200'), ('content-type', 'application/grpc')])
                            headed = True
                    self.send(h2grpc.frame(message.SerializeToString()))
                trailers = [('grpc-status', '0')]
            except Failure as failure:
                trailers = failure.trailers()
            with self.peer.lock:
                if not headed:
                    trailers = [(':status', '200'), ('content-type', 'application/grpc')] + trailers
                h2c.send_headers(self.stream_id, trailers, end_stream=True)
                self.peer.flush()
        except (OSError, ssl.SSLError, h2.exceptions.ProtocolError, StopIteration, RuntimeError):
            pass

    def send(self, data):
        while data:
            with self.peer.lock:
                h2c = self.peer.h2
                if not self.peer.window.wait_for(
                        lambda: self.cancelled or h2c.local_flow_control_window(self.stream_id) > 0, 60):
                    raise OSError('no window')
                if self.cancelled:
                    raise OSError('cancelled')
                size = min(len(data), h2c.local_flow_control_window(self.stream_id), h2c.max_outbound_frame_size)
                h2c.send_data(self.stream_id, data[:size])
                self.peer.flush()
                data = data[size:]
