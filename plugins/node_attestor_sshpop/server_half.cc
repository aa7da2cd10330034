// SPDX-License-Identifier: Apache-2.0
// Server half: checks the host certificate against the configured authorities, challenges the host key, and names the
// agent. Where its name has the certificate's fingerprint, the certificate's twin (kit/twin.h) must not be an agent:
// PERMISSION_DENIED. Else all failures are Internal, as SPIRE's; key types that we lack are UNIMPLEMENTED. BLOCKING: it
// verifies.
#include <yyjson.h>

#include <ctime>
#include <optional>

#include "kit/go_json.h"
#include "kit/kit.h"
#include "kit/path_template.h"
#include "kit/pem_files.h"
#include "kit/twin.h"
#include "node_attestor_sshpop/halves.h"
#include "node_attestor_sshpop/ssh_wire.h"

namespace limpet::sshpop {
namespace {

constexpr const char* kName = "sshpop";
constexpr const char* kDefaultTemplate = "/{{ .PluginName }}/{{ .Fingerprint }}";
constexpr size_t kMaxAuthoritiesBytes = 1u << 20;

struct Settings {
  std::vector<Bytes> authorities;
  std::string canonical_domain;
  kit::PathTemplate path;
  std::string trust_domain;
};
struct Server {
  explicit Server(const limpet_host* host) : twins(host) {}
  kit::TwinCheck twins;
  std::optional<Settings> settings = std::nullopt;
};
struct ServerSession {
  Server* server = nullptr;
  bool challenged = false;
  bool spent = false;
  SshKey key = {};
  Bytes nonce = {};
  std::string agent_path = {};
  std::string twin_path = {};  // of the certificate's twin; empty: it has none
};
Server* self_of(limpet_instance* self) { return reinterpret_cast<Server*>(self); }
ServerSession* self_of(limpet_session* session) { return reinterpret_cast<ServerSession*>(session); }

limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Server(host));
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }
std::unexpected<Error> internal(const std::string& what, const Error& error) {
  return fail(error.code == Code::unimplemented ? error.code : Code::internal, what + ": " + error.message);
}

Result<void> add_authority(Settings& settings, std::string_view line, const std::string& which) {
  TRY_ASSIGN_WITHIN(which, Bytes blob, parse_key_line(line));
  TRY_WITHIN(which, parse_key(blob));
  settings.authorities.push_back(std::move(blob));
  return {};
}

Result<void> add_file(Settings& settings, const std::string& path) {
  auto text = kit::read_file(path, kMaxAuthoritiesBytes);
  if (!text) return invalid("failed to get cert authorities from file: " + text.error().message);
  size_t number = 0;
  for (std::string_view rest = *text; !rest.empty();) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos || line.starts_with("#")) continue;
    TRY(add_authority(settings, line, path + " line " + std::to_string(number)));
  }
  return {};
}

Result<void> apply(Server& self, const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  const std::vector<std::string> lines = reader.texts("cert_authorities");
  const std::string file = reader.text("cert_authorities_path");
  const std::string path = reader.text("agent_path_template");
  Settings settings;
  settings.canonical_domain = reader.text("canonical_domain");
  TRY(reader.finish());
  if (lines.empty() && file.empty())
    return invalid("missing required config value for \"cert_authorities\" or \"cert_authorities_path\"");
  for (size_t i = 0; i < lines.size(); ++i)
    TRY(add_authority(settings, lines[i], "cert_authorities[" + std::to_string(i) + "]"));
  if (!file.empty()) TRY(add_file(settings, file));
  if (settings.authorities.empty()) return invalid(file + ": no key in it");
  TRY_ASSIGN(settings.path, kit::PathTemplate::parse(path.empty() ? kDefaultTemplate : path,
                                                     {"PluginName", "Fingerprint", "Hostname"}));
  if (config.dry_run != 0) return {};
  if (settings.path.uses("Fingerprint") && !self.twins.offered())
    return fail(Code::failed_precondition, "agents named by fingerprint: the host has no " LIMPET_SERVICE_AGENT_STORE);
  settings.trust_domain = kit::view(config.trust_domain);
  self.settings = std::move(settings);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  kit::end(op, done, apply(*self_of(self), *config));
}

limpet_session* open_session(limpet_instance* self, const limpet_attempt*) {
  return reinterpret_cast<limpet_session*>(new ServerSession{self_of(self)});
}
void close_session(limpet_session* session) { delete self_of(session); }

Result<SshCertificate> read_payload(BytesView payload) {
  const auto document = kit::GoJson::parse(payload);
  if (!document) return internal("failed to unmarshal data", document.error());
  const auto wire = kit::GoJson::bytes(document->root(), "Certificate");
  if (!wire) return internal("failed to unmarshal data", wire.error());
  auto certificate = SshCertificate::parse(*wire);
  if (!certificate) return internal("failed to parse cert", certificate.error());
  return certificate;
}

// The host's name without the canonical domain; another domain is refused.
Result<std::string> short_name(const std::string& host, const std::string& domain) {
  if (domain.empty()) return host;
  if (!host.ends_with("." + domain) || host.size() == domain.size() + 1)
    return fail(Code::internal,
                "failed to decanonicalize hostname: hostname \"" + host + "\" is not in domain \"" + domain + "\"");
  return host.substr(0, host.size() - domain.size() - 1);
}

Result<std::string> challenge(ServerSession& session, BytesView payload) {
  if (!session.server->settings) return fail(Code::failed_precondition, "not configured");
  const Settings& settings = *session.server->settings;
  TRY_ASSIGN(const SshCertificate certificate, read_payload(payload));
  if (certificate.principals.empty()) return fail(Code::internal, "cert has no valid principals");
  const std::string& host = certificate.principals.front();
  if (auto good = certificate.check_host(host, settings.authorities, std::time(nullptr)); !good)
    return internal("failed to check host key", good.error());
  TRY_ASSIGN(const std::string name, short_name(host, settings.canonical_domain));
  const auto twin = certificate.twin();
  if (!twin) return internal("failed to check host key", twin.error());
  const auto path = [&](BytesView wire) {
    return "/spire/agent" +
           settings.path.render(
               {{"PluginName", kName}, {"Fingerprint", base64url_encode(sha256(wire))}, {"Hostname", name}});
  };
  session.agent_path = path(certificate.wire);
  if (!twin->empty() && settings.path.uses("Fingerprint")) session.twin_path = path(*twin);
  session.key = certificate.key;
  session.nonce = random_bytes(kNonceBytes);
  session.challenged = true;
  return "{\"Nonce\":\"" + base64_encode(session.nonce) + "\"}";
}

struct Answer {
  Bytes nonce;
  SshSignature signature;
};
Result<Answer> read_answer(BytesView json) {
  TRY_ASSIGN(const kit::GoJson document, kit::GoJson::parse(json));
  Answer out;
  TRY_ASSIGN(out.nonce, kit::GoJson::bytes(document.root(), "Nonce"));
  TRY_ASSIGN(yyjson_val * signature, kit::GoJson::object(document.root(), "Signature"));
  if (signature == nullptr) return invalid("the signature is missing");
  yyjson_val* format = kit::GoJson::member(signature, "Format");
  if (yyjson_is_str(format)) out.signature.format.assign(yyjson_get_str(format), yyjson_get_len(format));
  TRY_ASSIGN(out.signature.blob, kit::GoJson::bytes(signature, "Blob"));
  return out;
}

// A challenge is answered once, rightly or wrongly.
Result<void> check_proof(ServerSession& session, BytesView response) {
  if (session.spent) return fail(Code::internal, "the challenge was answered already");
  session.spent = true;
  const auto answer = read_answer(response);
  if (!answer) return internal("failed to unmarshal challenge response", answer.error());
  if (answer->nonce.size() != kNonceBytes)
    return fail(Code::internal, "failed to combine nonces: invalid response nonce size");
  Bytes both = session.nonce;
  append(both, answer->nonce);
  if (auto good = verify(session.key, sha256(both), answer->signature, true); !good)
    return internal("failed to verify signature", good.error());
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
  kit::attest(op, done, session.agent_path, {}, true);
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

}  // namespace limpet::sshpop
