# SPDX-License-Identifier: Apache-2.0
"""What the certificates look like, read with python3-cryptography and openssl, beside certificates that SPIRE made."""
import glob
import os
import re
import subprocess

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from support import h2grpc, pki, process, stubs
from support.node import Node

VECTORS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'vectors', 'spire')


@pytest.fixture(scope='module')
def certificates(server):
    """One certificate of each profile."""
    node = Node.attest(server)
    plain = server.add('/plain', node.id.path, ['unix:uid:1'])
    named = server.add('/named', node.id.path, ['unix:uid:1'], dns_names=['web.local', 'www.local'])
    key = pki.new_key()
    signed = node.sign((plain.id, pki.csr(key)), (named.id, pki.csr(key))).results
    with server.tls() as link:
        own = link.peer()
    load = x509.load_der_x509_certificate
    return {'ca': x509.load_pem_x509_certificate(server.roots().encode()), 'server': load(own), 'agent': node.certificate,
            'workload': load(signed[0].svid.cert_chain[0]), 'workload_dns': load(signed[1].svid.cert_chain[0])}


def shape(pem):
    """openssl's text with what differs from one certificate to the next replaced."""
    text = subprocess.run(['openssl', 'x509', '-noout', '-text'], input=pem.encode(), capture_output=True, check=True,
                          timeout=30).stdout.decode()
    text = re.sub(r'(?:[0-9a-fA-F]{2}:){3,}\s*(?:[0-9a-fA-F]{2}:\s*)*[0-9a-fA-F]{2}(\s|$)', 'HEX\n', text)
    text = re.sub(r'serialNumber = \d+', 'serialNumber = N', text)
    text = re.sub(r'(Not (?:Before|After) *:).*', r'\1', text)
    text = re.sub(r'URI:spiffe://[^\s,]+', lambda m: 'URI:spiffe://td/path' if m.group().count('/') > 2 else 'URI:spiffe://td', text)
    return re.sub(r'(HEX\s*)+', 'HEX\n', text)


@pytest.mark.parametrize('ours,theirs', [('ca', 'ca'), ('server', 'server_svid'), ('agent', 'server_svid'),
                                         ('workload', 'workload_svid'), ('workload_dns', 'workload_dns_svid')])
def test_openssl_prints_ours_as_it_prints_spires(certificates, ours, theirs):
    with open(os.path.join(VECTORS, theirs + '.pem')) as text:
        wanted = shape(text.read())
    got = shape(pki.pem_of(certificates[ours]))
    if ours == 'workload_dns':
        got = got.replace('DNS:web.local, DNS:www.local', 'DNS:web.local')
    assert got == wanted


LEAVES = ['server', 'agent', 'workload', 'workload_dns']


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


@pytest.mark.parametrize('name', LEAVES + ['ca'])
def test_serials_are_random_and_positive_below_2_128(certificates, name):
    assert 2**64 < certificates[name].serial_number < 2**128
    assert len({c.serial_number for c in certificates.values()}) == len(certificates)


@pytest.mark.parametrize('name', LEAVES + ['ca'])
def test_not_before_is_ten_seconds_in_the_past(certificates, name):
    c = certificates[name]
    wanted = {'ca': 86400}.get(name, 3600)
    assert (c.not_valid_after - c.not_valid_before).total_seconds() == wanted + 10


@pytest.mark.parametrize('name', LEAVES + ['ca'])
def test_the_subject_key_id_is_the_sha1_of_the_key(certificates, name):
    c = certificates[name]
    assert extension(c, x509.SubjectKeyIdentifier).value.digest == \
        x509.SubjectKeyIdentifier.from_public_key(c.public_key()).digest


@pytest.mark.parametrize('name', LEAVES)
def test_the_authority_key_id_is_the_issuers(certificates, name):
    authority = extension(certificates[name], x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == extension(certificates['ca'], x509.SubjectKeyIdentifier).value.digest
    assert authority.authority_cert_issuer is None


def test_the_root_has_no_authority_key_id(certificates):
    with pytest.raises(x509.ExtensionNotFound):
        extension(certificates['ca'], x509.AuthorityKeyIdentifier)


@pytest.mark.parametrize('name', LEAVES + ['ca'])
def test_basic_constraints_and_key_usage_are_critical_everywhere(certificates, name):
    c = certificates[name]
    basic, usage = extension(c, x509.BasicConstraints), extension(c, x509.KeyUsage)
    assert basic.critical and usage.critical
    assert basic.value.ca == (name == 'ca') and basic.value.path_length is None
    if name == 'ca':
        assert usage.value == pki.usage(key_cert_sign=True, crl_sign=True)
    else:
        assert usage.value == pki.usage(digital_signature=True, key_encipherment=True, key_agreement=True)


@pytest.mark.parametrize('name', LEAVES)
def test_leaves_are_for_server_and_client(certificates, name):
    usages = extension(certificates[name], x509.ExtendedKeyUsage)
    assert list(usages.value) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH] and not usages.critical


def test_the_root_has_no_extended_key_usage(certificates):
    with pytest.raises(x509.ExtensionNotFound):
        extension(certificates['ca'], x509.ExtendedKeyUsage)


@pytest.mark.parametrize('name', LEAVES + ['ca'])
def test_there_is_exactly_one_uri_and_the_extension_is_not_critical(certificates, name):
    names = extension(certificates[name], x509.SubjectAlternativeName)
    assert len(names.value.get_values_for_type(x509.UniformResourceIdentifier)) == 1 and not names.critical


def test_the_uri_of_the_root_is_the_trust_domain(certificates):
    assert pki.uris_of(certificates['ca']) == ['spiffe://example.org']


@pytest.mark.parametrize('name', ['server', 'agent', 'workload'])
def test_the_subject_of_a_leaf(certificates, name):
    assert [(a.oid, a.value) for a in certificates[name].subject] == [
        (NameOID.COUNTRY_NAME, 'US'), (NameOID.ORGANIZATION_NAME, 'SPIRE')]


def test_the_common_name_is_the_first_dns_name(certificates):
    assert [a.value for a in certificates['workload_dns'].subject] == ['US', 'SPIRE', 'web.local']


def test_the_subject_of_the_root_ends_with_its_serial_number_in_decimal(certificates):
    ca = certificates['ca']
    assert [(a.oid, a.value) for a in ca.subject] == [
        (NameOID.COUNTRY_NAME, 'US'), (NameOID.ORGANIZATION_NAME, 'SPIFFE'), (NameOID.SERIAL_NUMBER, str(ca.serial_number))]
    assert ca.issuer == ca.subject


@pytest.mark.parametrize('name', LEAVES + ['ca'])
def test_there_is_no_unique_identifier_and_no_other_extension(certificates, name):
    allowed = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE,
               ExtensionOID.SUBJECT_KEY_IDENTIFIER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER, ExtensionOID.SUBJECT_ALTERNATIVE_NAME}
    assert {e.oid for e in certificates[name].extensions} <= allowed
    assert '2.5.4.45' not in {a.oid.dotted_string for a in certificates[name].subject}


@pytest.mark.parametrize('name', LEAVES)
def test_openssl_verifies_the_chain(certificates, folder, name):
    process.write(folder / 'ca.pem', pki.pem_of(certificates['ca']))
    process.write(folder / 'leaf.pem', pki.pem_of(certificates[name]))
    done = subprocess.run(['openssl', 'verify', '-x509_strict', '-CAfile', folder / 'ca.pem', folder / 'leaf.pem'],
                          capture_output=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_ca_subject_of_ones_own_and_a_short_ca_cap_what_is_signed(make):
    mine = make(process.Server, ca_ttl='40s', ca_subject={'country': ['DE'], 'organization': ['A', 'B'], 'common_name': 'root'})
    ca = x509.load_pem_x509_certificates(mine.roots().encode())[0] if hasattr(x509, 'load_pem_x509_certificates') \
        else x509.load_pem_x509_certificate(mine.roots().encode())
    values = {a.rfc4514_string() for a in ca.subject}
    assert {'C=DE', 'O=A', 'O=B', 'CN=root'} <= values
    node = Node.attest(mine)
    assert node.certificate.not_valid_after <= ca.not_valid_after


def test_an_agents_ttl_is_its_own(make):
    mine = make(process.Server, agent_ttl='17m', default_x509_svid_ttl='5m')
    leaf = Node.attest(mine).certificate
    assert (leaf.not_valid_after - leaf.not_valid_before).total_seconds() == 17 * 60 + 10


@pytest.mark.parametrize('kind', ['ec-p384', 'rsa-2048'])
def test_an_authority_of_another_key_type_signs_what_openssl_verifies(make, folder, kind):
    mine = make(process.Server, ca_key_type=kind)
    process.write(folder / 'ca.pem', mine.roots())
    node = Node.attest(mine)
    process.write(folder / 'leaf.pem', pki.pem_of(node.certificate))
    done = subprocess.run(['openssl', 'verify', '-x509_strict', '-CAfile', folder / 'ca.pem', folder / 'leaf.pem'],
                          capture_output=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    key = x509.load_pem_x509_certificate(mine.roots().encode()).public_key()
    assert key.key_size == (384 if kind == 'ec-p384' else 2048)


