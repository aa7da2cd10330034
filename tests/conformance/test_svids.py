# SPDX-License-Identifier: Apache-2.0
"""Signing: BatchNewX509SVID for agents, MintX509SVID for administrators, and what comes later."""
import grpc
import pytest
from cryptography import x509

from support import h2grpc, pki, process, stubs
from support.h2grpc import RpcError
from support.node import PREFIX, Node

S = stubs.svid


@pytest.fixture(scope='module')
def node(server):
    return Node.attest(server)


@pytest.fixture(scope='module')
def web(server, node):
    return server.add('/web', node.id.path, ['unix:uid:1'], dns_names=['web.test', 'www.test'], x509_svid_ttl=120)


def mint(server, **more):
    return server.svids.MintX509SVID(S.MintX509SVIDRequest(**more)).svid


def mint_error(server, **more):
    with pytest.raises(grpc.RpcError) as error:
        mint(server, **more)
    return error.value.code(), error.value.details()


# ---- BatchNewX509SVID ----
def test_a_workload_svid_takes_only_its_key_from_the_csr(node, web):
    key = pki.new_key()
    result = node.sign((web.id, pki.csr(key, ['spiffe://example.org/evil'], ['evil.test'], pki.name(CN='evil')))).results[0]
    assert (result.status.code, result.status.message) == (0, 'OK')
    leaf = x509.load_der_x509_certificate(result.svid.cert_chain[0])
    assert pki.uris_of(leaf) == ['spiffe://example.org/web']
    assert leaf.public_key().public_numbers() == key.public_key().public_numbers()
    assert (result.svid.id.trust_domain, result.svid.id.path) == ('example.org', '/web')
    dns = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert dns == ['web.test', 'www.test']


def test_the_entrys_ttl_counts(node, web):
    svid = node.sign((web.id, pki.csr(pki.new_key()))).results[0].svid
    leaf = x509.load_der_x509_certificate(svid.cert_chain[0])
    assert (leaf.not_valid_after - leaf.not_valid_before).total_seconds() == 130  # 10 s before now, 120 s after
    import calendar
    assert svid.expires_at == calendar.timegm(leaf.not_valid_after.timetuple())


def test_a_self_signed_authority_sends_the_leaf_alone(node, web):
    assert len(node.sign((web.id, pki.csr(pki.new_key()))).results[0].svid.cert_chain) == 1


def test_an_empty_batch_is_invalid(node):
    with pytest.raises(RpcError) as error:
        node.sign()
    assert (error.value.code, error.value.message) == (h2grpc.INVALID_ARGUMENT, 'missing parameters')


@pytest.mark.parametrize('what,code,text', [
    ('no id', 3, 'missing entry ID'), ('no csr', 3, 'missing CSR'), ('garbage', 3, 'malformed CSR'),
    ('broken', 3, 'invalid CSR signature'), ('unknown', 5, 'entry not found or not authorized'),
    ('foreign', 5, 'entry not found or not authorized')])
def test_each_item_has_its_own_outcome(server, node, web, what, code, text):
    csr = pki.csr(pki.new_key())
    foreign = server.entries.BatchCreateEntry(stubs.entry.BatchCreateEntryRequest(
        entries=[server.entry('/not/for/it', '/somebody', ['unix:uid:1'])])).results[0].entry
    bad = {'no id': ('', csr), 'no csr': (web.id, b''), 'garbage': (web.id, b'garbage'),
           'broken': (web.id, pki.csr(pki.new_key(), broken=True)), 'unknown': ('nothing', csr),
           'foreign': (foreign.id, csr)}[what]
    results = node.sign((web.id, csr), bad, (web.id, csr)).results
    assert [r.status.code for r in results] == [0, code, 0]
    assert results[1].status.message == text or results[1].status.message.startswith(text + ': '), results[1].status
    assert not results[1].HasField('svid') and results[0].svid.cert_chain and results[2].svid.cert_chain


def test_a_batch_of_many(node, web):
    csr = pki.csr(pki.new_key())
    results = node.sign(*[(web.id, csr)] * 50).results
    assert all(r.status.code == 0 for r in results)
    assert len({x509.load_der_x509_certificate(r.svid.cert_chain[0]).serial_number for r in results}) == 50


def test_more_than_the_signing_rate_in_one_call_is_refused(make):
    mine = make(process.Server, ratelimit={'attestation': False, 'signing': True})
    node = Node.attest(mine)
    with pytest.raises(RpcError) as error:
        node.sign(*[('none', b'x')] * 501)
    assert error.value.code == h2grpc.RESOURCE_EXHAUSTED
    assert 'rate (501) exceeds burst size (500)' in error.value.message


@pytest.mark.parametrize('kind', ['p384', 'rsa2048', 'rsa4096'])
def test_workload_keys_of_every_kind_are_signed(node, web, kind):
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    key = ec.generate_private_key(ec.SECP384R1()) if kind == 'p384' else rsa.generate_private_key(65537, int(kind[3:]))
    result = node.sign((web.id, pki.csr(key))).results[0]
    assert result.status.code == 0, result
    leaf = x509.load_der_x509_certificate(result.svid.cert_chain[0])
    assert leaf.public_key().public_numbers() == key.public_key().public_numbers()


# ---- MintX509SVID ----
def test_minting_honours_subject_and_dns_names(server):
    svid = mint(server, csr=pki.csr(pki.new_key(), ['spiffe://example.org/minted'], ['m.test'], pki.name(C='DE', O='Mine')))
    leaf = x509.load_der_x509_certificate(svid.cert_chain[0])
    assert pki.uris_of(leaf) == ['spiffe://example.org/minted']
    parts = {a.rfc4514_string() for a in leaf.subject}
    assert {'C=DE', 'O=Mine', 'CN=m.test'} == parts


def test_minting_takes_a_ttl_and_caps_it_by_the_authority(server):
    leaf = x509.load_der_x509_certificate(mint(
        server, csr=pki.csr(pki.new_key(), ['spiffe://example.org/m']), ttl=60).cert_chain[0])
    assert (leaf.not_valid_after - leaf.not_valid_before).total_seconds() == 70
    ca = x509.load_pem_x509_certificate(server.roots().encode())
    long = x509.load_der_x509_certificate(mint(
        server, csr=pki.csr(pki.new_key(), ['spiffe://example.org/m']), ttl=10 * 365 * 86400).cert_chain[0])
    assert long.not_valid_after == ca.not_valid_after


def test_minting_without_a_ttl_takes_the_default(server):
    leaf = x509.load_der_x509_certificate(mint(
        server, csr=pki.csr(pki.new_key(), ['spiffe://example.org/m'])).cert_chain[0])
    assert (leaf.not_valid_after - leaf.not_valid_before).total_seconds() == 3610


def test_minting_refuses_csrs_in_spires_words(server):
    key = pki.new_key()
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert mint_error(server) == (invalid, 'missing CSR')
    code, text = mint_error(server, csr=b'garbage')
    assert code == invalid and text.startswith('malformed CSR')
    code, text = mint_error(server, csr=pki.csr(key, ['spiffe://example.org/m'], broken=True))
    assert code == invalid and text.startswith('failed to verify CSR signature')
    assert mint_error(server, csr=pki.csr(key)) == (invalid, 'CSR URI SAN is required')
    assert mint_error(server, csr=pki.csr(key, ['spiffe://example.org/a', 'spiffe://example.org/b'])) == (
        invalid, 'only one URI SAN is expected')
    for uri in ('spiffe://other.org/a', 'https://example.org/a', 'spiffe://example.org', 'spiffe://example.org/spire/server',
                'spiffe://example.org/spire/agent/a'):
        code, text = mint_error(server, csr=pki.csr(key, [uri]))
        assert code == invalid and text.startswith('CSR URI SAN is invalid: '), (uri, text)


def test_minting_refuses_wildcards_that_cover_and_names_twice(server):
    for dns in (['a.test', 'a.test'], ['*.test', 'a.test']):
        code, _ = mint_error(server, csr=pki.csr(pki.new_key(), ['spiffe://example.org/m'], dns))
        assert code == grpc.StatusCode.INVALID_ARGUMENT


def test_minted_svids_are_signed_by_what_the_bundle_says(server):
    svid = mint(server, csr=pki.csr(pki.new_key(), ['spiffe://example.org/m']))
    ca = x509.load_pem_x509_certificate(server.roots().encode())
    leaf = x509.load_der_x509_certificate(svid.cert_chain[0])
    from cryptography.hazmat.primitives.asymmetric import ec
    ca.public_key().verify(leaf.signature, leaf.tbs_certificate_bytes, ec.ECDSA(leaf.signature_hash_algorithm))


# ---- later versions ----
def test_wit_svids_are_unimplemented(server, node):
    for call, request in ((server.svids.MintWITSVID, S.MintWITSVIDRequest()),):
        with pytest.raises(grpc.RpcError) as error:
            call(request)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(RpcError) as error:
        node.call('svid.v1.SVID/BatchNewWITSVID', S.BatchNewWITSVIDRequest(), S.BatchNewWITSVIDResponse)
    assert error.value.code == h2grpc.UNIMPLEMENTED
