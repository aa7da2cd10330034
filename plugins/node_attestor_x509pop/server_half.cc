// SPDX-License-Identifier: Apache-2.0
// Server half: verifies the chain against the configured roots, or the server's own ones, challenges the key, and names
// the agent. Where its name has the certificate's fingerprint, the certificate's twin (kit/twin.h) must not be an
// agent. BLOCKING: it reads files at configuration and verifies signatures. Codes and texts are SPIRE's.
#include <algorithm>
#include <ctime>
#include <memory>
#include <optional>
#include <set>

#include "kit/chains.h"
#include "kit/kit.h"
#include "kit/names.h"
#include "kit/twin.h"
#include "node_attestor_x509pop/halves.h"
#include "node_attestor_x509pop/proof.h"
#include "node_attestor_x509pop/settings.h"

namespace limpet::x509pop {
namespace {

using kit::Chain;

constexpr const char* kName = "x509pop";

struct Server {
  explicit Server(const limpet_host* given) : host(given), twins(given) {}
  const limpet_host* host;
  const limpet_identity_service* identity = nullptr;
  kit::TwinCheck twins;
  std::optional<Settings> settings = std::nullopt;
};
// What the first step found out; the second only checks the proof.
struct ServerSession {
  Server* server = nullptr;
  std::string peer_ip;
  bool challenged = false;
  bool spent = false;
  PublicKey key = {};
  Bytes nonce = {};
  std::string agent_path = {};
  std::string twin_path = {};  // of the certificate's twin; empty: it has none
  std::vector<std::string> selectors = {};
};
Server* self_of(limpet_instance* self) { return reinterpret_cast<Server*>(self); }
ServerSession* self_of(limpet_session* session) { return reinterpret_cast<ServerSession*>(session); }

limpet_code create(const limpet_host* host, limpet_instance** out) {
  auto* server = new Server(host);
  server->identity = static_cast<const limpet_identity_service*>(host->service(host, LIMPET_SERVICE_IDENTITY));
  *out = reinterpret_cast<limpet_instance*>(server);
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

Result<void> apply(Server& self, const limpet_config& config) {
  TRY_ASSIGN(Settings settings, read_settings(config));
  if (config.dry_run != 0) return {};
  if (settings.spiffe && self.identity == nullptr)
    return fail(Code::failed_precondition, "mode \"spiffe\": the host has no " LIMPET_SERVICE_IDENTITY);
  if (settings.path.uses("Fingerprint") && !self.twins.offered())
    return fail(Code::failed_precondition, "agents named by fingerprint: the host has no " LIMPET_SERVICE_AGENT_STORE);
  self.settings = std::move(settings);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  kit::end(op, done, apply(*self_of(self), *config));
}

limpet_session* open_session(limpet_instance* self, const limpet_attempt* attempt) {
  return reinterpret_cast<limpet_session*>(new ServerSession{self_of(self), std::string(kit::view(attempt->peer_ip))});
}
void close_session(limpet_session* session) { delete self_of(session); }

std::vector<std::string> make_selectors(const Settings& settings, const Certificate& leaf,
                                        const std::vector<Chain>& chains) {
  std::vector<std::string> out;
  if (const std::string cn = kit::common_name(leaf.subject); !cn.empty()) out.push_back("subject:cn:" + cn);
  std::set<std::string> seen;
  for (const Chain& chain : chains) {
    for (size_t i = 1; i < chain.size(); ++i) {
      if (std::string print = kit::fingerprint(*chain[i]); seen.insert(print).second)
        out.push_back("ca:fingerprint:" + print);
    }
  }
  out.push_back("serialnumber:" + kit::serial_hex(leaf));
  const std::string prefix = "x509pop://" + settings.trust_domain + "/";
  for (const std::string& uri : leaf.uris) {
    const size_t slash = uri.starts_with(prefix) ? uri.find('/', prefix.size()) : std::string::npos;
    if (slash == std::string::npos || slash == prefix.size() || slash + 1 == uri.size()) continue;
    out.push_back("san:" + uri.substr(prefix.size(), slash - prefix.size()) + ":" + uri.substr(slash + 1));
  }
  return out;
}

Result<void> check_size(const Settings& settings, const Certificate& certificate, const std::string& which) {
  if (!certificate.key.is_rsa() || certificate.key.bits() <= settings.max_rsa_bits) return {};
  return invalid(which + " has an RSA key of " + std::to_string(certificate.key.bits()) + " bits; at most " +
                 std::to_string(settings.max_rsa_bits) + " are taken (max_rsa_key_size)");
}

Result<std::vector<Certificate>> read_chain(const Settings& settings, BytesView payload) {
  TRY_ASSIGN_WITHIN("failed to unmarshal data", const std::vector<Bytes> ders, decode_payload(payload));
  if (ders.empty()) return invalid("no certificate to attest");
  if (ders.size() - 1 > settings.max_intermediates)
    return invalid("too many intermediates: " + std::to_string(ders.size() - 1) + ", at most " +
                   std::to_string(settings.max_intermediates) + " are taken (max_intermediates)");
  std::vector<Certificate> out;
  for (size_t i = 0; i < ders.size(); ++i) {
    const std::string which = i == 0 ? "leaf certificate" : "intermediate certificate " + std::to_string(i - 1);
    TRY_ASSIGN_WITHIN("unable to parse " + which, Certificate certificate, Certificate::parse(ders[i]));
    TRY(check_size(settings, certificate, which));
    out.push_back(std::move(certificate));
  }
  return out;
}

// mode "spiffe": the server's own roots, as they are now.
Result<std::vector<Certificate>> own_roots(const Server& server) {
  std::vector<Bytes> ders;
  const auto take = [](void* arg, const limpet_identity* identity) {
    const limpet_bytes_list& roots = identity->bundle->x509_roots_der;
    for (size_t i = 0; i < roots.count; ++i)
      static_cast<std::vector<Bytes>*>(arg)->push_back(to_bytes(kit::view(roots.items[i])));
  };
  if (server.identity->get(server.host, take, &ders) != LIMPET_OK)
    return fail(Code::unavailable, "failed to get trust bundle: the server has none yet");
  std::vector<Certificate> out;
  for (const Bytes& der : ders) {
    TRY_ASSIGN_WITHIN("failed to get trust bundle", Certificate root, Certificate::parse(der));
    out.push_back(std::move(root));
  }
  return out;
}

// mode "spiffe": the path of the leaf's SPIFFE ID without the prefix. The roots may be shared with other trust domains
// (one upstream CA), so the ID must be of ours, which SPIRE does not ask.
Result<std::string> trimmed_path(const Settings& settings, const Certificate& leaf) {
  constexpr std::string_view kScheme = "spiffe://";
  const auto uri = std::ranges::find_if(leaf.uris, [&](const std::string& text) { return text.starts_with(kScheme); });
  if (uri == leaf.uris.end()) return fail(Code::permission_denied, "valid SVID x509 cert not found");
  const std::string wanted = std::string(kScheme) + settings.trust_domain + settings.prefix;
  if (!uri->starts_with(wanted) || uri->size() == wanted.size())
    return fail(Code::permission_denied, "x509 cert doesnt match SVID prefix");
  return uri->substr(wanted.size());
}

// The payload: after it the session knows everything but whether the agent has the key.
Result<std::string> challenge(ServerSession& session, BytesView payload) {
  if (!session.server->settings) return fail(Code::failed_precondition, "not configured");
  const Settings& settings = *session.server->settings;
  TRY_ASSIGN(const std::vector<Certificate> given, read_chain(settings, payload));
  const Certificate& leaf = given.front();
  std::vector<Certificate> own;
  if (settings.spiffe) {
    TRY_ASSIGN(own, own_roots(*session.server));
  }
  const std::vector<Certificate>& roots = settings.spiffe ? own : settings.roots;
  const auto chains = kit::find_chains(leaf, std::span(given).subspan(1), roots, std::time(nullptr));
  if (!chains) return fail(Code::permission_denied, "certificate verification failed: " + chains.error().message);
  if (settings.verify_client_ip && !kit::has_address(leaf, session.peer_ip))
    return fail(Code::permission_denied, "certificate verification failed: client IP " + session.peer_ip +
                                             " is not an IP SAN of the certificate");
  if ((leaf.key_usage & kDigitalSignature) == 0)
    return fail(Code::internal, "unable to generate challenge: certificate not intended for digital signature use");
  std::string svid_path;
  if (settings.spiffe) {
    TRY_ASSIGN(svid_path, trimmed_path(settings, leaf));
  }
  // A path of the leaf alone: it is a root, signed by itself.
  const Certificate& issuer = chains->front().size() > 1 ? *chains->front()[1] : leaf;
  TRY_ASSIGN_WITHIN("signature of the leaf certificate", const Bytes twin, kit::certificate_twin(leaf, issuer.key));
  const auto path = [&](const std::string& fingerprint) {
    return "/spire/agent" + settings.path.render({{"PluginName", kName},
                                                  {"TrustDomain", settings.trust_domain},
                                                  {"Fingerprint", fingerprint},
                                                  {"SVIDPathTrimmed", svid_path},
                                                  {"SerialNumberHex", kit::serial_hex(leaf)},
                                                  {"Subject.CommonName", kit::common_name(leaf.subject)}});
  };
  session.agent_path = path(kit::fingerprint(leaf));
  if (!twin.empty() && settings.path.uses("Fingerprint")) session.twin_path = path(hex_encode(sha1(twin)));
  session.selectors = make_selectors(settings, leaf, *chains);
  session.key = leaf.key;
  session.nonce = random_bytes(kNonceBytes);
  session.challenged = true;
  return encode_challenge(session.key, session.nonce);
}

// A challenge is answered once, rightly or wrongly.
Result<void> check_proof(ServerSession& session, BytesView response) {
  if (session.spent) return invalid("the challenge was answered already");
  session.spent = true;
  TRY_ASSIGN_WITHIN("unable to unmarshal challenge response", const Answer answer,
                    decode_answer(response, session.key.is_rsa()));
  if (auto good = verify_answer(session.key, session.nonce, answer); !good)
    return fail(Code::permission_denied, "challenge response verification failed: " + good.error().message);
  return session.server->twins.refuse_known(session.server->settings->trust_domain, session.twin_path);
}

void step(limpet_session* raw, limpet_op* op, limpet_bytes from_agent, limpet_step_done done) {
  ServerSession& session = *self_of(raw);
  session.server->twins.begin(op);
  if (!session.challenged) {
    const auto asked = challenge(session, kit::view(from_agent));
    if (!asked) return kit::refuse(op, done, asked.error());
    return kit::challenge(op, done, *asked);
  }
  if (const auto good = check_proof(session, kit::view(from_agent)); !good) return kit::refuse(op, done, good.error());
  kit::attest(op, done, session.agent_path, session.selectors, true);
}

void cancel(limpet_instance* self, limpet_op* op) { self_of(self)->twins.cancel(op); }

constexpr limpet_node_attestor_server kTable = {sizeof(limpet_node_attestor_server), 0, open_session, step,
                                                close_session};

}  // namespace

constexpr limpet_component kServerHalf = {sizeof(limpet_component),
                                          LIMPET_BLOCKING,
                                          LIMPET_NODE_ATTESTOR_SERVER,
                                          kName,
                                          create,
                                          destroy,
                                          configure,
                                          cancel,
                                          &kTable};

}  // namespace limpet::x509pop
