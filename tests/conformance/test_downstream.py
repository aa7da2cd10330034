# SPDX-License-Identifier: Apache-2.0
"""A server below ours, driven by hand: the CA certificate it gets, and what it may publish."""
import subprocess

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from support import h2grpc, pki, process, stubs
from support.h2grpc import RpcError

PREFIX = 'spire.api.server.'
S = stubs.svid


def downstream_identity(server, path='/below', **more):
    """The X509-SVID of an entry with the downstream flag, as a Workload API would hand it out."""
    server.add(path, '/spire/agent/join_token/none', ['unix:uid:1'], downstream=True, **more)
    key = pki.new_key()
    svid = server.svids.MintX509SVID(S.MintX509SVIDRequest(csr=pki.csr(key, ['spiffe://example.org' + path]))).svid
    return pki.pem_from_der(*svid.cert_chain), pki.key_pem(key)


@pytest.fixture(scope='module')
def below(server):
    with server.tls(*downstream_identity(server)) as connection:
        yield connection


def new_ca(connection, key, **more):
    return connection.unary(PREFIX + 'svid.v1.SVID/NewDownstreamX509CA',
                            S.NewDownstreamX509CARequest(csr=more.pop('csr', None) or pki.csr(key), **more),
                            S.NewDownstreamX509CAResponse)


def refusal(connection, **more):
    with pytest.raises(RpcError) as error:
        new_ca(connection, pki.new_key(), **more)
    return error.value.code, error.value.message


def root_of(server):
    return x509.load_pem_x509_certificate(server.roots().encode())


def lifetime(certificate):
    return (certificate.not_valid_after - certificate.not_valid_before).total_seconds() - 10


def test_of_the_csr_only_the_key_counts(below):
    key = pki.new_key()
    answer = new_ca(below, key, csr=pki.csr(key, ['spiffe://evil.org/x'], ['evil.test'], pki.name(CN='evil')))
    ca = x509.load_der_x509_certificate(answer.ca_cert_chain[0])
    assert ca.public_key().public_numbers() == key.public_key().public_numbers()
    assert pki.uris_of(ca) == ['spiffe://example.org']
    assert 'evil' not in ca.subject.rfc4514_string()


def test_the_subject_is_the_signers_with_its_depth_as_unit(server, below):
    ca = x509.load_der_x509_certificate(new_ca(below, pki.new_key()).ca_cert_chain[0])
    assert [(a.oid, a.value) for a in ca.subject] == [
        (NameOID.COUNTRY_NAME, 'US'), (NameOID.ORGANIZATION_NAME, 'SPIFFE'),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, 'DOWNSTREAM-1'),
        (NameOID.SERIAL_NUMBER, root_of(server).subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)[0].value)]
    assert ca.issuer == root_of(server).subject


def test_it_is_a_ca_of_the_profile(server, below):
    key = pki.new_key()
    ca = x509.load_der_x509_certificate(new_ca(below, key).ca_cert_chain[0])
    basic = ca.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS)
    assert basic.critical and basic.value.ca and basic.value.path_length is None
    usage = ca.extensions.get_extension_for_oid(ExtensionOID.KEY_USAGE)
    assert usage.critical and usage.value == pki.usage(key_cert_sign=True, crl_sign=True)
    with pytest.raises(x509.ExtensionNotFound):
        ca.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE)
    subject_key = ca.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_KEY_IDENTIFIER).value
    assert subject_key == x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer_key = root_of(server).extensions.get_extension_for_oid(ExtensionOID.SUBJECT_KEY_IDENTIFIER).value
    authority_key = ca.extensions.get_extension_for_oid(ExtensionOID.AUTHORITY_KEY_IDENTIFIER).value
    assert authority_key.key_identifier == issuer_key.digest


def test_the_chain_of_a_self_signed_server_is_the_new_ca_alone_and_all_roots_come_along(server, below):
    other = pki.Authority()
    server.bundles.AppendBundle(stubs.bundle.AppendBundleRequest(
        x509_authorities=[stubs.types.X509Certificate(asn1=pki.der_of(other.certificate), tainted=True)]))
    answer = new_ca(below, pki.new_key())
    assert len(answer.ca_cert_chain) == 1
    assert len(answer.x509_authorities) == 2
    assert pki.der_of(other.certificate) in answer.x509_authorities


def test_openssl_verifies_what_the_new_ca_signs(server, below, folder):
    key = pki.new_key()
    answer = new_ca(below, key)
    mine = pki.Authority()
    mine.key, mine.certificate = key, x509.load_der_x509_certificate(answer.ca_cert_chain[0])
    leaf, _ = mine.leaf(['spiffe://example.org/deep'])
    for name, text in (('leaf', leaf), ('ca', pki.pem_of(mine.certificate)), ('roots', pki.pem_from_der(*answer.x509_authorities))):
        process.write(folder / name, text)
    subprocess.run(['openssl', 'verify', '-x509_strict', '-CAfile', folder / 'roots', '-untrusted', folder / 'ca',
                    folder / 'leaf'], check=True, timeout=30)


def test_without_a_preferred_ttl_the_servers_own_counts(make):
    mine = make(process.Server, ca_ttl='2h')
    with mine.tls(*downstream_identity(mine)) as connection:
        ca = x509.load_der_x509_certificate(new_ca(connection, pki.new_key()).ca_cert_chain[0])
        assert ca.not_valid_after == root_of(mine).not_valid_after  # asked for later, it cannot outlive its signer
        assert lifetime(ca) <= 7200
        assert lifetime(x509.load_der_x509_certificate(new_ca(
            connection, pki.new_key(), preferred_ttl=600).ca_cert_chain[0])) == 600


def test_the_entrys_ttl_does_not_count(server):
    with server.tls(*downstream_identity(server, '/short', x509_svid_ttl=60)) as connection:
        ca = x509.load_der_x509_certificate(new_ca(connection, pki.new_key()).ca_cert_chain[0])
        assert lifetime(ca) > 3600


def test_a_signer_never_signs_beyond_its_own_end(server, below):
    ca = x509.load_der_x509_certificate(new_ca(below, pki.new_key(), preferred_ttl=2000000000).ca_cert_chain[0])
    assert ca.not_valid_after == root_of(server).not_valid_after


def test_bad_requests_are_refused_in_spires_words(below):
    code, text = refusal(below, csr=b'garbage')
    assert code == h2grpc.INVALID_ARGUMENT and text.startswith('malformed CSR')
    code, text = refusal(below, csr=pki.csr(pki.new_key(), broken=True))
    assert code == h2grpc.INVALID_ARGUMENT and text.startswith('invalid CSR signature')
    assert refusal(below, preferred_ttl=-1)[0] == h2grpc.INVALID_ARGUMENT
    with pytest.raises(RpcError) as error:
        below.unary(PREFIX + 'svid.v1.SVID/NewDownstreamX509CA', S.NewDownstreamX509CARequest(), S.NewDownstreamX509CAResponse)
    assert (error.value.code, error.value.message[:13]) == (h2grpc.INVALID_ARGUMENT, 'malformed CSR')


def test_the_right_ends_with_the_entry(make):
    mine = make(process.Server)
    with mine.tls(*downstream_identity(mine)) as connection:
        new_ca(connection, pki.new_key())
        for entry in mine.entries.ListEntries(stubs.entry.ListEntriesRequest()).entries:
            mine.remove(entry.id)
        assert refusal(connection)[0] == h2grpc.PERMISSION_DENIED


# ---- PublishJWTAuthority ----
def publish(connection, **key):
    request = stubs.bundle.PublishJWTAuthorityRequest()
    if key:
        request.jwt_authority.CopyFrom(stubs.types.JWTKey(**key))
    return connection.unary(PREFIX + 'bundle.v1.Bundle/PublishJWTAuthority', request, stubs.bundle.PublishJWTAuthorityResponse)


def test_a_published_jwt_key_is_in_the_bundle_and_all_keys_come_back(server, below):
    key = pki.public_der(pki.new_key())
    answer = publish(below, public_key=key, key_id='kid-below', expires_at=4102444800)
    mine = [k for k in answer.jwt_authorities if k.key_id == 'kid-below']
    assert len(mine) == 1 and mine[0].public_key == key and mine[0].expires_at == 4102444800
    stored = server.bundles.GetBundle(stubs.bundle.GetBundleRequest()).jwt_authorities
    assert sorted(k.key_id for k in stored) == sorted(k.key_id for k in answer.jwt_authorities)
    again = publish(below, public_key=key, key_id='kid-below', expires_at=4102444800)
    assert len(again.jwt_authorities) == len(answer.jwt_authorities)


@pytest.mark.parametrize('key', [{}, {'key_id': 'x', 'public_key': b''}, {'key_id': 'x', 'public_key': b'garbage'},
                                 {'key_id': '', 'public_key': pki.public_der(pki.new_key())}])
def test_a_jwt_key_that_is_none_is_refused(below, key):
    with pytest.raises(RpcError) as error:
        publish(below, **key)
    assert error.value.code == h2grpc.INVALID_ARGUMENT
    assert error.value.message.startswith('missing JWT authority' if not key else 'invalid JWT authority: ')


def test_wit_keys_cannot_be_published(below):
    with pytest.raises(RpcError) as error:
        below.unary(PREFIX + 'bundle.v1.Bundle/PublishWITAuthority', stubs.bundle.PublishWITAuthorityRequest(),
                    stubs.bundle.PublishWITAuthorityResponse)
    assert error.value.code == h2grpc.UNIMPLEMENTED


def test_the_upstream_command_says_that_there_is_none(server):
    done = server.cli('upstreamauthority', 'taint', '-subjectKeyID', 'aa')
    assert done.returncode == 1
    assert done.stderr == ('Error: could not taint X.509 upstream authority: rpc error: code = FailedPrecondition '
                           'desc = upstream authority is not configured\n')
    done = server.cli('upstreamauthority', 'revoke')
    assert (done.returncode, done.stderr) == (1, 'Error: a Subject Key ID is required\n')
