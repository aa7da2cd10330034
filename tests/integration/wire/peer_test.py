# SPDX-License-Identifier: Apache-2.0
"""The transport against foreign peers: grpcio (C-core), raw HTTP/2 frames, openssl. Run: peer_test.py WIRE_PEER."""
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import grpc
from hpack import Decoder, Encoder

PEER = None
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/test.Echo/Unary"), (":authority", "localhost"),
           ("content-type", "application/grpc"), ("te", "trailers")]


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Server:
    """One wire_peer serving; killed at the end."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([PEER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.port = int(self.process.stdout.readline().split()[1])

    def ask(self, sig=signal.SIGUSR2):
        self.process.send_signal(sig)
        return self.process.stdout.readline().strip()

    def wait_for(self, text):
        for _ in range(600):
            state = self.ask()
            if text in state:
                return state
            time.sleep(0.05)
        raise AssertionError(f"never saw {text!r}, last {state!r}")

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
        rest = self.process.communicate(timeout=20)[0]
        assert "AddressSanitizer" not in rest and "runtime error" not in rest, rest
        assert self.process.returncode == 0, (self.process.returncode, rest)


class Raw:
    """A client that speaks in frames of its own making."""

    def __init__(self, path, preface=PREFACE, settings=frame(SETTINGS, 0, 0)):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.socket.sendall(preface + settings)
        self.encoder, self.decoder = Encoder(), Decoder()
        self.buffer = b""

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def request(self, stream, headers=REQUEST, flags=4):
        self.send(frame(HEADERS, flags, stream, self.encoder.encode(headers)))

    def frames(self):
        """Every frame until the server closes."""
        while True:
            while len(self.buffer) >= 9:
                size = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) < 9 + size:
                    break
                head, payload = self.buffer[:9], self.buffer[9:9 + size]
                self.buffer = self.buffer[9 + size:]
                yield head[3], head[4], int.from_bytes(head[5:9], "big"), payload
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return
            if not data:
                return
            self.buffer += data

    def until(self, kind, stream=None):
        for got in self.frames():
            if got[0] == kind and (stream is None or got[2] == stream):
                return got
        return None

    def goaway_code(self):
        got = self.until(GOAWAY)
        assert got is not None, "closed without GOAWAY"
        return int.from_bytes(got[3][4:8], "big")


class UnixCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "s.sock")
        self.server = Server("serve-unix", self.path)

    def tearDown(self):
        self.server.close()
        self.folder.cleanup()


class Grpcio(UnixCase):
    def setUp(self):
        super().setUp()
        self.channel = grpc.insecure_channel("unix://" + self.path, options=[
            ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
        self.unary = self.channel.unary_unary("/test.Echo/Unary")

    def tearDown(self):
        self.channel.close()
        super().tearDown()

    def failure(self, call, *arguments, **options):
        with self.assertRaises(grpc.RpcError) as caught:
            result = call(*arguments, **options)
            list(result) if hasattr(result, "__iter__") else result
        return caught.exception

    def test_a_unary_call_with_metadata_and_the_peer(self):
        self.assertEqual(self.unary(b"hello", metadata=[("workload.spiffe.io", "true"), ("x-bin", b"\0\xff")]), b"hello")
        state = self.server.ask()
        self.assertIn(f"pid={os.getpid()} ", state)
        start = open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19]
        self.assertIn(f"start={start} ", state)
        self.assertIn("pidfd=1", state)

    def test_large_messages(self):
        for size in (0, 1, 65_536, 3_000_000, 4 << 20):
            self.assertEqual(len(self.unary(b"x" * size, timeout=30)), size)
        error = self.failure(self.unary, b"x" * 5_000_000, timeout=30)
        self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertEqual(error.details(), "grpc: received message larger than max (5000000 vs. 4194304)")
        self.assertEqual(self.unary(b"again"), b"again")

    def test_streams(self):
        self.assertEqual(len(list(self.channel.unary_stream("/test.Echo/Stream")(b"1000 3000"))), 1000)
        parts = [b"%d" % i for i in range(500)]
        self.assertEqual(list(self.channel.stream_stream("/test.Echo/Bidi")(iter(parts))), parts)

    def test_status_with_details(self):
        error = self.failure(self.channel.unary_unary("/test.Echo/Fail"), b"")
        self.assertEqual(error.code(), grpc.StatusCode.PERMISSION_DENIED)
        self.assertEqual(error.details(), "h\u00e9llo 100%\n")
        self.assertIn(("grpc-status-details-bin", b"\1\2\3\4\xff"), error.trailing_metadata())

    def test_unimplemented(self):
        error = self.failure(self.channel.unary_unary("/no.Such/Method"), b"")
        self.assertEqual((error.code(), error.details()), (grpc.StatusCode.UNIMPLEMENTED, "unknown service no.Such"))
        error = self.failure(self.channel.unary_unary("/test.Echo/No"), b"")
        self.assertEqual(error.details(), "unknown method No for service test.Echo")

    def test_deadline_and_cancel_free_the_flow(self):
        error = self.failure(self.channel.unary_unary("/test.Echo/Hang"), b"", timeout=0.2)
        self.assertEqual(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.server.wait_for("live=0")
        call = self.channel.unary_stream("/test.Echo/Hold")(b"")
        self.assertEqual(next(call), b"held")
        self.assertIn("live=1", self.server.ask())
        call.cancel()
        self.server.wait_for("live=0")

    def test_reading_one_message_and_leaving_is_no_flood(self):
        hold = self.channel.unary_stream("/test.Echo/Hold")
        for _ in range(500):
            call = hold(b"")
            next(call)
            call.cancel()
        self.server.wait_for("live=0")

    def test_an_endless_conversation_may_measure_the_link(self):
        # C-core and grpc-go send a PING for data they received, many a second
        parts = [b"x" * 5000] * 3000
        self.assertEqual(len(list(self.channel.stream_stream("/test.Echo/Bidi")(iter(parts)))), 3000)

    def test_compression_is_refused_as_grpc_go_does(self):
        error = self.failure(self.unary, b"x" * 1000, compression=grpc.Compression.Gzip)
        self.assertEqual(error.code(), grpc.StatusCode.UNIMPLEMENTED)
        self.assertEqual(error.details(), 'grpc: Decompressor is not installed for grpc-encoding "gzip"')

    def test_health(self):
        check = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        self.assertEqual(check(b""), b"\x08\x01")
        self.assertEqual(check(b"\x0a\x09test.Echo"), b"\x08\x01")
        error = self.failure(check, b"\x0a\x01?")
        self.assertEqual((error.code(), error.details()), (grpc.StatusCode.NOT_FOUND, "unknown service"))
        self.assertEqual(self.failure(check, b"\x0a\x7f").code(), grpc.StatusCode.INTERNAL)
        self.assertEqual(self.channel.unary_unary("/grpc.health.v1.Health/List")(b""),
                         b"\x0a\x06\x0a\x00\x12\x02\x08\x01\x0a\x0f\x0a\x09test.Echo\x12\x02\x08\x01")
        watch = self.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        self.assertEqual(next(watch), b"\x08\x01")
        watch.cancel()

    def test_stop_lets_a_call_finish(self):
        call = self.channel.stream_stream("/test.Echo/Bidi")
        go_on = []

        def parts():
            yield b"one"
            while not go_on:
                time.sleep(0.01)
            yield b"two"
        answers = call(parts())
        self.assertEqual(next(answers), b"one")
        self.server.process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        go_on.append(1)
        self.assertEqual(list(answers), [b"two"])
        self.assertEqual(self.server.process.stdout.readline().strip(), "stopped live=0")
        self.server.process.wait(timeout=10)


class Frames(UnixCase):
    def answer(self, headers, body=b"", stream=1):
        client = Raw(self.path)
        client.request(stream, headers, 4 if body else 5)
        if body:
            client.send(frame(DATA, 1, stream, body))
        kind, flags, _, payload = client.until(HEADERS, stream)
        return dict(client.decoder.decode(payload)), flags

    def changed(self, **fields):
        return [(name, fields.get(name.strip(":").replace("-", "_"), value)) for name, value in REQUEST]

    def test_an_immediate_error_is_one_headers_frame(self):
        fields, flags = self.answer(self.changed(path="/no.Such/M"))
        self.assertEqual(flags & 1, 1)
        self.assertEqual(fields, {":status": "200", "content-type": "application/grpc", "grpc-status": "12",
                                  "grpc-message": "unknown service no.Such"})

    def test_bad_requests(self):
        cases = [
            (self.changed(content_type="text/plain"), "415", "3"),
            (self.changed(content_type="application/grpcx"), "415", "3"),
            (self.changed(method="GET"), "405", "13"),
            (REQUEST + [("grpc-timeout", "5x")], "400", "13"),
            (REQUEST + [("grpc-timeout", "123456789S")], "400", "13"),
            (REQUEST + [("grpc-encoding", "gzip")], "200", "12"),
            (REQUEST + [("x", "y" * 17000)], "200", "8"),
        ]
        for headers, status, code in cases:
            fields, flags = self.answer(headers)
            self.assertEqual((fields[":status"], fields["grpc-status"], flags & 1), (status, code, 1), headers[-1][0])
        for body, code in ((b"\1\0\0\0\1x", "13"), (b"\2\0\0\0\1x", "13"), (b"\0\0\0\0\5x", "13"), (b"\0\0", "13"),
                           (b"\0\xff\xff\xff\xff", "8")):
            fields, _ = self.answer(REQUEST, body)
            self.assertEqual(fields["grpc-status"], code, body)
        self.server.wait_for("live=0")

    def test_floods_are_told_to_calm_down(self):
        def resets(client):
            for i in range(300):
                client.request(2 * i + 1)
                client.send(frame(RST, 0, 2 * i + 1, struct.pack(">I", 8)))
        floods = {
            "resets": resets,
            "pings": lambda client: client.send(frame(PING, 0, 0, b"12345678") * 300),
            "settings": lambda client: client.send(frame(SETTINGS, 0, 0) * 300),
            "empty": lambda client: (client.request(1), client.send(frame(DATA, 0, 1) * 3000)),
            "priority": lambda client: client.send(frame(PRIORITY, 0, 1, b"\0\0\0\0\1") * 3000),
        }
        for name, flood in floods.items():
            client = Raw(self.path)
            flood(client)
            self.assertEqual(client.goaway_code(), 11, name)
            self.assertIn("refused unix: ResourceExhausted: HTTP/2: ", self.server.process.stdout.readline(), name)
            self.assertEqual(list(client.frames()), [], name)
        self.server.wait_for("live=0 ")
        self.server.wait_for("connections=0 ")

    def test_what_is_not_http2_is_closed(self):
        for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 50, PREFACE[:10] + b"XX" * 20):
            client = Raw(self.path, junk, b"")
            list(client.frames())
            self.assertIn("refused", self.server.process.stdout.readline())

    def test_broken_frames_close_the_connection(self):
        cases = [
            frame(DATA, 0, 0, b"x"),                                     # DATA on stream 0
            frame(HEADERS, 4, 2, b"\x82"),                               # an even stream
            frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"),           # HPACK that overflows
            frame(HEADERS, 0, 1, b"\x82") + frame(DATA, 0, 1, b"x"),     # no CONTINUATION
            frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"),              # a window over 2^31-1
            frame(WINDOW, 0, 0, b"\0\0\0\0"),                            # an increment of 0
            frame(PING, 0, 0, b"short"),
            b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 100,                    # a frame of 16 MB
            frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"x") * 2000,
        ]
        for i, data in enumerate(cases):
            client = Raw(self.path)
            client.send(data)
            kinds = [got[0] for got in client.frames()]
            self.assertIn(GOAWAY, kinds, i)
        self.server.wait_for("connections=0 ")

    def test_a_stream_nobody_reads_gets_no_more_window_but_others_do(self):
        client = Raw(self.path)
        client.request(1, self.changed(path="/test.Echo/Hang"))
        for _ in range(4):
            client.send(frame(DATA, 0, 1, b"x" * 16_000))
        client.request(3)
        client.send(frame(DATA, 1, 3, b"\0\0\0\0\2hi"))
        windows = []
        for kind, flags, stream, payload in client.frames():
            if kind == WINDOW:
                windows.append(stream)
            if kind == HEADERS and flags & 1:
                break
        self.assertNotIn(1, windows)
        client.send(frame(DATA, 0, 1, b"x" * 2000))  # over the window
        got = client.until(RST, 1) or client.until(GOAWAY)
        self.assertEqual(int.from_bytes(got[3][-4:], "big"), 3)  # FLOW_CONTROL_ERROR

    def test_a_client_that_never_reads_does_not_hurt_others(self):
        client = Raw(self.path, settings=frame(SETTINGS, 0, 0, b"\0\4\x7f\xff\xff\xff") + frame(WINDOW, 0, 0, b"\x7f\0\0\0"))
        client.request(1, self.changed(path="/test.Echo/Stream"))
        body = b"1000000 100000"
        client.send(frame(DATA, 1, 1, b"\0" + struct.pack(">I", len(body)) + body))
        time.sleep(0.5)
        with grpc.insecure_channel("unix://" + self.path) as channel:
            self.assertEqual(channel.unary_unary("/test.Echo/Unary")(b"x", timeout=30), b"x")
        size = int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{self.server.process.pid}/status").read()).group(1))
        self.assertLess(size, 400_000)  # AddressSanitizer included; the stream alone is 100 GB
        client.socket.close()
        self.server.wait_for("live=0")


class OurClient(unittest.TestCase):
    """Our client against servers of others."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "s.sock")

    def tearDown(self):
        self.folder.cleanup()

    def call(self, method, text="", timeout=0):
        done = subprocess.run([PEER, "call-unix", self.path, method, text, str(timeout)], capture_output=True, timeout=30)
        self.assertEqual(done.stderr, b"")
        return done.stdout.decode().removeprefix("peer chain 0\n")

    def test_grpcio_serves_our_client(self):
        class Handler(grpc.GenericRpcHandler):
            def service(self, details):
                def unary(request, context):
                    if request == b"fail":
                        context.set_trailing_metadata([("grpc-status-details-bin", b"\x08\x07")])
                        context.abort(grpc.StatusCode.PERMISSION_DENIED, "no \u00e9 here")
                    if request == b"sleep":
                        time.sleep(2)
                    return (details.invocation_metadata and dict(details.invocation_metadata)["user-agent"].encode()
                            if request == b"agent" else request)
                if details.method.endswith("Unary"):
                    return grpc.unary_unary_rpc_method_handler(unary)
                if details.method.endswith("Stream"):
                    return grpc.unary_stream_rpc_method_handler(lambda request, context: (request for _ in range(300)))
                return None
        server = grpc.server(__import__("concurrent.futures").futures.ThreadPoolExecutor(4), handlers=[Handler()])
        server.add_insecure_port("unix://" + self.path)
        server.start()
        self.assertEqual(self.call("/a.B/Unary", "hi"), "message hi\nOK\n")
        self.assertTrue(self.call("/a.B/Unary", "agent").startswith("message limpet/"))
        self.assertEqual(self.call("/a.B/Unary", "x" * 100_000), "message " + "x" * 100_000 + "\nOK\n")
        self.assertEqual(self.call("/a.B/Unary", "fail"), "PermissionDenied: no \u00e9 here details=2\n")
        self.assertTrue(self.call("/a.B/Unary", "sleep", 300).startswith("DeadlineExceeded: "))  # whoever is first
        self.assertEqual(self.call("/a.B/Stream", "y" * 5000), ("message " + "y" * 5000 + "\n") * 300 + "OK\n")
        self.assertEqual(self.call("/a.B/Nothing", ""), "Unimplemented: Method not found! details=0\n")
        server.stop(0)

    def raw(self, *answers):
        """What our client says of a server that sends these bytes once it saw the request, then closes."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()

        def serve():
            connection, _ = listener.accept()
            connection.settimeout(5)
            connection.sendall(frame(SETTINGS, 0, 0))
            seen = b""
            while b"text!" not in seen:
                seen += connection.recv(65536)
            for answer in answers:
                connection.sendall(answer)
            time.sleep(0.2)
            connection.close()
        thread = __import__("threading").Thread(target=serve)
        thread.start()
        try:
            return self.call("/a.B/Unary", "text!")
        finally:
            thread.join()
            listener.close()
            os.unlink(self.path)

    def test_what_a_strange_server_does_is_told_in_grpc_gos_words(self):
        ok = [(":status", "200"), ("content-type", "application/grpc")]

        def headers(fields, flags=4):
            return frame(HEADERS, flags, 1, Encoder().encode(fields))
        message = frame(DATA, 0, 1, b"\0\0\0\0\2hi")
        cases = [
            ((headers(ok), message, headers([("grpc-status", "0")], 5)), "message hi\nOK\n"),
            ((headers(ok), message), "message hi\nUnavailable: error reading from server: EOF details=0\n"),
            ((), "Unavailable: error reading from server: EOF details=0\n"),
            ((headers(ok), message, frame(DATA, 1, 1)),
             "message hi\nInternal: server closed the stream without sending trailers details=0\n"),
            ((headers(ok), frame(DATA, 0, 1, b"\0\0\0\0\5h"), headers([("grpc-status", "0")], 5)),
             "Internal: unexpected EOF details=0\n"),
            ((headers(ok), frame(DATA, 0, 1, b"\1\0\0\0\1h")),
             "Internal: grpc: compressed flag set with identity or empty encoding details=0\n"),
            ((headers([(":status", "404"), ("content-type", "text/html")], 5),),
             'Unimplemented: unexpected HTTP status code received from server: 404; transport: received unexpected '
             'content-type "text/html" details=0\n'),
            ((headers(ok + [("grpc-status", "7"), ("grpc-message", "n%C3%A9%"), ("grpc-status-details-bin", "AQI")], 5),),
             "PermissionDenied: n\u00e9% details=2\n"),
            ((headers(ok + [("grpc-status", "999")], 5),), "Unknown:  details=0\n"),
            ((frame(RST, 0, 1, struct.pack(">I", 7)),),
             "Unavailable: stream terminated by RST_STREAM with error code: REFUSED_STREAM details=0\n"),
            ((frame(RST, 0, 1, struct.pack(">I", 8)),),
             "Canceled: stream terminated by RST_STREAM with error code: CANCEL details=0\n"),
            ((frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)),),
             "Unavailable: the stream is rejected because server is draining the connection details=0\n"),
            ((frame(GOAWAY, 0, 0, struct.pack(">II", 2**31 - 1, 0)), headers(ok), message, headers([("grpc-status", "0")], 5)),
             "message hi\nOK\n"),
        ]
        for answers, expected in cases:
            self.assertEqual(self.raw(*answers), expected)
        for answers in ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), (frame(DATA, 0, 1, b"x" * 20),), (headers(ok), headers(ok), message),
                        (frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"),), (b"\xff" * 1000,),
                        (headers(ok + [("x", "y" * 20000)]), message, headers([("grpc-status", "0")], 5))):
            self.assertRegex(self.raw(*answers), "Unavailable: |Internal: ")


GO = "/usr/lib/go-1.24/bin/go"


@unittest.skipUnless(os.path.exists(GO) and os.path.exists("/usr/share/gocode/src/google.golang.org/grpc"), "no grpc-go here")
class GrpcGo(unittest.TestCase):
    """The stack that SPIRE's own programs are built on, as client and as server."""
    ERRORS = (
        "rpc error: code = ResourceExhausted desc = grpc: received message larger than max (5000000 vs. 4194304)\n"
        "rpc error: code = PermissionDenied desc = h\u00e9llo 100%\n\n"
        "rpc error: code = Unimplemented desc = unknown method No for service test.Echo\n"
        "rpc error: code = Unimplemented desc = unknown service no.Such\n")

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.program, cls.cert, cls.key = (os.path.join(cls.folder.name, name) for name in ("go_peer", "cert", "key"))
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "go_peer", "main.go")
        environment = {"GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOPATH": "/usr/share/gocode",
                       "GOCACHE": os.environ.get("GOCACHE", "/tmp/limpet-go-cache"), "PATH": os.environ["PATH"]}
        subprocess.run([GO, "build", "-o", cls.program, source], env=environment, check=True)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                        cls.key, "-out", cls.cert, "-subj", "/O=test", "-days", "2"], check=True, capture_output=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_grpc_go_as_client(self):
        path = os.path.join(self.folder.name, "s.sock")
        for server, target in ((Server("serve-unix", path), "unix://" + path), (Server("serve-tls", "0"), None)):
            target = target or f"127.0.0.1:{server.port}"
            for version in ([],) if target.startswith("unix") else ([self.cert, self.key], [self.cert, self.key, "tls12"]):
                done = subprocess.run([self.program, "client", target, *version], capture_output=True, timeout=60)
                self.assertEqual((done.stdout.decode(), done.returncode), (self.ERRORS, 0), done.stderr)
            server.wait_for("live=0")
            server.close()

    def test_grpc_go_as_server(self):
        bad = "error reading server preface: remote error: tls: bad certificate"
        for how, expected in (("", "message hi\nOK\n"), ("tls12", "message hi\nOK\n"), ("reject", bad)):
            server = subprocess.Popen([self.program, "serve", "127.0.0.1:0", self.cert, self.key, how],
                                      stdout=subprocess.PIPE, text=True)
            port = server.stdout.readline().split()[1]
            call = [PEER, "call-tls", port]
            done = subprocess.run([*call, "/test.Echo/Unary", "hi"], capture_output=True, timeout=30)
            self.assertIn(expected, done.stdout.decode(), how)
            done = subprocess.run([*call, "/test.Echo/Unary", "hi", "reject"], capture_output=True, timeout=30)
            self.assertIn("handshake failed: x509: certificate signed by unknown authority", done.stdout.decode())
            if how != "reject":
                done = subprocess.run([*call, "/test.Echo/Fail", "hi", "anonymous"], capture_output=True, timeout=30)
                self.assertIn("PermissionDenied: n\u00f6", done.stdout.decode())
            server.terminate()
            server.communicate()


class Openssl(unittest.TestCase):
    def s_client(self, server, *arguments):
        done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", *arguments],
                              input=b"\n", capture_output=True, timeout=20)
        return (done.stdout + done.stderr).decode(errors="replace")

    def test_versions_alpn_and_verification(self):
        server = Server("serve-tls", "0")
        for version in ("-tls1_2", "-tls1_3"):
            self.assertIn("ALPN protocol: h2", self.s_client(server, version, "-alpn", "h2"))
            self.assertIn("alert number 120", self.s_client(server, version, "-alpn", "http/1.1"))
        self.assertNotIn("ALPN protocol", self.s_client(server, "-tls1_1", "-alpn", "h2", "-cipher", "ALL:@SECLEVEL=0"))
        for cipher in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA"):
            self.assertIn("alert handshake failure", self.s_client(server, "-tls1_2", "-alpn", "h2", "-cipher", cipher))
        server.close()

    def test_our_own_client(self):
        server = Server("serve-tls", "0")
        for how in ("", "anonymous"):
            done = subprocess.run([PEER, "call-tls", str(server.port), "/test.Echo/Unary", "hi", how], capture_output=True)
            self.assertEqual(done.stdout, b"peer chain 1\nmessage hi\nOK\n")
        done = subprocess.run([PEER, "call-tls", str(server.port), "/test.Echo/Unary", "hi", "reject"], capture_output=True)
        self.assertIn(b"transport: authentication handshake failed: x509: certificate signed by unknown", done.stdout)
        server.close()

    def test_a_rejected_client_reads_bad_certificate(self):
        server = Server("serve-tls", "0", "reject")
        done = subprocess.run([PEER, "call-tls", str(server.port), "/test.Echo/Unary", "hi"], capture_output=True)
        self.assertIn(b"remote error: tls: bad certificate", done.stdout)
        server.close()


if __name__ == "__main__":
    PEER = sys.argv.pop(1)
    unittest.main(warnings="ignore")
