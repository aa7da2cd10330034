# SPDX-License-Identifier: Apache-2.0
"""Node attestors on the wire: agents played by hand against our server, and our own agent through a whole life."""
import base64
import hashlib
import ipaddress
import json
import os
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from support import pki, process, stubs
from support.attestation import INTERNAL, INVALID, PERMISSION, attest, b64, certify, payload, prove, refused, selectors_of
from support.process import eventually, toml_plugin, write


class Pki:
    """A root and an intermediate of a factory, and the devices below them."""

    def __init__(self, folder):
        self.root_key, self.middle_key = pki.new_key(), pki.new_key()
        self.root = certify('factory root', self.root_key, ca=True)
        self.middle = certify('factory line', self.middle_key, (self.root, self.root_key), ca=True)
        self.folder, self.path = folder, folder / 'factory.pem'
        write(self.path, pki.pem_of(self.root))

    def device(self, key=None, name='device-7', **more):
        key = key or pki.new_key()
        return key, certify(name, key, (self.middle, self.middle_key), **more)

    def server_plugin(self, **more):
        return toml_plugin('NodeAttestor', 'x509pop', {'ca_bundle_path': self.path, **more}, role='server')

    def agent_plugin(self, key, certificate):
        paths = {'private_key_path': self.folder / 'device.key', 'certificate_path': self.folder / 'device.pem',
                 'intermediates_path': self.folder / 'line.pem'}
        write(paths['private_key_path'], pki.key_pem(key))
        write(paths['certificate_path'], pki.pem_of(certificate))
        write(paths['intermediates_path'], pki.pem_of(self.middle))
        return toml_plugin('NodeAttestor', 'x509pop', paths, role='agent')


@pytest.fixture(scope='module')
def factory():
    place = process.Folder()
    yield Pki(place)
    place.remove()


@pytest.fixture(scope='module')
def server(factory):
    role = process.Server(plugins=factory.server_plugin())
    try:
        yield role.start()
    finally:
        role.close()


KEYS = {'p256': lambda: ec.generate_private_key(ec.SECP256R1()), 'p384': lambda: ec.generate_private_key(ec.SECP384R1()),
        'rsa': lambda: rsa.generate_private_key(65537, 2048)}


# ---- x509pop, server half ----
@pytest.mark.parametrize('kind', sorted(KEYS))
def test_x509pop_attests_a_device_by_its_certificate(server, factory, kind):
    key, certificate = factory.device(KEYS[kind](), sans=[
        x509.UniformResourceIdentifier('x509pop://example.org/site/port-4'),
        x509.UniformResourceIdentifier('x509pop://other.org/site/none')])
    node, result = attest(server, payload(certificate, factory.middle), lambda c: prove(key, c))
    print_of = [hashlib.sha1(pki.der_of(c)).hexdigest() for c in (certificate, factory.middle, factory.root)]
    assert node.id.path == '/spire/agent/x509pop/' + print_of[0]
    assert result.reattestable
    serial = '%x' % certificate.serial_number
    assert selectors_of(server, node.id) == sorted([
        'x509pop:subject:cn:device-7', 'x509pop:ca:fingerprint:' + print_of[1], 'x509pop:ca:fingerprint:' + print_of[2],
        'x509pop:serialnumber:' + '0' * (len(serial) % 2) + serial, 'x509pop:san:site:port-4'])


def test_x509pop_challenge_is_as_go_writes_it(server, factory):
    for kind, shape in (('p256', '{"rsa_signature":null,"ecdsa_signature":{"nonce":"%s"}}'),
                        ('rsa', '{"rsa_signature":{"nonce":"%s"},"ecdsa_signature":null}')):
        key, certificate = factory.device(KEYS[kind]())
        node, _ = attest(server, payload(certificate, factory.middle), lambda c: prove(key, c))
        nonce = json.loads(node.challenge)[('rsa' if kind == 'rsa' else 'ecdsa') + '_signature']['nonce']
        assert node.challenge.decode() == shape % nonce and len(base64.b64decode(nonce)) == 32


@pytest.mark.parametrize('salt', [0, 32, 222])
def test_x509pop_takes_any_salt_length(server, factory, salt):
    key, certificate = factory.device(KEYS['rsa']())
    attest(server, payload(certificate, factory.middle), lambda c: prove(key, c, salt=salt))


def test_x509pop_members_match_in_any_case_and_unknown_ones_are_ignored(server, factory):
    key, certificate = factory.device()
    sent = payload(certificate, factory.middle).replace(b'"certificates"', b'"more":{"a":[1]},"CERTIFICATES"')
    attest(server, sent, lambda c: prove(key, c).replace(b'"nonce"', b'"Nonce"').replace(b'"r"', b'"R"'))


def test_x509pop_attests_the_same_device_again(server, factory):
    key, certificate = factory.device()
    sent = payload(certificate, factory.middle)
    first, _ = attest(server, sent, lambda c: prove(key, c))
    again, _ = attest(server, sent, lambda c: prove(key, c))
    assert first.id == again.id
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=first.id))
    attest(server, sent, lambda c: prove(key, c))


def test_x509pop_a_banned_device_stays_out(server, factory):
    key, certificate = factory.device()
    sent = payload(certificate, factory.middle)
    node, _ = attest(server, sent, lambda c: prove(key, c))
    server.agents.BanAgent(stubs.agent.BanAgentRequest(id=node.id))
    assert refused(server, sent, lambda c: prove(key, c)) == (PERMISSION, 'failed to attest: agent is banned')


def test_x509pop_refuses_payloads_that_are_none(server, factory):
    key, certificate = factory.device()
    middles = [factory.middle] * 5
    for sent, code, text in (
            (b'{', INVALID, 'failed to unmarshal data: '), (b'[]', INVALID, 'failed to unmarshal data: '),
            (b'{"certificates":[5]}', INVALID, 'failed to unmarshal data: '),
            (b'{"certificates":["*"]}', INVALID, 'failed to unmarshal data: '),
            (b'{}', INVALID, 'no certificate to attest'), (b'{"certificates":null}', INVALID, 'no certificate to attest'),
            (b'{"certificates":["AAAA"]}', INVALID, 'unable to parse leaf certificate: '),
            (payload(certificate)[:-2] + b',"AAAA"]}', INVALID, 'unable to parse intermediate certificate 0: '),
            (payload(certificate, *middles), INVALID, 'too many intermediates: 5, ')):
        got = refused(server, sent)
        assert got[0] == code and got[1].startswith('nodeattestor(x509pop): ' + text), got


def test_x509pop_refuses_certificates_it_cannot_trust(server, factory):
    strange_key = pki.new_key()
    stranger = certify('factory root', strange_key, ca=True)
    no_ca_key, no_ca = factory.device()
    cases = {
        'certificate verification failed: x509: certificate signed by unknown authority': [
            payload(factory.device()[1]),  # its intermediate is missing
            payload(certify('device-7', pki.new_key(), (stranger, strange_key)), stranger),
            payload(certify('device-7', pki.new_key())),
            payload(certify('device-8', pki.new_key(), (no_ca, no_ca_key)), no_ca, factory.middle)],
        'certificate verification failed: x509: certificate has expired or is not yet valid': [
            payload(factory.device(start=-600, ttl=-300)[1], factory.middle),
            payload(factory.device(start=300)[1], factory.middle)]}
    for text, payloads in cases.items():
        for sent in payloads:
            assert refused(server, sent) == (PERMISSION, 'nodeattestor(x509pop): ' + text)


def test_x509pop_wants_a_certificate_for_digital_signatures(server, factory):
    _, certificate = factory.device(usages=pki.usage(key_agreement=True))
    assert refused(server, payload(certificate, factory.middle)) == (
        INTERNAL, 'nodeattestor(x509pop): unable to generate challenge: certificate not intended for digital signature use')


def test_x509pop_refuses_wrong_proofs(server, factory):
    key, certificate = factory.device()
    sent = payload(certificate, factory.middle)
    old = attest(server, sent, lambda c: prove(key, c))[0].challenge
    failed = 'nodeattestor(x509pop): challenge response verification failed: '

    def swapped(challenge):
        proof = json.loads(prove(key, challenge))
        ecdsa = proof['ecdsa_signature']
        ecdsa['r'], ecdsa['s'] = ecdsa['s'], ecdsa['r']
        return json.dumps(proof).encode()
    for answer, text in (
            (lambda c: prove(key, old), 'ECDSA signature verify failed'),                # replayed
            (lambda c: prove(pki.new_key(), c), 'ECDSA signature verify failed'),        # another key
            (swapped, 'ECDSA signature verify failed'),
            (lambda c: prove(key, c, nonce=bytes(31)), 'invalid response nonce'),        # truncated
            (lambda c: b'{}', 'expecting ECDSA response'),
            (lambda c: b'{"rsa_signature":{"nonce":"","signature":""}}', 'expecting ECDSA response')):
        assert refused(server, sent, answer) == (PERMISSION, failed + text)
    got = refused(server, sent, lambda c: b'no json')
    assert got[0] == INVALID and got[1].startswith('nodeattestor(x509pop): unable to unmarshal challenge response: '), got


def test_x509pop_the_path_follows_the_template_and_the_address_is_checked(make, factory):
    server = make(process.Server, plugins=factory.server_plugin(
        agent_path_template='/{{ .PluginName }}/cn/{{ .Subject.CommonName }}/{{.SerialNumberHex}}', verify_client_ip=True))
    here = x509.IPAddress(ipaddress.ip_address('127.0.0.1'))
    key, certificate = factory.device(sans=[here])
    node, _ = attest(server, payload(certificate, factory.middle), lambda c: prove(key, c))
    serial = '%x' % certificate.serial_number
    assert node.id.path == '/spire/agent/x509pop/cn/device-7/' + '0' * (len(serial) % 2) + serial
    for sans in ((), (x509.IPAddress(ipaddress.ip_address('127.0.0.2')),)):
        key, certificate = factory.device(sans=sans)
        got = refused(server, payload(certificate, factory.middle))
        assert got[0] == PERMISSION and 'client IP 127.0.0.1 is not an IP SAN' in got[1], got


# ---- x509pop, our own agent ----
@pytest.mark.parametrize('kind', sorted(KEYS))
def test_x509pop_our_agent_attests_serves_and_comes_back_after_eviction(server, factory, make, kind):
    key, certificate = factory.device(KEYS[kind](), name='own-' + kind)
    path = '/spire/agent/x509pop/' + hashlib.sha1(pki.der_of(certificate)).hexdigest()
    me = '/mine-' + kind
    server.add(me, path, ['unix:uid:%d' % os.geteuid()])
    agent = make(process.Agent, server.port, roots=server.roots(), attestor=factory.agent_plugin(key, certificate))

    def served():
        with agent.workload() as workload:
            return [s.spiffe_id for s in workload.fetch().svids] == ['spiffe://example.org' + me]
    eventually(served)
    known = stubs.agent.GetAgentRequest(id=server.id(path))
    first = server.agents.GetAgent(known).x509svid_serial_number
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=server.id(path)))

    def back():
        agents = server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents
        return any(a.id.path == path and a.x509svid_serial_number != first for a in agents)
    eventually(back, what='the agent to attest again; log:\n' + agent.logs())
    eventually(served)


# ---- sshpop ----
def keygen(*args):
    subprocess.run(['ssh-keygen', '-q', *map(str, args)], check=True, stdin=subprocess.DEVNULL)


class Hosts:
    """An SSH certificate authority and hosts certified by it, made by ssh-keygen."""
    SIZES = {'rsa': 2048, 'p256': 256, 'p384': 384}

    def __init__(self, folder):
        self.folder, self.made = folder, 0
        self.authority = self.new('p256')

    def new(self, kind):
        self.made += 1
        path = self.folder / ('key%d' % self.made)
        if kind == 'ed25519':
            keygen('-t', 'ed25519', '-N', '', '-f', path)
        else:
            keygen('-t', 'rsa' if kind == 'rsa' else 'ecdsa', '-b', self.SIZES[kind], '-N', '', '-f', path)
        return path

    def certify(self, path, *more, authority=None, names='web.example.org', kind='-h', valid='-5m:+1h'):
        keygen('-s', authority or self.authority, *([kind] if kind else []), '-I', 'id', '-n', names, '-V', valid, *more,
               str(path) + '.pub')
        return path

    def host(self, kind='p256', **more):
        """(key, certificate as wire bytes, path of the key)"""
        path = self.certify(self.new(kind), **more)
        with open(path, 'rb') as file:
            key = serialization.load_ssh_private_key(file.read(), None)
        return key, wire_of(str(path) + '-cert.pub'), path

    def public(self, path=None):
        with open(str(path or self.authority) + '.pub') as file:
            return file.read().strip()


def wire_of(path):
    with open(path) as file:
        return base64.b64decode(file.read().split()[1])


@pytest.fixture(scope='module')
def hosts():
    place = process.Folder()
    yield Hosts(place)
    place.remove()


@pytest.fixture(scope='module')
def ssh_server(hosts):
    role = process.Server(plugins=toml_plugin('NodeAttestor', 'sshpop', {'cert_authorities': [hosts.public()]}, role='server'))
    try:
        yield role.start()
    finally:
        role.close()


def ssh_payload(wire):
    return json.dumps({'Certificate': b64(wire)}).encode()


def ssh_number(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, 'big')
    return len(data).to_bytes(4, 'big') + data


def ssh_prove(key, challenge, nonce=None, form=None):
    """SPIRE's answer to an sshpop challenge."""
    nonce = nonce if nonce is not None else os.urandom(32)
    message = hashlib.sha256(base64.b64decode(json.loads(challenge)['Nonce']) + nonce).digest()
    if isinstance(key, rsa.RSAPrivateKey):
        form = form or 'rsa-sha2-256'
        algorithm = {'rsa-sha2-256': hashes.SHA256(), 'rsa-sha2-512': hashes.SHA512(), 'ssh-rsa': hashes.SHA1()}[form]
        blob = key.sign(message, padding.PKCS1v15(), algorithm)
    else:
        algorithm = hashes.SHA256() if key.curve.key_size == 256 else hashes.SHA384()
        form = form or 'ecdsa-sha2-nistp%d' % key.curve.key_size
        blob = b''.join(map(ssh_number, utils.decode_dss_signature(key.sign(message, ec.ECDSA(algorithm)))))
    return json.dumps({'Nonce': b64(nonce), 'Signature': {'Format': form, 'Blob': b64(blob), 'Rest': None}}).encode()


@pytest.mark.parametrize('kind, form', [('p256', None), ('p384', None), ('rsa', 'rsa-sha2-256'), ('rsa', 'rsa-sha2-512'),
                                        ('rsa', 'ssh-rsa')])
def test_sshpop_attests_a_host_by_its_certificate(ssh_server, hosts, kind, form):
    key, wire, _ = hosts.host(kind)
    node, result = attest(ssh_server, ssh_payload(wire), lambda c: ssh_prove(key, c, form=form), 'sshpop')
    print_of = base64.urlsafe_b64encode(hashlib.sha256(wire).digest()).decode().rstrip('=')
    assert node.id.path == '/spire/agent/sshpop/' + print_of
    assert result.reattestable and selectors_of(ssh_server, node.id) == []
    assert list(json.loads(node.challenge)) == ['Nonce'] and len(base64.b64decode(json.loads(node.challenge)['Nonce'])) == 32
    attest(ssh_server, ssh_payload(wire), lambda c: ssh_prove(key, c, form=form), 'sshpop')  # and again


def test_sshpop_refuses_certificates_it_cannot_trust(ssh_server, hosts):
    other = hosts.new('p256')
    good = hosts.host()[1]
    for wire, text in (
            (hosts.host(authority=other)[1], 'failed to check host key: ssh: no authorities for hostname: web.example.org:22'),
            (hosts.host(kind='p256', valid='-2h:-1h')[1], 'failed to check host key: ssh: cert has expired'),
            (hosts.host(kind='p256', valid='+1h:+2h')[1], 'failed to check host key: ssh: cert is not yet valid'),
            (good[:-1] + bytes([good[-1] ^ 1]), 'failed to check host key: ssh: certificate signature does not verify'),
            (wire_of(str(hosts.certify(hosts.new('p256'), kind=None)) + '-cert.pub'),
             'failed to check host key: ssh: certificate presented as a host key has type 1'),
            (b'', 'failed to parse cert: ssh: short read'), (good + b'x', 'failed to parse cert: ssh: trailing data after a certificate'),
            (good[:len(good) // 2], 'failed to parse cert: ssh: short read'), (b'\xff\xff\xff\xff', 'failed to parse cert: ssh: short read')):
        assert refused(ssh_server, ssh_payload(wire), kind='sshpop') == (INTERNAL, 'nodeattestor(sshpop): ' + text)
    code, text = refused(ssh_server, ssh_payload(wire_of(str(hosts.certify(hosts.new('ed25519'))) + '-cert.pub')), kind='sshpop')
    assert code == 12 and 'key type "ssh-ed25519" is not supported' in text


def test_sshpop_refuses_wrong_proofs(ssh_server, hosts):
    key, wire, _ = hosts.host()
    sent = ssh_payload(wire)
    old = attest(ssh_server, sent, lambda c: ssh_prove(key, c), 'sshpop')[0].challenge
    failed = 'failed to verify signature: ssh: signature did not verify'
    for answer, text in (
            (lambda c: ssh_prove(key, old), failed),
            (lambda c: ssh_prove(pki.new_key(), c), failed),
            (lambda c: ssh_prove(key, c, form='ecdsa-sha2-nistp384'), failed),
            (lambda c: ssh_prove(key, c, nonce=bytes(31)), 'failed to combine nonces: invalid response nonce size')):
        assert refused(ssh_server, sent, answer, 'sshpop') == (INTERNAL, 'nodeattestor(sshpop): ' + text)
    code, text = refused(ssh_server, sent, lambda c: b'{', 'sshpop')
    assert code == INTERNAL and text.startswith('nodeattestor(sshpop): failed to unmarshal challenge response: '), text


@pytest.mark.parametrize('kind', ['p256', 'p384', 'rsa'])
def test_sshpop_our_agent_attests_and_serves(make, hosts, kind):
    write(hosts.folder / 'authorities', '# hosts\n\n' + hosts.public() + '\n')
    server = make(process.Server, plugins=toml_plugin('NodeAttestor', 'sshpop', {
        'cert_authorities_path': hosts.folder / 'authorities', 'canonical_domain': 'example.org',
        'agent_path_template': '/sshpop/{{ .Hostname }}'}, role='server'))
    _, _, path = hosts.host(kind)
    server.add('/mine', '/spire/agent/sshpop/web', ['unix:uid:%d' % os.geteuid()])
    agent = make(process.Agent, server.port, roots=server.roots(), attestor=toml_plugin('NodeAttestor', 'sshpop', {
        'host_key_path': path, 'host_cert_path': str(path) + '-cert.pub'}, role='agent'))

    def served():
        with agent.workload() as workload:
            return [s.spiffe_id for s in workload.fetch().svids] == ['spiffe://example.org/mine']
    eventually(served)
