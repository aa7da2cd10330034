# SPDX-License-Identifier: Apache-2.0
"""A server whose CA is signed by files on disk: chains, bundle, reload, restart, and a change of mind."""
import datetime
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from support import pki, process, stubs
from support.chains import mint, split_der, verify
from support.node import PREFIX, Node
from support.process import eventually, toml_plugin, write

S = stubs.svid


def certify(issuer, subject, key, ttl=86400):
    """A CA certificate for `key` by (certificate, key) of the issuer, or by itself."""
    name = pki.name(CN=subject)
    now = datetime.datetime.utcnow()
    return (x509.CertificateBuilder().subject_name(name).issuer_name(issuer[0].subject if issuer else name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(seconds=60)).not_valid_after(now + datetime.timedelta(seconds=ttl))
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(pki.usage(key_cert_sign=True, crl_sign=True), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer[1] if issuer else key).public_key()), False)
            .sign(issuer[1] if issuer else key, hashes.SHA256()))


class Above:
    """A root, an intermediate and the CA below it, in files."""

    def __init__(self, folder, name='one', ttl=86400):
        self.folder = folder
        self.root_key, middle_key, self.key = pki.new_key(), pki.new_key(), pki.new_key()
        self.root = certify(None, name + ' root', self.root_key)
        self.middle = certify((self.root, self.root_key), name + ' middle', middle_key)
        self.ca = certify((self.middle, middle_key), name + ' ca', self.key, ttl)
        self.paths = {k + '_file_path': folder / k + '.pem' for k in ('cert', 'key', 'bundle')}

    def put(self, roots=None):
        for key, text in (('cert', pki.pem_of(self.ca) + pki.pem_of(self.middle)), ('key', pki.key_pem(self.key)),
                          ('bundle', ''.join(pki.pem_of(r) for r in roots or [self.root]))):
            path = self.paths[key + '_file_path']
            write(path + '.new', text)
            os.rename(path + '.new', path)
        return self

    def plugin(self):
        return toml_plugin('UpstreamAuthority', 'disk', self.paths)


def bundle_roots(server):
    return [a.asn1 for a in server.bundles.GetBundle(stubs.bundle.GetBundleRequest()).x509_authorities]


@pytest.fixture
def above(folder):
    return Above(folder).put()


def test_every_svid_comes_with_its_chain_up_to_the_root(make, folder, above):
    server = make(process.Server, plugins=above.plugin())
    assert bundle_roots(server) == [pki.der_of(above.root)]
    chain = mint(server)
    assert [x509.load_der_x509_certificate(c).subject.rfc4514_string() for c in chain[2:]] == ['CN=one ca', 'CN=one middle']
    assert verify(folder, chain, pki.pem_of(above.root)) == 'ok'
    own = x509.load_der_x509_certificate(chain[1])
    assert pki.uris_of(own) == ['spiffe://example.org']
    assert [a.rfc4514_string() for a in own.subject][:2] == ['C=US', 'O=SPIFFE']
    node = Node.attest(server)  # over TLS with the server's own chain
    assert len(node.chain) == 4 and verify(folder, node.chain, pki.pem_of(above.root)) == 'ok'
    entry = server.add('/web', node.id.path, ['unix:uid:1'])
    svid = node.sign((entry.id, pki.csr(pki.new_key()))).results[0].svid
    assert verify(folder, svid.cert_chain, pki.pem_of(above.root)) == 'ok'


def test_an_agent_and_its_workload_get_chains_that_verify(make, folder, above):
    server = make(process.Server, plugins=above.plugin())
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=server.roots())
    server.add('/me', '/host', ['unix:uid:%d' % os.getuid()])

    def fetched():
        with agent.workload() as workload:
            return workload.fetch().svids[0]
    svid = eventually(fetched)
    chain = split_der(svid.x509_svid)
    assert len(chain) == 4 and verify(folder, chain, pki.pem_of(above.root)) == 'ok'
    assert svid.bundle == pki.der_of(above.root)


def test_a_restart_keeps_authority_and_chain_even_without_the_upstream(make, folder, above):
    server = make(process.Server, plugins=above.plugin())
    before = mint(server)
    server.stop()
    server.start()
    after = mint(server)
    assert after[1:] == before[1:]
    assert verify(folder, after, pki.pem_of(above.root)) == 'ok'


def test_a_root_added_to_the_bundle_file_reaches_the_bundle_without_a_restart(make, folder, above):
    server = make(process.Server, plugins=above.plugin())
    next_root = certify(None, 'next root', pki.new_key())
    above.put([above.root, next_root])
    eventually(lambda: pki.der_of(next_root) in bundle_roots(server))
    assert pki.der_of(above.root) in bundle_roots(server)


def test_files_that_are_wrong_while_it_runs_degrade_and_stop_nothing(make, folder, above):
    server = make(process.Server, plugins=above.plugin())
    key = above.paths['key_file_path']
    write(key, pki.key_pem(pki.new_key()))
    eventually(lambda: server.has_logged(key + ': the key does not match the certificate in'))
    assert verify(folder, mint(server), pki.pem_of(above.root)) == 'ok'
    assert server.healthy()
    write(key, pki.key_pem(above.key))
    eventually(lambda: server.has_logged('Upstream authority can be asked again'))


def test_the_next_authority_comes_from_the_files_as_they_are_then(make, folder, above):
    server = make(process.Server, plugins=above.plugin(), ca_ttl='12s')
    first = mint(server)
    other = Above(folder, 'two')
    other.put([above.root, other.root])
    eventually(lambda: x509.load_der_x509_certificate(mint(server)[-1]).subject.rfc4514_string() == 'CN=two middle')
    assert verify(folder, mint(server), pki.pem_of(other.root)) == 'ok'
    assert [x509.load_der_x509_certificate(c).subject.rfc4514_string() for c in first[2:]] == ['CN=one ca', 'CN=one middle']


def test_wrong_files_at_the_start_are_refused_and_named(make, folder, above):
    write(above.paths['key_file_path'], pki.key_pem(pki.new_key()))
    server = make(process.Server, plugins=above.plugin(), start=False)
    server.spawn()
    assert server.process.wait(30) == 1
    assert above.paths['key_file_path'] + ': the key does not match' in server.logs()
    server.process = None


def test_a_self_signed_server_given_an_upstream_changes_over_and_back(make, folder, above):
    server = make(process.Server, ca_ttl='60s')
    old_root = bundle_roots(server)
    assert len(mint(server)) == 1
    server.stop()
    server.plugins = above.plugin()
    server.start()
    eventually(lambda: len(mint(server)) == 4, 60)
    assert verify(folder, mint(server), pki.pem_of(above.root)) == 'ok'
    assert set(bundle_roots(server)) == set(old_root + [pki.der_of(above.root)])  # what was signed before stays valid
    server.stop()
    server.plugins = ''
    server.start()
    eventually(lambda: len(mint(server)) == 1, 60)


def test_a_downstream_ca_names_its_depth(make, folder, above):
    server = make(process.Server, plugins=above.plugin())
    server.add('/below', '/spire/agent/join_token/none', ['unix:uid:1'], downstream=True)
    key = pki.new_key()
    svid = server.svids.MintX509SVID(S.MintX509SVIDRequest(csr=pki.csr(key, ['spiffe://example.org/below']))).svid
    with server.tls(pki.pem_from_der(*svid.cert_chain), pki.key_pem(key)) as link:
        answer = link.unary(PREFIX + 'svid.v1.SVID/NewDownstreamX509CA', S.NewDownstreamX509CARequest(
            csr=pki.csr(pki.new_key())), S.NewDownstreamX509CAResponse)
    chain = list(answer.ca_cert_chain)
    assert 'OU=DOWNSTREAM-3' in x509.load_der_x509_certificate(chain[0]).subject.rfc4514_string()
    assert len(chain) == 4 and verify(folder, chain, pki.pem_of(above.root)) == 'ok'
    assert list(answer.x509_authorities) == [pki.der_of(above.root)]
