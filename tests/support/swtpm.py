# SPDX-License-Identifier: Apache-2.0
"""A software TPM in a folder, what a maker or an operator does to one (in raw commands: the tests need no TPM tools), and
the plugin tables for it."""
import datetime
import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from . import process

PLUGINS = os.path.join(os.path.dirname(process.BINARY), 'plugins')
PLATFORM, ENDORSEMENT, OWNER = 0x4000000C, 0x4000000B, 0x40000001
EK_POLICY = bytes.fromhex('837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa')
EK_HEAD = {'rsa': '0001000b000300b20020', 'ecc': '0023000b000300b20020'}
EK_TAIL = {'rsa': '000600800043' + '0010' + '0800' + '00000000' + '0100' + '00' * 256,
           'ecc': '000600800043' + '0010' + '0003' + '0010' + '0020' + '00' * 32 + '0020' + '00' * 32}
SRK = {'rsa': '0001000b000304720000' + '000600800043' + '0010' + '0800' + '00000000' + '0000',
       'ecc': '0023000b000304720000' + '000600800043' + '0010' + '0003' + '0010' + '0000' + '0000'}
DEVID = {'rsa': '0001000b000400720000' + '0010' + '0014000b' + '0800' + '00000000' + '0000',
         'ecc': '0023000b000400720000' + '0010' + '0018000b' + '0003' + '0010' + '0000' + '0000'}
EK_INDEX = {'rsa': 0x01C00002, 'ecc': 0x01C0000A}

needs_swtpm = pytest.mark.skipif(shutil.which('swtpm') is None or not os.path.exists(PLUGINS + '/node_attestor_tpm.so'),
                                 reason='needs swtpm and the plugin node_attestor_tpm')


def sized(data):
    return struct.pack('>H', len(data)) + data


def key_of(area):
    """The public key at the end of a public area."""
    if area[:2] == b'\x00\x01':
        return rsa.RSAPublicNumbers(65537, int.from_bytes(area[-256:], 'big')).public_key()
    return ec.EllipticCurvePublicNumbers(int.from_bytes(area[-66:-34], 'big'), int.from_bytes(area[-32:], 'big'),
                                         ec.SECP256R1()).public_key()


def hash_of(key):
    """What an operator enrolls for an endorsement key."""
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER,
                                           serialization.PublicFormat.SubjectPublicKeyInfo)).hexdigest()


class TpmError(Exception):
    pass


class SwTpm:
    def __init__(self, folder, name='tpm'):
        self.state = folder / name
        os.makedirs(self.state)
        self.path = os.path.join(self.state, 'sock')
        self.process = None

    # ---- life ----
    def start(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.process = subprocess.Popen(
            ['swtpm', 'socket', '--tpm2', '--tpmstate', 'dir=' + self.state, '--server', 'type=unixio,path=' + self.path,
             '--flags', 'not-need-init,startup-clear'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        process.eventually(lambda: self.command(0x17B, struct.pack('>H', 8)), what='the software TPM')  # GetRandom
        return self

    def vanish(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        if os.path.exists(self.path):
            os.unlink(self.path)

    def reset(self):
        self.vanish()
        return self.start()

    def replace(self):
        """Another TPM in its place, which knows nothing of what was made before."""
        self.vanish()
        os.rename(self.state, self.state + '.former')
        os.makedirs(self.state)
        return self.start()

    def bring_back(self):
        """The one that was replaced."""
        self.vanish()
        shutil.rmtree(self.state)
        os.rename(self.state + '.former', self.state)
        return self.start()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    # ---- commands ----
    def command(self, code, params, handles=(), auth=False):
        body = b''.join(struct.pack('>I', h) for h in handles)
        if auth:
            session = struct.pack('>IHBH', 0x40000009, 0, 0, 0)
            body += struct.pack('>I', len(session)) + session
        body += params
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(30)
            link.connect(self.path)
            link.sendall(struct.pack('>HII', 0x8002 if auth else 0x8001, 10 + len(body), code) + body)
            answer = b''
            while len(answer) < 10 or len(answer) < struct.unpack('>I', answer[2:6])[0]:
                piece = link.recv(65536)
                if not piece:
                    raise TpmError('the TPM went away')
                answer += piece
        if struct.unpack('>I', answer[6:10])[0]:
            raise TpmError('%#x: %#x' % (code, struct.unpack('>I', answer[6:10])[0]))
        return answer[10:]

    def extend(self, pcr, digest):
        self.command(0x182, struct.pack('>IH', 1, 0x000B) + digest, (pcr,), True)

    def switch_on(self, *banks):
        """Just these PCR banks, from the next start on."""
        sets = [struct.pack('>HB', alg, 3) + (b'\xff' if alg in banks else b'\0') * 3
                for alg in (0x0004, 0x000B, 0x000C, 0x000D)]
        self.command(0x12B, struct.pack('>I', len(sets)) + b''.join(sets), (PLATFORM,), True)
        return self.reset()

    def clear(self):
        """What an owner does before giving a machine away: keys of the owner's go, the endorsement key stays."""
        self.command(0x126, b'', (PLATFORM,), True)

    def change_endorsement(self):
        """Another TPM, as far as anybody can tell from outside."""
        self.command(0x124, b'', (PLATFORM,), True)

    def primary(self, hierarchy, area):
        """Its handle and public area."""
        answer = self.command(0x131, sized(sized(b'') + sized(b'')) + sized(area) + sized(b'') + struct.pack('>I', 0),
                              (hierarchy,), True)
        size, = struct.unpack('>H', answer[8:10])
        return struct.unpack('>I', answer[:4])[0], answer[10:10 + size]

    def flush(self, handle):
        self.command(0x165, struct.pack('>I', handle))

    def ek(self, kind='rsa'):
        """The endorsement key's public key."""
        handle, area = self.primary(ENDORSEMENT, bytes.fromhex(EK_HEAD[kind]) + EK_POLICY + bytes.fromhex(EK_TAIL[kind]))
        self.flush(handle)
        return key_of(area)

    def create_devid(self, kind='rsa', password=b''):
        """A DevID key as SPIRE's provisioning makes it: public area, private area, public key."""
        parent, _ = self.primary(OWNER, bytes.fromhex(SRK[kind]))
        answer = self.command(0x153, sized(sized(password) + sized(b'')) + sized(bytes.fromhex(DEVID[kind])) + sized(b'')
                              + struct.pack('>I', 0), (parent,), True)[4:]
        self.flush(parent)
        size, = struct.unpack('>H', answer[:2])
        private, answer = answer[2:2 + size], answer[2 + size:]
        size, = struct.unpack('>H', answer[:2])
        return answer[2:2 + size], private, key_of(answer[2:2 + size])

    def keep_ek(self):
        """An RSA endorsement key from another template than the usual, kept at the usual place: its public key."""
        tail = bytes.fromhex(EK_TAIL['rsa'])[:-256] + b'\x07' * 256
        handle, area = self.primary(ENDORSEMENT, bytes.fromhex(EK_HEAD['rsa']) + EK_POLICY + tail)
        self.command(0x120, struct.pack('>I', 0x81010001), (OWNER, handle), True)  # TPM2_EvictControl
        self.flush(handle)
        return key_of(area)

    def ek_hash(self, kind='rsa'):
        return hash_of(self.ek(kind))

    def write_nv(self, index, data, attributes=0x42070001):
        # PPWRITE, PPREAD, OWNERREAD, AUTHREAD, NO_DA, PLATFORMCREATE
        public = struct.pack('>IHIHH', index, 0x000B, attributes, 0, len(data))
        self.command(0x12A, sized(b'') + sized(public), (PLATFORM,), True)
        for start in range(0, len(data), 512):
            self.command(0x137, sized(data[start:start + 512]) + struct.pack('>H', start), (PLATFORM, index), True)

    def certify_ek(self, maker, kind='rsa', key=None, **more):
        """Leaves a certificate of its endorsement key in it, as its maker would."""
        self.write_nv(EK_INDEX[kind], maker.certify(key or self.ek(kind), **more) + bytes(100))


class Maker:
    """A TPM manufacturer's authority."""

    def __init__(self, name='TPM Maker'):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self.builder(self.key.public_key(), self.name) \
            .add_extension(x509.BasicConstraints(True, 0), True) \
            .sign(self.key, hashes.SHA256())

    def builder(self, key, subject, days=30):
        now = datetime.datetime.utcnow()
        return x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key) \
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1)) \
            .not_valid_after(now + datetime.timedelta(days=days))

    def devid(self, key, name='gateway', serial='0815'):
        """A DevID certificate, PEM."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.SERIAL_NUMBER, serial)])
        certificate = self.builder(key, subject).sign(self.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def certify(self, key, model='SLB9670'):
        def one(oid, value):
            return x509.NameAttribute(x509.ObjectIdentifier(oid), value)
        names = x509.Name([one('2.23.133.2.1', 'id:49465800'), one('2.23.133.2.2', model), one('2.23.133.2.3', 'id:0755')])
        usage = dict.fromkeys(('digital_signature', 'content_commitment', 'key_encipherment', 'data_encipherment',
                               'key_agreement', 'key_cert_sign', 'crl_sign', 'encipher_only', 'decipher_only'), False)
        usage['key_encipherment' if isinstance(key, rsa.RSAPublicKey) else 'key_agreement'] = True
        certificate = self.builder(key, x509.Name([])) \
            .add_extension(x509.SubjectAlternativeName([x509.DirectoryName(names)]), True) \
            .add_extension(x509.BasicConstraints(False, None), True) \
            .add_extension(x509.KeyUsage(**usage), True) \
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False) \
            .sign(self.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.DER)


def table(name, role, data=None, kind='NodeAttestor', plugin=None, isolation='in-process', **more):
    path = os.path.join(PLUGINS, (plugin or 'node_attestor_' + name) + '.so')
    with open(path, 'rb') as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return process.toml_plugin(kind, name, data or {}, role=role, path=path, sha256=digest,
                               isolation=isolation, **more)


class SlowWay:
    """A socket in front of a TPM that keeps each command back for a while, or until told; one connection at a time, as a TPM
    has it."""

    def __init__(self, tpm, path, pause):
        self.tpm, self.path, self.pause = tpm, path, pause
        self.commands, self.held = 0, 0
        self.gate = threading.Event()
        self.gate.set()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                with client, socket.socket(socket.AF_UNIX) as tpm:
                    tpm.connect(self.tpm.path)
                    self.relay(client, tpm)
            except OSError:
                pass

    def relay(self, client, tpm):
        while True:
            command = client.recv(4096)
            if not command:
                return
            time.sleep(self.pause)
            self.held += 1
            self.gate.wait()
            self.held -= 1
            self.commands += 1
            self.before(command, tpm)
            tpm.sendall(command)
            client.sendall(tpm.recv(4096))

    def before(self, command, tpm):
        pass

    def hold(self):
        self.gate.clear()

    def go_on(self):
        self.gate.set()

    def close(self):
        self.go_on()
        self.listener.close()


class Measuring(SlowWay):
    """A kernel that measures into a PCR whenever somebody is about to quote."""

    def __init__(self, tpm, path, pcr):
        super().__init__(tpm, path, 0)
        self.pcr = pcr
        self.quotes = 0

    def before(self, command, tpm):
        if command[6:10] != struct.pack('>I', 0x158):
            return
        self.quotes += 1
        session = struct.pack('>IIHBH', 9, 0x40000009, 0, 0, 0)
        body = struct.pack('>I', self.pcr) + session + struct.pack('>IH', 1, 0x000B) + bytes([self.quotes] * 32)
        tpm.sendall(struct.pack('>HII', 0x8002, 10 + len(body), 0x182) + body)
        tpm.recv(4096)
