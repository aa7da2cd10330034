# SPDX-License-Identifier: Apache-2.0
"""A SPIRE agent driven by hand against our server."""
from cryptography import x509

from . import pki, stubs

PREFIX = 'spire.api.server.'


class Node:
    """One node identity: key, chain and serial, and calls made with it."""

    def __init__(self, server, key=None, chain=None):
        self.server, self.key, self.chain = server, key or pki.new_key(), chain or []

    @classmethod
    def attest(cls, server, token=None, connection=None):
        """Attests with a join token, on a connection without a client certificate."""
        node = cls(server)
        token = token if token is not None else server.token()
        with connection or server.tls() as link:
            call = link.start(PREFIX + 'agent.v1.Agent/AttestAgent')
            call.send(node.attest_request(token))
            answer = call.receive(stubs.agent.AttestAgentResponse)
            assert call.receive() is None
        assert answer.WhichOneof('step') == 'result', answer
        node.result = answer.result
        node.chain = list(answer.result.svid.cert_chain)
        node.id = answer.result.svid.id
        return node

    def attest_request(self, token, kind='join_token'):
        payload = token if isinstance(token, bytes) else token.encode()
        return stubs.agent.AttestAgentRequest(params=stubs.agent.AttestAgentRequest.Params(
            data=stubs.types.AttestationData(type=kind, payload=payload),
            params=stubs.agent.AgentX509SVIDParams(csr=pki.csr(self.key))))

    @property
    def certificate(self):
        return x509.load_der_x509_certificate(self.chain[0])

    def connect(self):
        return self.server.tls(chain=pki.pem_from_der(*self.chain), key=pki.key_pem(self.key))

    def call(self, method, request, kind):
        with self.connect() as link:
            return link.unary(PREFIX + method, request, kind)

    def renew(self):
        """A new Node with a new key and the renewed SVID; this one stays what it was."""
        key = pki.new_key()
        answer = self.call('agent.v1.Agent/RenewAgent', stubs.agent.RenewAgentRequest(
            params=stubs.agent.AgentX509SVIDParams(csr=pki.csr(key))), stubs.agent.RenewAgentResponse)
        node = Node(self.server, key, list(answer.svid.cert_chain))
        node.id = answer.svid.id
        return node

    def authorized(self):
        return self.call('entry.v1.Entry/GetAuthorizedEntries', stubs.entry.GetAuthorizedEntriesRequest(),
                         stubs.entry.GetAuthorizedEntriesResponse)

    def sign(self, *params):
        """BatchNewX509SVID of (entry id, CSR) pairs."""
        return self.call('svid.v1.SVID/BatchNewX509SVID', stubs.svid.BatchNewX509SVIDRequest(
            params=[stubs.svid.NewX509SVIDParams(entry_id=i, csr=c) for i, c in params]), stubs.svid.BatchNewX509SVIDResponse)
