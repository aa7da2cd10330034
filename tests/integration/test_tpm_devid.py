# SPDX-License-Identifier: Apache-2.0
"""Node attestor tpm_devid, both halves, with a software TPM that was provisioned as SPIRE's own provisioning does it."""
import hashlib
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from support import process, stubs, swtpm
from support.process import eventually, write

pytestmark = [swtpm.needs_swtpm,
              pytest.mark.skipif(not os.path.exists(swtpm.PLUGINS + '/node_attestor_tpm_devid.so'), reason='needs the plugin')]


@pytest.fixture
def tpm(folder):
    machine = swtpm.SwTpm(folder).start()
    yield machine
    machine.vanish()


class Site:
    """The factory's and the TPM maker's authorities, a provisioned device, and the files of both ends."""

    def __init__(self, folder, tpm):
        self.folder, self.tpm = folder, tpm
        self.factory, self.maker = swtpm.Maker('Factory'), swtpm.Maker()
        self.publish()
        tpm.certify_ek(self.maker)

    def publish(self):
        write(self.folder / 'devid-ca.pem', self.factory.pem())
        write(self.folder / 'ek-ca.pem', self.maker.pem())

    def provision(self, kind='rsa', prefixed=False, password=b''):
        public, private, key = self.tpm.create_devid(kind, password)
        for name, blob in (('devid.pub', public), ('devid.priv', private)):
            with open(self.folder / name, 'wb') as out:
                out.write(swtpm.sized(blob) if prefixed else blob)
        self.certificate = self.factory.devid(key)
        write(self.folder / 'devid.pem', self.certificate)
        return self

    def server(self, make):
        return make(process.Server, plugins=swtpm.table('tpm_devid', 'server', {
            'devid_ca_path': self.folder / 'devid-ca.pem', 'endorsement_ca_path': self.folder / 'ek-ca.pem'}))

    def agent(self, make, server, **data):
        table = swtpm.table('tpm_devid', 'agent', {
            'tpm_device_path': self.tpm.path, 'devid_cert_path': self.folder / 'devid.pem',
            'devid_pub_path': self.folder / 'devid.pub', 'devid_priv_path': self.folder / 'devid.priv', **data})
        return make(process.Agent, server.port, roots=server.roots(), attestor=table, start=False).spawn()

    def path(self):
        der = x509.load_pem_x509_certificate(self.certificate.encode()).public_bytes(serialization.Encoding.DER)
        return '/spire/agent/tpm_devid/' + hashlib.sha1(der).hexdigest()


@pytest.fixture
def site(folder, tpm):
    return Site(folder, tpm)


def attested(server, path):
    def look():
        return [a for a in server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents if a.id.path == path]
    return eventually(look, what='the agent ' + path)[0]


@pytest.mark.parametrize('kind', ['rsa', 'ecc'])
@pytest.mark.parametrize('prefixed', [False, True])
def test_a_device_with_a_devid_attests_and_attests_again(make, site, kind, prefixed):
    site.provision(kind, prefixed)
    server = site.server(make)
    site.agent(make, server)
    record = attested(server, site.path())
    assert record.can_reattest and record.attestation_type == 'tpm_devid'
    root = hashlib.sha1(site.factory.certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
    assert {(s.type, s.value) for s in record.selectors} == {
        ('tpm_devid', value) for value in ('subject:cn:gateway', 'subject:oid:2.5.4.3:gateway', 'subject:oid:2.5.4.5:0815',
                                           'issuer:cn:Factory', 'ca:fingerprint:' + root)}
    site.tpm.reset()
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=record.id))
    assert eventually(lambda: attested(server, site.path()).x509svid_serial_number != record.x509svid_serial_number, wait=60)


def test_a_key_with_a_password_needs_it(make, site):
    site.provision(password=b'secret')
    server = site.server(make)
    agent = site.agent(make, server, devid_password='wrong')
    assert eventually(lambda: agent.has_logged('TPM_RC_AUTH_FAIL') or agent.has_logged('TPM_RC_BAD_AUTH'))
    agent.stop()
    site.agent(make, server, devid_password='secret')
    attested(server, site.path())


def test_passwords_come_from_files_too(make, site, folder):
    site.tpm.command(0x129, swtpm.sized(b'mine'), (swtpm.ENDORSEMENT,), True)  # TPM2_HierarchyChangeAuth
    site.provision(password=b'secret')
    write(folder / 'devid-auth', 'secret\n', 0o600)
    write(folder / 'ek-auth', 'mine\n', 0o600)
    server = site.server(make)
    site.agent(make, server, devid_auth_file=folder / 'devid-auth', endorsement_auth_file=folder / 'ek-auth')
    attested(server, site.path())


def test_a_password_stands_in_one_place(make, site, folder):
    write(folder / 'auth', 'secret\n')
    site.provision()
    agent = site.agent(make, site.server(make), owner_hierarchy_password='x', owner_auth_file=folder / 'auth')
    eventually(lambda: not agent.running())
    assert agent.has_logged('set owner_hierarchy_password or owner_auth_file, not both')
    agent.process.wait()
    agent.process = None
    done = process.run(['validate', '-config', agent.config_path])
    assert done.returncode != 0


@pytest.mark.parametrize('whose,text', [
    ('factory', 'unable to verify DevID signature: x509: certificate signed by unknown authority'),
    ('maker', 'cannot verify EK signature')])
def test_certificates_of_strangers_do_not_let_in(make, site, whose, text):
    site.provision()
    setattr(site, whose, swtpm.Maker('Factory' if whose == 'factory' else 'TPM Maker'))
    site.publish()
    server = site.server(make)
    agent = site.agent(make, server)
    assert eventually(lambda: agent.has_logged(text))
    assert not server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents


def test_a_cleared_tpm_has_lost_its_devid(make, site):
    site.provision()
    site.tpm.clear()
    agent = site.agent(make, site.server(make))
    assert eventually(lambda: agent.has_logged('DevID key: TPM2_Load'))
    assert agent.running()


def test_junk_in_place_of_the_makers_certificate_is_named(make, folder, tpm):
    site = Site.__new__(Site)
    site.folder, site.tpm, site.factory, site.maker = folder, tpm, swtpm.Maker('Factory'), swtpm.Maker()
    site.publish()
    site.provision()
    tpm.write_nv(swtpm.EK_INDEX['rsa'], b'\xff' * 900)
    agent = site.agent(make, site.server(make))
    assert eventually(lambda: agent.has_logged('NV index 0x01c00002: what is there is no certificate'))


def test_what_is_missing_on_the_device_is_named(make, folder, tpm):
    site = Site.__new__(Site)
    site.folder, site.tpm, site.factory, site.maker = folder, tpm, swtpm.Maker('Factory'), swtpm.Maker()
    site.publish()
    site.provision()
    server = site.server(make)
    agent = site.agent(make, server)
    assert eventually(lambda: agent.has_logged('the TPM has no endorsement key certificate, which tpm_devid needs'))
    agent.stop()
    write(folder / 'devid.pem', site.factory.devid(swtpm.Maker().key.public_key()))
    agent = site.agent(make, server)
    assert eventually(lambda: agent.has_logged('the first certificate is not that of the key in'))
    agent.stop()
    os.unlink(folder / 'devid.priv')
    write(folder / 'devid.pem', site.certificate)
    agent = site.agent(make, server)
    assert eventually(lambda: agent.has_logged('devid.priv: cannot be opened: no such file or directory'))
