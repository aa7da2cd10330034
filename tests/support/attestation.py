# SPDX-License-Identifier: Apache-2.0
"""Agents played by hand: one attestation with a payload and an answer of the test's choice, and what x509pop needs."""
import base64
import datetime
import hashlib
import json
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from . import pki, stubs
from .h2grpc import RpcError
from .node import PREFIX, Node

ATTEST = PREFIX + 'agent.v1.Agent/AttestAgent'
DIGEST = utils.Prehashed(hashes.SHA256())
INVALID, PERMISSION, INTERNAL = 3, 7, 13


def certify(subject, key, issuer=None, ca=False, ttl=3600, usages=None, sans=(), start=-60):
    """A certificate for `key` by (certificate, key) of the issuer, or by itself."""
    name = pki.name(CN=subject)
    now = datetime.datetime.utcnow()
    builder = (x509.CertificateBuilder().subject_name(name).issuer_name(issuer[0].subject if issuer else name)
               .public_key(key.public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(now + datetime.timedelta(seconds=start))
               .not_valid_after(now + datetime.timedelta(seconds=ttl))
               .add_extension(x509.BasicConstraints(ca, None), True)
               .add_extension(usages or pki.usage(**({'key_cert_sign': True} if ca else {'digital_signature': True})), True))
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(sans)), False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256())


def b64(data):
    return base64.b64encode(data).decode()


def payload(*certificates):
    return json.dumps({'certificates': [b64(pki.der_of(c)) for c in certificates]}).encode()


def prove(key, challenge, nonce=None, salt=None):
    """SPIRE's answer to an x509pop challenge."""
    nonce = nonce if nonce is not None else os.urandom(32)
    kind = 'rsa_signature' if isinstance(key, rsa.RSAPrivateKey) else 'ecdsa_signature'
    asked = base64.b64decode(json.loads(challenge)[kind]['nonce'])
    digest = hashlib.sha256(asked + nonce).digest()
    answer = {'rsa_signature': None, 'ecdsa_signature': None}
    if kind == 'rsa_signature':
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH if salt is None else salt)
        answer[kind] = {'nonce': b64(nonce), 'signature': b64(key.sign(digest, pss, DIGEST))}
    else:
        r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(DIGEST)))
        answer[kind] = {'nonce': b64(nonce), 'r': b64(r.to_bytes((r.bit_length() + 7) // 8, 'big')),
                        's': b64(s.to_bytes((s.bit_length() + 7) // 8, 'big'))}
    return json.dumps(answer).encode()


def attest(server, sent, answer, kind='x509pop'):
    """(node, result): one attestation; `answer` makes the response of the challenge."""
    node = Node(server)
    with server.tls() as link:
        call = link.start(ATTEST)
        call.send(node.attest_request(sent, kind))
        asked = call.receive(stubs.agent.AttestAgentResponse)
        assert asked.WhichOneof('step') == 'challenge', asked
        node.challenge = asked.challenge
        call.send(stubs.agent.AttestAgentRequest(challenge_response=answer(asked.challenge)))
        result = call.receive(stubs.agent.AttestAgentResponse).result
        assert call.receive() is None
    node.chain, node.id = list(result.svid.cert_chain), result.svid.id
    return node, result


def refused(server, sent, answer=None, kind='x509pop'):
    with pytest.raises(RpcError) as error:
        attest(server, sent, answer or (lambda challenge: b'{}'), kind)
    return error.value.code, error.value.message


def selectors_of(server, agent_id):
    agent = server.agents.GetAgent(stubs.agent.GetAgentRequest(id=agent_id))
    return sorted(s.type + ':' + s.value for s in agent.selectors)
