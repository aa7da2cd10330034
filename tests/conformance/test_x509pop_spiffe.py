# SPDX-License-Identifier: Apache-2.0
"""x509pop with mode = "spiffe": an X509-SVID of the server's own trust domain is exchanged for a node's identity."""
import hashlib
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from support import pki, process, stubs
from support.attestation import INTERNAL, PERMISSION, attest, certify, payload, prove, refused, selectors_of
from support.process import eventually, toml_plugin, write

L = stubs.localauthority
NO_PREFIX = (PERMISSION, 'nodeattestor(x509pop): x509 cert doesnt match SVID prefix')
UNKNOWN = (PERMISSION, 'nodeattestor(x509pop): certificate verification failed: x509: certificate signed by unknown authority')


def plugin(**data):
    return toml_plugin('NodeAttestor', 'x509pop', {'mode': 'spiffe', **data}, role='server')


@pytest.fixture(scope='module')
def server():
    role = process.Server(plugins=plugin())
    try:
        yield role.start()
    finally:
        role.close()


def svid(server, path, key=None):
    """(key, certificates) of a new SVID of the server."""
    key = key or pki.new_key()
    chain = server.svids.MintX509SVID(stubs.svid.MintX509SVIDRequest(
        csr=pki.csr(key, ['spiffe://example.org' + path]))).svid.cert_chain
    return key, [x509.load_der_x509_certificate(c) for c in chain]


def exchange(server, path, key=None):
    key, chain = svid(server, path, key)
    return attest(server, payload(*chain), lambda c: prove(key, c))


def turned_away(server, path):
    key, chain = svid(server, path)
    return refused(server, payload(*chain), lambda c: prove(key, c))


@pytest.mark.parametrize('key', [None, ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_the_rest_of_the_path_names_the_agent(server, key):
    node, result = exchange(server, '/spire-exchange/site/host1', key)
    assert node.id.path == '/spire/agent/x509pop/site/host1'
    assert result.reattestable
    root = server.bundles.GetBundle(stubs.bundle.GetBundleRequest()).x509_authorities[0].asn1
    known = selectors_of(server, node.id)
    assert 'x509pop:ca:fingerprint:' + hashlib.sha1(root).hexdigest() in known
    assert sum(s.startswith('x509pop:serialnumber:') for s in known) == 1


def test_a_new_svid_of_the_same_path_is_the_same_agent(server):
    first, _ = exchange(server, '/spire-exchange/again')
    second, _ = exchange(server, '/spire-exchange/again')
    assert first.id == second.id and first.chain != second.chain


@pytest.mark.parametrize('path', ['/other/host1', '/spire-exchange', '/spire-exchange2/host1', '/x/spire-exchange/host1'])
def test_other_paths_are_refused(server, path):
    assert turned_away(server, path) == NO_PREFIX


def test_the_key_must_be_the_svids(server):
    _, chain = svid(server, '/spire-exchange/host2')
    assert refused(server, payload(*chain), lambda c: prove(pki.new_key(), c)) == (
        PERMISSION, 'nodeattestor(x509pop): challenge response verification failed: ECDSA signature verify failed')


def test_an_svid_of_another_ca_is_refused(server):
    other, key = pki.Authority(), pki.new_key()
    leaf = other.issue(['spiffe://example.org/spire-exchange/host1'], key.public_key())
    assert refused(server, payload(leaf), lambda c: prove(key, c)) == UNKNOWN
    assert refused(server, payload(leaf, other.certificate), lambda c: prove(key, c)) == UNKNOWN


def test_a_ca_certificate_is_no_svid(server):
    root = server.bundles.GetBundle(stubs.bundle.GetBundleRequest()).x509_authorities[0].asn1
    got = refused(server, payload(x509.load_der_x509_certificate(root)))
    assert got == (INTERNAL, 'nodeattestor(x509pop): unable to generate challenge: certificate not intended for digital signature use')


@pytest.mark.parametrize('data, path, wanted', [
    ({'spiffe_prefix': '/nodes'}, '/nodes/a', '/spire/agent/x509pop/a'),
    ({'svid_prefix': '/nodes/'}, '/nodes/a', '/spire/agent/x509pop/a'),
    ({'svid_prefix': ''}, '/any/a', '/spire/agent/x509pop/any/a'),
    ({'agent_path_template': '/{{ .PluginName }}/at/{{ .SVIDPathTrimmed }}'}, '/spire-exchange/a', '/spire/agent/x509pop/at/a')])
def test_the_prefix_has_two_names_and_the_template_the_rest(make, data, path, wanted):
    server = make(process.Server, plugins=plugin(**data))
    assert exchange(server, path)[0].id.path == wanted
    if 'svid_prefix' not in data or data['svid_prefix']:
        assert turned_away(server, '/elsewhere/a') == NO_PREFIX


def test_the_bundle_is_the_one_of_the_moment(make):
    """A rotation: SVIDs of the new authority come in, those of a revoked one stay out."""
    server = make(process.Server, plugins=plugin())
    api = server.api(stubs.localauthority_grpc, 'LocalAuthority')
    old_key, old = svid(server, '/spire-exchange/host1')
    first = api.GetX509AuthorityState(L.GetX509AuthorityStateRequest()).active.authority_id
    new = api.PrepareX509Authority(L.PrepareX509AuthorityRequest()).prepared_authority.authority_id
    api.ActivateX509Authority(L.ActivateX509AuthorityRequest(authority_id=new))
    exchange(server, '/spire-exchange/host1')
    attest(server, payload(*old), lambda c: prove(old_key, c))  # still in the bundle
    api.TaintX509Authority(L.TaintX509AuthorityRequest(authority_id=first))
    api.RevokeX509Authority(L.RevokeX509AuthorityRequest(authority_id=first))
    assert refused(server, payload(*old), lambda c: prove(old_key, c)) == UNKNOWN
    exchange(server, '/spire-exchange/host1')


def test_another_trust_domain_below_the_same_root_stays_out(make, folder):
    key = pki.new_key()
    root = certify('shared root', key, ca=True)
    write(folder / 'ca.pem', pki.pem_of(root))
    write(folder / 'ca.key', pki.key_pem(key))
    upstream = toml_plugin('UpstreamAuthority', 'disk', {'cert_file_path': folder / 'ca.pem', 'key_file_path': folder / 'ca.key'})
    server = make(process.Server, plugins=plugin() + upstream)
    assert exchange(server, '/spire-exchange/host1')[0].id.path == '/spire/agent/x509pop/host1'
    for name in ('spiffe://other.org/spire-exchange/host1', 'spiffe://example.org.evil.org/spire-exchange/host1',
                 'spiffe://example.org/other', 'spiffe://example.org/spire-exchange/'):
        mine = pki.new_key()
        leaf = certify('x', mine, (root, key), sans=[x509.UniformResourceIdentifier(name)])
        assert refused(server, payload(leaf), lambda c: prove(mine, c)) == NO_PREFIX, name
    mine = pki.new_key()
    for sans in ((), [x509.DNSName('example.org')]):
        leaf = certify('x', mine, (root, key), sans=sans)
        assert refused(server, payload(leaf), lambda c: prove(mine, c)) == (
            PERMISSION, 'nodeattestor(x509pop): valid SVID x509 cert not found')


def test_our_agent_exchanges_its_svid_and_serves(make, folder):
    server = make(process.Server, plugins=plugin())
    key, chain = svid(server, '/spire-exchange/edge1')
    write(folder / 'svid.pem', ''.join(pki.pem_of(c) for c in chain))
    write(folder / 'svid.key', pki.key_pem(key))
    server.add('/mine', '/spire/agent/x509pop/edge1', ['unix:uid:%d' % os.geteuid()])
    agent = make(process.Agent, server.port, roots=server.roots(), attestor=toml_plugin('NodeAttestor', 'x509pop', {
        'private_key_path': folder / 'svid.key', 'certificate_path': folder / 'svid.pem'}, role='agent'))

    def served():
        with agent.workload() as workload:
            return [s.spiffe_id for s in workload.fetch().svids] == ['spiffe://example.org/mine']
    eventually(served)
