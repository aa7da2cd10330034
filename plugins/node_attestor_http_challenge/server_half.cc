// SPDX-License-Identifier: Apache-2.0
// Server half: gives a nonce, asks for it at the place that the agent named (limpet.http/1), and with tofu makes sure
// that nobody has attested with that name before (limpet.agent-store/1). The host makes the calls; nothing here blocks.
// A hostname stands in the ID as it was sent, so one that can be spelled otherwise is refused: connections do not tell
// the spellings apart, the ID would. (Not so for the case of letters: stock agents send the machine's name as it is.)
// Codes and texts are SPIRE's, but what was served is not repeated to the agent: it
// may come from somebody else's host.
#include <list>
#include <optional>
#include <utility>

#include "crypto/key.h"
#include "kit/kit.h"
#include "node_attestor_http_challenge/halves.h"
#include "node_attestor_http_challenge/messages.h"
#include "node_attestor_http_challenge/patterns.h"

namespace limpet::http_challenge {
namespace {

constexpr uint32_t kGetMs = 10'000;
constexpr int64_t kFirstFreePort = 1024;  // ports below need privileges
constexpr uint32_t kOk = 200;

struct Settings {
  std::string trust_domain;
  Patterns patterns;
  int64_t required_port = 0;  // 0: any
  bool allow_non_root_ports = true;
  bool tofu = true;
};
struct ServerSession;
struct Server {
  const limpet_host* host = nullptr;
  const limpet_http_service* http = nullptr;
  const limpet_agent_store_service* agents = nullptr;
  std::shared_ptr<const Settings> settings = nullptr;  // owners: this, and the sessions begun with them
  std::list<ServerSession*> verifying = {};            // they wait for the host
};
struct ServerSession {
  Server* server = nullptr;
  std::shared_ptr<const Settings> settings = nullptr;
  Place place = {};
  std::string nonce = {};
  bool spent = false;
  // of the second step
  limpet_op* op = nullptr;
  limpet_step_done done = nullptr;
  uint32_t http_call = 0;
  uint32_t agent_call = 0;
};
Server* self_of(limpet_instance* self) { return reinterpret_cast<Server*>(self); }
ServerSession* self_of(limpet_session* session) { return reinterpret_cast<ServerSession*>(session); }

limpet_code create(const limpet_host* host, limpet_instance** out) {
  auto* server = new Server();
  server->host = host;
  server->http = static_cast<const limpet_http_service*>(host->service(host, LIMPET_SERVICE_HTTP));
  server->agents = static_cast<const limpet_agent_store_service*>(host->service(host, LIMPET_SERVICE_AGENT_STORE));
  *out = reinterpret_cast<limpet_instance*>(server);
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }
std::unexpected<Error> denied(std::string message) { return fail(Code::permission_denied, std::move(message)); }

// ---- configuration ----

Result<void> apply(Server& self, const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  auto settings = std::make_shared<Settings>();
  settings->trust_domain = kit::view(config.trust_domain);
  const std::vector<std::string> patterns = reader.texts("allowed_dns_patterns");
  const bool one_port = reader.has("required_port");
  settings->required_port = reader.number("required_port", 0);
  settings->allow_non_root_ports = reader.flag("allow_non_root_ports", true);
  settings->tofu = reader.flag("tofu", true);
  TRY(reader.finish());
  if (one_port && (settings->required_port < 1 || settings->required_port > UINT16_MAX))
    return invalid("required_port must be between 1 and 65535");
  TRY_ASSIGN(settings->patterns, Patterns::compile(patterns));
  // Any user of a host can listen on a port that needs no privileges: then only the first one is believed.
  const bool anybody = one_port ? settings->required_port >= kFirstFreePort : settings->allow_non_root_ports;
  if (!settings->tofu && anybody)
    return invalid("you can not turn off trust on first use (TOFU) when non-root ports are allowed");
  if (config.dry_run != 0) return {};
  if (self.http == nullptr) return fail(Code::failed_precondition, "the host has no " LIMPET_SERVICE_HTTP);
  if (settings->tofu && self.agents == nullptr)
    return fail(Code::failed_precondition, "tofu: the host has no " LIMPET_SERVICE_AGENT_STORE);
  self.settings = std::move(settings);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  kit::end(op, done, apply(*self_of(self), *config));
}

limpet_session* open_session(limpet_instance* self, const limpet_attempt*) {
  return reinterpret_cast<limpet_session*>(new ServerSession{self_of(self), self_of(self)->settings});
}
void close_session(limpet_session* session) { delete self_of(session); }

// ---- 1. the payload: where the agent listens ----

Result<void> check_place(const Settings& settings, const Place& place) {
  const std::string port = "port " + std::to_string(place.port);
  if (settings.required_port != 0 && place.port != settings.required_port)
    return invalid(port + " is not allowed to be used by this server");
  if (!settings.allow_non_root_ports && place.port >= kFirstFreePort)
    return invalid(port + " is not allowed to be >= 1024");
  if (!is_agent_name(place.agentname)) return invalid("agent name is not valid");
  if (place.hostname == "localhost") return denied("you can not use localhost as a hostname");
  if (!settings.patterns.empty() && !settings.patterns.matches(place.hostname))
    return denied("the requested hostname is not allowed to connect");
  if (place.port < 1 || place.port > UINT16_MAX) return denied("challenge verification failed: port is invalid");
  if (const std::string problem = host_name_problem(place.hostname); !problem.empty())
    return denied("challenge verification failed: " + problem);
  if (const std::string problem = host_spelling_problem(place.hostname); !problem.empty()) return denied(problem);
  return {};
}

Result<std::string> challenge(ServerSession& session, BytesView payload) {
  if (session.settings == nullptr) return fail(Code::failed_precondition, "not configured");
  TRY_ASSIGN_WITHIN("failed to unmarshal data", Place place, decode_payload(payload));
  TRY(check_place(*session.settings, place));
  session.place = std::move(place);
  session.nonce = base64url_encode(random_bytes(kNonceBytes)) + "=";  // Go's URLEncoding pads: 43 characters and one
  return encode_challenge(session.nonce);
}

// ---- 2. any answer: the nonce must be there ----

void end_with(ServerSession& session, const Error& error) {
  session.server->verifying.remove(&session);
  kit::refuse(session.op, session.done, error);
}

void attested(ServerSession& session) {
  session.server->verifying.remove(&session);
  const std::string& host = session.place.hostname;
  kit::attest(session.op, session.done, "/spire/agent/http_challenge/" + host, {"hostname:" + host},
              !session.settings->tofu);
}

void on_agent(void* arg, const limpet_status* err, const limpet_agent_info*) {
  ServerSession& session = *static_cast<ServerSession*>(arg);
  if (err == nullptr)
    return end_with(session, {Code::permission_denied, "attestation data has already been used to attest an agent"});
  if (err->code == LIMPET_NOT_FOUND) return attested(session);
  end_with(session, {Code::internal, "unable to get agent info: " + std::string(kit::view(err->message))});
}

void check_first_use(ServerSession& session) {
  Server& server = *session.server;
  const std::string id =
      "spiffe://" + session.settings->trust_domain + "/spire/agent/http_challenge/" + session.place.hostname;
  session.agent_call = server.agents->start(server.host, kit::lend(id), &on_agent, &session);
  if (session.agent_call == 0)
    end_with(session, {Code::resource_exhausted, "too many attestations at a time; try again"});
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const size_t first = text.find_first_not_of(kSpace);
  return first == std::string_view::npos ? std::string_view()
                                         : text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

void on_served(void* arg, const limpet_status* err, const limpet_http_reply* reply) {
  ServerSession& session = *static_cast<ServerSession*>(arg);
  session.http_call = 0;
  const std::string failed = "challenge verification failed: ";
  if (err != nullptr)
    return end_with(session, {Code::permission_denied, failed + std::string(kit::view(err->message))});
  if (reply->status != kOk)
    return end_with(session, {Code::permission_denied, failed + "unexpected status " + std::to_string(reply->status)});
  if (trim(as_text(kit::view(reply->body))) != session.nonce)
    return end_with(session, {Code::permission_denied, failed + "what is served there is not the nonce"});
  if (!session.settings->tofu) return attested(session);
  check_first_use(session);
}

void verify(ServerSession& session, limpet_op* op, limpet_step_done done) {
  if (std::exchange(session.spent, true))
    return kit::refuse(op, done, {Code::invalid_argument, "the challenge was answered already"});
  Server& server = *session.server;
  session.op = op;
  session.done = done;
  server.verifying.push_back(&session);
  const std::string url = session.place.url();
  const limpet_http_call call = {sizeof(limpet_http_call), kMaxNonceText, kit::lend(url), kGetMs, 0};
  session.http_call = server.http->start(server.host, &call, &on_served, &session);
  if (session.http_call == 0)
    end_with(session, {Code::resource_exhausted, "too many attestations at a time; try again"});
}

void step(limpet_session* raw, limpet_op* op, limpet_bytes from_agent, limpet_step_done done) {
  ServerSession& session = *self_of(raw);
  if (!session.nonce.empty()) return verify(session, op, done);
  const auto asked = challenge(session, kit::view(from_agent));
  if (!asked) return kit::refuse(op, done, asked.error());
  kit::challenge(op, done, *asked);
}

void cancel(limpet_instance* self, limpet_op* op) {
  Server& server = *self_of(self);
  for (ServerSession* session : server.verifying) {
    if (session->op != op) continue;
    if (session->http_call != 0) server.http->stop(server.host, session->http_call);
    if (session->agent_call != 0) server.agents->stop(server.host, session->agent_call);
    return end_with(*session, {Code::cancelled, "no longer wanted"});
  }
}

constexpr limpet_node_attestor_server kTable = {sizeof(limpet_node_attestor_server), 0, open_session, step,
                                                close_session};

}  // namespace

constexpr limpet_component kServerHalf = {sizeof(limpet_component),
                                          0,
                                          LIMPET_NODE_ATTESTOR_SERVER,
                                          "http_challenge",
                                          create,
                                          destroy,
                                          configure,
                                          cancel,
                                          &kTable};

}  // namespace limpet::http_challenge
