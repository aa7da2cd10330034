// SPDX-License-Identifier: Apache-2.0
// Server half: verifies the chain against the configured roots, challenges the key, and names the agent. BLOCKING: it
// reads files at configuration and verifies signatures. Codes and texts are SPIRE's.
#include <ctime>
#include <memory>
#include <optional>
#include <set>

#include "kit/kit.h"
#include "kit/path_template.h"
#include "kit/pem_files.h"
#include "node_attestor_x509pop/chains.h"
#include "node_attestor_x509pop/halves.h"
#include "node_attestor_x509pop/names.h"
#include "node_attestor_x509pop/proof.h"

namespace limpet::x509pop {
namespace {

constexpr const char* kName = "x509pop";
constexpr const char* kDefaultTemplate = "/{{ .PluginName }}/{{ .Fingerprint }}";
constexpr int64_t kMaxIntermediates = 16;
constexpr int64_t kMaxRsaBits = 8192;  // what crypto::PublicKey takes at most

struct Settings {
  std::string trust_domain;
  std::vector<Certificate> roots;
  kit::PathTemplate path;
  size_t max_intermediates = 4;
  uint32_t max_rsa_bits = kMaxRsaBits;
  bool verify_client_ip = false;
};
struct Server {
  std::optional<Settings> settings;
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
  std::vector<std::string> selectors = {};
};
Server* self_of(limpet_instance* self) { return reinterpret_cast<Server*>(self); }
ServerSession* self_of(limpet_session* session) { return reinterpret_cast<ServerSession*>(session); }

limpet_code create(const limpet_host*, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Server());
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

Result<size_t> bounded(int64_t value, int64_t most, const char* key) {
  if (value < 0 || value > most) return invalid(std::string(key) + " must be between 0 and " + std::to_string(most));
  return static_cast<size_t>(value);
}

Result<std::vector<Certificate>> read_roots(kit::ConfigReader& reader) {
  const std::string path = reader.text("ca_bundle_path");
  std::vector<std::string> paths = reader.texts("ca_bundle_paths");
  if (!path.empty() && !paths.empty())
    return invalid("only one of ca_bundle_path or ca_bundle_paths can be configured, not both");
  if (!path.empty()) paths.push_back(path);
  if (paths.empty()) return invalid("one of ca_bundle_path or ca_bundle_paths must be configured");
  std::vector<Certificate> roots;
  for (const std::string& file : paths) {
    auto more = kit::read_certificates(file);
    if (!more) return invalid("unable to load trust bundle: " + more.error().message);
    for (Certificate& root : *more) roots.push_back(std::move(root));
  }
  return roots;
}

Result<Settings> read_settings(const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  Settings out;
  out.trust_domain = kit::view(config.trust_domain);
  const std::string mode = reader.text("mode");
  const std::string path = reader.text("agent_path_template");
  out.verify_client_ip = reader.flag("verify_client_ip", false);
  auto roots = read_roots(reader);
  const int64_t intermediates = reader.number("max_intermediates", 4);
  const int64_t rsa_bits = reader.number("max_rsa_key_size", kMaxRsaBits);
  TRY(reader.finish());
  if (mode == "spiffe") return fail(Code::unimplemented, "mode \"spiffe\" is not there yet; use \"external_pki\"");
  if (!mode.empty() && mode != "external_pki") return invalid("mode must be \"external_pki\", not \"" + mode + "\"");
  TRY_ASSIGN(out.roots, std::move(roots));
  TRY_ASSIGN(out.max_intermediates, bounded(intermediates, kMaxIntermediates, "max_intermediates"));
  TRY_ASSIGN(const size_t bits, bounded(rsa_bits, kMaxRsaBits, "max_rsa_key_size"));
  out.max_rsa_bits = static_cast<uint32_t>(bits);
  TRY_ASSIGN(out.path, kit::PathTemplate::parse(
                           path.empty() ? kDefaultTemplate : path,
                           {"PluginName", "TrustDomain", "Fingerprint", "SerialNumberHex", "Subject.CommonName"}));
  return out;
}

Result<void> apply(Server& self, const limpet_config& config) {
  TRY_ASSIGN(Settings settings, read_settings(config));
  if (config.dry_run == 0) self.settings = std::move(settings);
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
  if (const std::string cn = common_name(leaf); !cn.empty()) out.push_back("subject:cn:" + cn);
  std::set<std::string> seen;
  for (const Chain& chain : chains) {
    for (size_t i = 1; i < chain.size(); ++i) {
      if (std::string print = fingerprint(*chain[i]); seen.insert(print).second)
        out.push_back("ca:fingerprint:" + print);
    }
  }
  out.push_back("serialnumber:" + serial_hex(leaf));
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

// The payload: after it the session knows everything but whether the agent has the key.
Result<std::string> challenge(ServerSession& session, BytesView payload) {
  if (!session.server->settings) return fail(Code::failed_precondition, "not configured");
  const Settings& settings = *session.server->settings;
  TRY_ASSIGN(const std::vector<Certificate> given, read_chain(settings, payload));
  const Certificate& leaf = given.front();
  const auto chains = find_chains(leaf, std::span(given).subspan(1), settings.roots, std::time(nullptr));
  if (!chains) return fail(Code::permission_denied, "certificate verification failed: " + chains.error().message);
  if (settings.verify_client_ip && !has_address(leaf, session.peer_ip))
    return fail(Code::permission_denied, "certificate verification failed: client IP " + session.peer_ip +
                                             " is not an IP SAN of the certificate");
  if ((leaf.key_usage & kDigitalSignature) == 0)
    return fail(Code::internal, "unable to generate challenge: certificate not intended for digital signature use");
  session.agent_path = "/spire/agent" + settings.path.render({{"PluginName", kName},
                                                              {"TrustDomain", settings.trust_domain},
                                                              {"Fingerprint", fingerprint(leaf)},
                                                              {"SerialNumberHex", serial_hex(leaf)},
                                                              {"Subject.CommonName", common_name(leaf)}});
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
  return {};
}

void refuse(limpet_op* op, limpet_step_done done, const Error& error) {
  const limpet_status status = kit::status_of(error);
  done(op, &status, nullptr);
}

void step(limpet_session* raw, limpet_op* op, limpet_bytes from_agent, limpet_step_done done) {
  ServerSession& session = *self_of(raw);
  limpet_attest_step out = {};
  out.size = sizeof out;
  if (!session.challenged) {
    const auto asked = challenge(session, kit::view(from_agent));
    if (!asked) return refuse(op, done, asked.error());
    out.challenge = kit::lend(as_bytes(*asked));
    return done(op, nullptr, &out);
  }
  if (const auto good = check_proof(session, kit::view(from_agent)); !good) return refuse(op, done, good.error());
  std::vector<limpet_str> selectors;
  selectors.reserve(session.selectors.size());
  for (const std::string& value : session.selectors) selectors.push_back(kit::lend(value));
  out.attested = 1;
  out.agent_path = kit::lend(session.agent_path);
  out.selectors = {selectors.data(), selectors.size()};
  out.can_reattest = 1;
  done(op, nullptr, &out);
}

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
                                          nullptr,
                                          &kTable};

}  // namespace limpet::x509pop
