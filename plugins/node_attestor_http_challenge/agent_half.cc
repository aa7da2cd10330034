// SPDX-License-Identifier: Apache-2.0
// Agent half: takes a port, says where it is, and serves the nonce of the challenge there until the attempt is over. A
// thread of the session's own answers the requests, so nothing here blocks the loop.
#include <unistd.h>

#include <utility>

#include "kit/kit.h"
#include "node_attestor_http_challenge/halves.h"
#include "node_attestor_http_challenge/messages.h"
#include "node_attestor_http_challenge/nonce_server.h"

namespace limpet::http_challenge {
namespace {

struct Agent {
  Place place;        // port: the advertised one; 0: the one that is listened on
  uint16_t port = 0;  // 0: any
};
struct AgentSession {
  Agent settings;
  std::unique_ptr<NonceServer> server = nullptr;
  bool serving = false;
};
Agent* self_of(limpet_instance* self) { return reinterpret_cast<Agent*>(self); }
AgentSession* self_of(limpet_session* session) { return reinterpret_cast<AgentSession*>(session); }

limpet_code create(const limpet_host*, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Agent());
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

Result<uint16_t> port_of(int64_t value, const char* key) {
  if (value < 0 || value > UINT16_MAX) return invalid(std::string(key) + " must be between 0 and 65535");
  return static_cast<uint16_t>(value);
}

std::string own_host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

Result<void> apply(Agent& self, const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  Agent next;
  next.place.hostname = reader.text("hostname");
  next.place.agentname = reader.text("agentname");
  const int64_t port = reader.number("port", 0);
  const int64_t advertised = reader.number("advertised_port", 0);
  TRY(reader.finish());
  if (next.place.hostname.empty()) next.place.hostname = own_host_name();
  if (next.place.agentname.empty()) next.place.agentname = "default";
  if (const std::string problem = host_name_problem(next.place.hostname); !problem.empty())
    return invalid("hostname \"" + next.place.hostname + "\": " + problem);
  if (!is_agent_name(next.place.agentname))
    return invalid("agentname must be a letter and up to 31 letters, digits, \"-\" or \"_\"");
  TRY_ASSIGN(next.port, port_of(port, "port"));
  TRY_ASSIGN(next.place.port, port_of(advertised, "advertised_port"));
  if (next.place.port == 0) next.place.port = next.port;
  if (config.dry_run == 0) self = std::move(next);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  kit::end(op, done, apply(*self_of(self), *config));
}

limpet_session* open_session(limpet_instance* self) {
  return reinterpret_cast<limpet_session*>(new AgentSession{*self_of(self)});
}
void close_session(limpet_session* session) { delete self_of(session); }

Result<std::string> make_payload(AgentSession& session) {
  if (session.settings.place.hostname.empty()) return fail(Code::failed_precondition, "not configured");
  session.server = std::make_unique<NonceServer>();
  session.serving = false;
  TRY(session.server->listen(session.settings.port));
  Place place = session.settings.place;
  if (place.port == 0) place.port = session.server->port();
  return encode_payload(place);
}

// The answer only has to be there; the server asks for the nonce over HTTP once it has it.
Result<std::string> make_answer(AgentSession& session, BytesView challenge) {
  if (session.server == nullptr || session.serving)
    return fail(Code::failed_precondition, "a challenge without a payload before it");
  auto nonce = decode_challenge(challenge);
  if (!nonce) return fail(Code::internal, "unable to unmarshal challenge: " + nonce.error().message);
  TRY(session.server->serve(session.settings.place.path(), *nonce));
  session.serving = true;
  return "\n";
}

void payload(limpet_session* session, limpet_op* op, limpet_bytes_done done) {
  kit::end(op, done, make_payload(*self_of(session)));
}
void answer(limpet_session* session, limpet_op* op, limpet_bytes challenge, limpet_bytes_done done) {
  kit::end(op, done, make_answer(*self_of(session), kit::view(challenge)));
}

constexpr limpet_node_attestor_agent kTable = {
    sizeof(limpet_node_attestor_agent), 0, open_session, payload, answer, close_session};

}  // namespace

constexpr limpet_component kAgentHalf = {sizeof(limpet_component),
                                         0,
                                         LIMPET_NODE_ATTESTOR_AGENT,
                                         "http_challenge",
                                         create,
                                         destroy,
                                         configure,
                                         nullptr,
                                         &kTable};

}  // namespace limpet::http_challenge
