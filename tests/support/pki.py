# SPDX-License-Identifier: Apache-2.0
"""Keys, CSRs and certificates made by python3-cryptography: a foreign CA, and wrong certificates of every kind."""
import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = object()


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def name(**parts):
    oids = {'C': NameOID.COUNTRY_NAME, 'O': NameOID.ORGANIZATION_NAME, 'CN': NameOID.COMMON_NAME}
    return x509.Name([x509.NameAttribute(oids[k], v) for k, v in parts.items()])


def csr(key, uris=(), dns=(), subject=None, broken=False):
    """A PKCS#10 request as DER; `broken` spoils its signature."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject or name(C='US', O='SPIRE'))
    names = [x509.UniformResourceIdentifier(u) for u in uris] + [x509.DNSName(d) for d in dns]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    return der[:-1] + bytes([der[-1] ^ 1]) if broken else der


def pem_of(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def der_of(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


def key_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption()).decode()


def pem_from_der(*ders):
    return ''.join(pem_of(x509.load_der_x509_certificate(d)) for d in ders)


def public_der(key):
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def uris_of(certificate):
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return san.get_values_for_type(x509.UniformResourceIdentifier)


def usage(**on):
    every = ['digital_signature', 'content_commitment', 'key_encipherment', 'data_encipherment', 'key_agreement',
             'key_cert_sign', 'crl_sign', 'encipher_only', 'decipher_only']
    return x509.KeyUsage(**{u: on.get(u, False) for u in every})


class Authority:
    """A CA as SPIRE makes it, for a server of our own and for wrong certificates."""

    def __init__(self, trust_domain='example.org', ttl=3600):
        self.trust_domain, self.key = trust_domain, new_key()
        now = datetime.datetime.utcnow()
        serial = x509.random_serial_number()
        subject = name(C='US', O='SPIFFE')
        self.certificate = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(self.key.public_key())
            .serial_number(serial).not_valid_before(now - datetime.timedelta(seconds=10))
            .not_valid_after(now + datetime.timedelta(seconds=ttl))
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(usage(key_cert_sign=True, crl_sign=True), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier('spiffe://' + trust_domain)]), False)
            .sign(self.key, hashes.SHA256()))

    def pem(self):
        return pem_of(self.certificate)

    def issue(self, uris, public_key, ttl=3600, ca=False, usages=None, dns=(), start=-10):
        """One leaf; `uris` is a list, so that none and two can be tried."""
        now = datetime.datetime.utcnow()
        builder = (
            x509.CertificateBuilder().subject_name(name(C='US', O='SPIRE')).issuer_name(self.certificate.subject)
            .public_key(public_key).serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(seconds=start))
            .not_valid_after(now + datetime.timedelta(seconds=ttl))
            .add_extension(x509.BasicConstraints(ca, None), True)
            .add_extension(usages or usage(digital_signature=True, key_encipherment=True, key_agreement=True), True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False))
        names = [x509.UniformResourceIdentifier(u) for u in uris] + [x509.DNSName(d) for d in dns]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        return builder.sign(self.key, hashes.SHA256())

    def leaf(self, uris, **more):
        """A leaf with a new key: (certificate PEM, key PEM)."""
        key = new_key()
        return pem_of(self.issue(uris, key.public_key(), **more)), key_pem(key)
