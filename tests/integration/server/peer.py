# SPDX-License-Identifier: Apache-2.0
"""For server_test.py: a server process of its own, stubs from our .proto files, and channels to both listeners."""
import os
import queue
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER


def make_stubs(proto_dir, out):
    files = [os.path.join(proto_dir, name) for name in os.listdir(proto_dir) if name.endswith(".proto")]
    subprocess.run(["protoc", "-I" + proto_dir, "-I/usr/include", "--python_out=" + out, *files], check=True)
    sys.path.insert(0, out)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def csr(key, uri=None, dns=(), organization="SPIRE"):
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "US"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)]))
    names = ([x509.UniformResourceIdentifier(uri)] if uri else []) + [x509.DNSName(name) for name in dns]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    return builder.sign(key, hashes.SHA256()).public_bytes(DER)


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


class Server:
    def __init__(self, limpet, key_manager="memory", settings=""):
        self.limpet = limpet
        self.home = tempfile.TemporaryDirectory(prefix="limpet-server-")
        self.port = free_port()
        self.socket = self.home.name + "/api.sock"
        data = '\n[plugin.data]\nkeys_path = "%s/keys.json"\n' % self.home.name if key_manager == "disk" else ""
        with open(self.home.name + "/server.toml", "w") as config:
            config.write(f'''[server]
bind_address = "127.0.0.1"
bind_port = {self.port}
socket_path = "{self.socket}"
trust_domain = "example.org"
data_dir = "{self.home.name}/data"
admin_ids = ["spiffe://example.org/admin"]
ratelimit = {{ attestation = false }}
{settings}
[[plugin]]
type = "KeyManager"
name = "{key_manager}"
{data}''')
        self.process = None
        self.start()

    def start(self):
        with open(self.home.name + "/log", "a") as log:
            command = [self.limpet, "run", "-role=server", "-config", self.home.name + "/server.toml"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(400):
            if os.path.exists(self.socket) and subprocess.run([self.limpet, "healthcheck", "-socketPath", self.socket],
                                                              capture_output=True).returncode == 0:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(self.text())

    def stop(self):
        self.process.terminate()
        status = self.process.wait(timeout=30)
        assert "AddressSanitizer" not in self.text() and "runtime error" not in self.text(), self.text()
        assert status == 0, (status, self.text())

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        try:
            if self.process.poll() is None:
                self.stop()
        finally:
            self.home.cleanup()

    def text(self):
        with open(self.home.name + "/log") as log:
            return log.read()

    def local(self):
        return grpc.insecure_channel("unix://" + self.socket)


class Tls:
    """grpcio insists on a host name, which a SPIFFE server does not have: a relay does TLS, grpcio speaks in the clear to it."""

    def __init__(self, server, root_pem, identity=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.load_verify_locations(cadata=root_pem)
        self.context.set_alpn_protocols(["h2"])
        if identity is not None:
            with tempfile.NamedTemporaryFile() as file:
                file.write(identity)
                file.flush()
                self.context.load_cert_chain(file.name)
        self.server = server
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(8)
        threading.Thread(target=self.serve, daemon=True).start()
        self.channel = grpc.insecure_channel("127.0.0.1:%d" % self.listener.getsockname()[1])

    def serve(self):
        while True:
            plain, _ = self.listener.accept()
            try:
                secure = self.context.wrap_socket(socket.create_connection(("127.0.0.1", self.server.port)))
            except OSError:  # refused, or the handshake failed: grpcio sees its connection closed
                plain.close()
                continue
            assert secure.selected_alpn_protocol() == "h2"
            for a, b in ((plain, secure), (secure, plain)):
                threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    @staticmethod
    def pump(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def unary(channel, method, request, response):
    call = channel.unary_unary("/spire.api.server." + method, request_serializer=lambda m: m.SerializeToString(),
                               response_deserializer=response.FromString)
    return call(request, timeout=20)


def stream(channel, method, response, *requests):
    """Sends the requests one after the other, each after the answer to the one before; returns the answers."""
    said = queue.Queue()
    call = channel.stream_stream("/spire.api.server." + method, request_serializer=lambda m: m.SerializeToString(),
                                 response_deserializer=response.FromString)(iter(said.get, None), timeout=20)
    answers = []
    for request in requests:
        said.put(request(answers) if callable(request) else request)
        answers.append(next(call))
    said.put(None)
    return answers
