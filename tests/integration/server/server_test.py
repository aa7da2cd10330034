# SPDX-License-Identifier: Apache-2.0
"""The server as foreign clients see it: an administrator, a SPIRE agent driven by hand. Run: server_test.py LIMPET PROTOS."""
import datetime
import sys
import tempfile
import unittest

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

import peer
from peer import PEM, Server, Tls, csr, new_key, stream, unary

LIMPET = sys.argv[1]
STUBS = tempfile.TemporaryDirectory(prefix="limpet-stubs-")
peer.make_stubs(sys.argv[2], STUBS.name)
import google_rpc_status_pb2 as rpc_status  # noqa: E402
import spire_agent_pb2 as agents  # noqa: E402
import spire_bundle_pb2 as bundles  # noqa: E402
import spire_entry_pb2 as entries  # noqa: E402
import spire_svid_pb2 as svids  # noqa: E402
import spire_types_pb2 as types  # noqa: E402

AGENT, ENTRY, SVID, BUNDLE = "agent.v1.Agent/", "entry.v1.Entry/", "svid.v1.SVID/", "bundle.v1.Bundle/"
Code = grpc.StatusCode


def spiffe_id(path):
    return types.SPIFFEID(trust_domain="example.org", path=path)


def pem_of(svid, key):
    chain = b"".join(x509.load_der_x509_certificate(der).public_bytes(PEM) for der in svid.cert_chain)
    return chain + key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class ServerCase(unittest.TestCase):
    key_manager = "memory"
    settings = ""

    def setUp(self):
        self.server = Server(LIMPET, self.key_manager, self.settings)
        self.addCleanup(self.server.close)
        self.connect()

    def connect(self):
        self.local = self.server.local()
        self.bundle = unary(self.local, BUNDLE + "GetBundle", bundles.GetBundleRequest(), types.Bundle)
        self.root = x509.load_der_x509_certificate(self.bundle.x509_authorities[0].asn1)
        self.anonymous = self.tls()

    def tls(self, identity=None):
        return Tls(self.server, self.root.public_bytes(PEM).decode(), identity).channel

    def refused(self, code, call):
        with self.assertRaises(grpc.RpcError) as refused:
            call()
        self.assertEqual(refused.exception.code(), code, refused.exception.details())
        return refused.exception

    def reason(self, error):
        trailer = dict(error.trailing_metadata())["grpc-status-details-bin"]
        status = rpc_status.Status.FromString(trailer)
        self.assertEqual((status.code, status.message), (7, error.details()))
        self.assertEqual(status.details[0].type_url, "type.googleapis.com/spire.api.types.PermissionDeniedDetails")
        return types.PermissionDeniedDetails.FromString(status.details[0].value).reason

    def token(self, **fields):
        return unary(self.local, AGENT + "CreateJoinToken", agents.CreateJoinTokenRequest(ttl=60, **fields), types.JoinToken)

    def attest(self, token, key):
        request = agents.AttestAgentRequest()
        request.params.data.type = "join_token"
        request.params.data.payload = token.encode()
        request.params.params.csr = csr(key)
        return stream(self.anonymous, AGENT + "AttestAgent", agents.AttestAgentResponse, request)[0].result

    def joined(self, alias="/node"):
        key = new_key()
        result = self.attest(self.token(agent_id=spiffe_id(alias)).value, key)
        return result.svid, key, self.tls(pem_of(result.svid, key))

    def create(self, *paths, parent="/node"):
        request = entries.BatchCreateEntryRequest()
        for path in paths:
            request.entries.add(spiffe_id=spiffe_id(path), parent_id=spiffe_id(parent)).selectors.add(type="unix", value="uid:0")
        answer = unary(self.local, ENTRY + "BatchCreateEntry", request, entries.BatchCreateEntryResponse)
        self.assertEqual([r.status.code for r in answer.results], [0] * len(paths))

    def sync(self, channel):
        answers = stream(channel, ENTRY + "SyncAuthorizedEntries", entries.SyncAuthorizedEntriesResponse,
                         entries.SyncAuthorizedEntriesRequest())
        if not answers[0].entry_revisions:
            return {e.spiffe_id.path: e.id for e in answers[0].entries}
        answers = stream(channel, ENTRY + "SyncAuthorizedEntries", entries.SyncAuthorizedEntriesResponse,
                         entries.SyncAuthorizedEntriesRequest(),
                         lambda a: entries.SyncAuthorizedEntriesRequest(ids=sorted(r.id for r in a[0].entry_revisions)))
        return {e.spiffe_id.path: e.id for e in answers[1].entries}


class AgentLife(ServerCase):
    def test_an_agent_attests_once_with_its_token_and_its_svid_follows_the_profile(self):
        token = self.token()
        key = new_key()
        result = self.attest(token.value, key)
        self.assertFalse(result.reattestable)
        self.assertEqual(result.svid.id.path, "/spire/agent/join_token/" + token.value)
        self.assertEqual(len(result.svid.cert_chain), 1)
        leaf = x509.load_der_x509_certificate(result.svid.cert_chain[0])
        self.root.public_key().verify(leaf.signature, leaf.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
        self.assertEqual(leaf.public_key().public_numbers(), key.public_key().public_numbers())
        self.assertEqual(leaf.subject.rfc4514_string(), "O=SPIRE,C=US")
        san = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        self.assertEqual([n.value for n in san.value], ["spiffe://example.org/spire/agent/join_token/" + token.value])
        self.assertFalse(san.critical)
        usage = leaf.extensions.get_extension_for_oid(ExtensionOID.KEY_USAGE)
        self.assertTrue(usage.critical and usage.value.digital_signature and usage.value.key_encipherment and usage.value.key_agreement)
        self.assertTrue(leaf.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS).critical)
        error = self.refused(Code.INVALID_ARGUMENT, lambda: self.attest(token.value, key))
        self.assertEqual(error.details(), "failed to attest: join token does not exist or has already been used")

    def test_an_agent_syncs_and_gets_svids_for_its_entries_only(self):
        self.create("/web", "/db")
        self.create("/foreign", parent="/elsewhere")
        _, _, channel = self.joined()
        ids = self.sync(channel)
        self.assertEqual(sorted(ids), ["/db", "/node", "/web"])
        key = new_key()
        request = svids.BatchNewX509SVIDRequest()
        request.params.add(entry_id=ids["/web"], csr=csr(key))
        request.params.add(entry_id="unknown", csr=csr(key))
        answer = unary(channel, SVID + "BatchNewX509SVID", request, svids.BatchNewX509SVIDResponse)
        self.assertEqual([(r.status.code, r.status.message) for r in answer.results],
                         [(0, "OK"), (5, "entry not found or not authorized")])
        self.assertEqual(answer.results[0].svid.id.path, "/web")
        self.create("/new")  # visible at once
        self.assertIn("/new", self.sync(channel))

    def test_a_renewed_svid_ends_the_old_one_when_it_is_first_used_and_a_ban_ends_both(self):
        svid, key, old = self.joined()
        request = agents.RenewAgentRequest()
        request.params.csr = csr(key)
        renewed = unary(old, AGENT + "RenewAgent", request, agents.RenewAgentResponse).svid
        self.sync(old)
        new = self.tls(pem_of(renewed, key))
        self.sync(new)
        self.assertEqual(self.reason(self.refused(Code.PERMISSION_DENIED, lambda: self.sync(old))), 3)
        serial = x509.load_der_x509_certificate(renewed.cert_chain[0]).serial_number
        agent = unary(self.local, AGENT + "GetAgent", agents.GetAgentRequest(id=svid.id), types.Agent)
        self.assertEqual(agent.x509svid_serial_number, str(serial))
        unary(self.local, AGENT + "BanAgent", agents.BanAgentRequest(id=svid.id), types.Status)
        self.assertEqual(self.reason(self.refused(Code.PERMISSION_DENIED, lambda: self.sync(new))), 4)
        unary(self.local, AGENT + "DeleteAgent", agents.DeleteAgentRequest(id=svid.id), types.Status)
        self.assertEqual(self.reason(self.refused(Code.PERMISSION_DENIED, lambda: self.sync(new))), 2)


class Callers(ServerCase):
    def test_a_minted_admin_id_may_administrate_over_tcp_and_an_unknown_caller_may_not(self):
        key = new_key()
        mint = svids.MintX509SVIDRequest(csr=csr(key, "spiffe://example.org/admin"))
        svid = unary(self.local, SVID + "MintX509SVID", mint, svids.MintX509SVIDResponse).svid
        admin = self.tls(pem_of(svid, key))
        unary(admin, AGENT + "ListAgents", agents.ListAgentsRequest(), agents.ListAgentsResponse)
        error = self.refused(Code.PERMISSION_DENIED, lambda: unary(
            self.anonymous, AGENT + "ListAgents", agents.ListAgentsRequest(), agents.ListAgentsResponse))
        self.assertEqual(error.details(), "authorization denied for method /spire.api.server.agent.v1.Agent/ListAgents")
        self.refused(Code.UNIMPLEMENTED, lambda: unary(admin, "debug.v1.Debug/GetInfo", types.Status(), types.Status))

    def test_a_certificate_of_another_authority_ends_the_handshake(self):
        key = new_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
        now = datetime.datetime.utcnow()
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://example.org/admin")])
        forged = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(9)
                  .not_valid_before(now).not_valid_after(now + datetime.timedelta(hours=1)).add_extension(san, False)
                  .sign(key, hashes.SHA256()).public_bytes(PEM))
        channel = self.tls(forged + key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        self.refused(Code.UNAVAILABLE, lambda: unary(channel, BUNDLE + "GetBundle", bundles.GetBundleRequest(), types.Bundle))

    def test_jwt_federation_and_authorities_answer_unimplemented_to_who_may_ask(self):
        for method in ("svid.v1.SVID/MintJWTSVID", "trustdomain.v1.TrustDomain/RefreshBundle",
                       "localauthority.v1.LocalAuthority/GetX509AuthorityState", "bundle.v1.Bundle/ListFederatedBundles"):
            self.refused(Code.UNIMPLEMENTED, lambda: unary(self.local, method, types.Status(), types.Status))
            self.refused(Code.PERMISSION_DENIED, lambda: unary(self.anonymous, method, types.Status(), types.Status))


class Restarts(ServerCase):
    key_manager = "disk"

    def test_after_a_kill_the_same_ca_signs_and_every_agent_and_entry_is_there(self):
        self.create("/web")
        svid, key, _ = self.joined()
        before = self.bundle
        self.server.kill()
        self.server.start()
        self.connect()
        self.assertEqual(self.bundle, before)
        self.assertEqual(sorted(self.sync(self.tls(pem_of(svid, key)))), ["/node", "/web"])


class ShortLives(ServerCase):
    settings = 'ca_ttl = "6s"\ndefault_x509_svid_ttl = "4s"\n'

    def test_an_svid_never_outlives_its_ca(self):
        key = new_key()
        mint = svids.MintX509SVIDRequest(csr=csr(key, "spiffe://example.org/web"), ttl=3600)
        svid = unary(self.local, SVID + "MintX509SVID", mint, svids.MintX509SVIDResponse).svid
        roots = [x509.load_der_x509_certificate(a.asn1) for a in self.bundle.x509_authorities]
        self.assertEqual(x509.load_der_x509_certificate(svid.cert_chain[0]).not_valid_after, roots[-1].not_valid_after)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
