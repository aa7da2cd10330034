# SPDX-License-Identifier: Apache-2.0
"""Certificate chains as servers send them, judged by openssl."""
import subprocess

from cryptography import x509

from . import pki, stubs
from .process import write


def split_der(blob):
    """Concatenated DER certificates, apart."""
    out = []
    while blob:
        size = 4 + int.from_bytes(blob[2:4], 'big')  # certificates are between 256 and 65535 bytes
        out.append(blob[:size])
        blob = blob[size:]
    return out


def verify(folder, chain, roots_pem):
    """What openssl says of a chain of DER certificates, leaf first: 'ok', or its complaint."""
    write(folder / 'leaf', pki.pem_from_der(chain[0]))
    write(folder / 'roots', roots_pem)
    args = ['openssl', 'verify', '-x509_strict', '-CAfile', folder / 'roots']
    if len(chain) > 1:
        write(folder / 'between', pki.pem_from_der(*chain[1:]))
        args += ['-untrusted', folder / 'between']
    done = subprocess.run(args + [folder / 'leaf'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
    return 'ok' if done.returncode == 0 else done.stdout.decode()


def mint(server, path='/minted'):
    """The chain of a new SVID."""
    return list(server.svids.MintX509SVID(stubs.svid.MintX509SVIDRequest(
        csr=pki.csr(pki.new_key(), ['spiffe://example.org' + path]))).svid.cert_chain)


def subject(der):
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()
