// SPDX-License-Identifier: Apache-2.0
// Agent half: the TPM's endorsement key and a fresh attestation key are the payload; the answer is the secret that only
// the TPM with both gives back. BLOCKING: a TPM takes seconds.
#include <optional>

#include "kit/kit.h"
#include "kit_tpm/settings.h"
#include "node_attestor_tpm/evidence.h"
#include "node_attestor_tpm/halves.h"

namespace limpet::tpm_attestor {
namespace {

constexpr int32_t kWarn = 2;
constexpr int32_t kInfo = 3;
constexpr const char* kEventLog = "/sys/kernel/security/tpm0/binary_bios_measurements";

struct Settings {
  tpm::DeviceSettings device;
  tpm::EkKind kind = tpm::EkKind::rsa_2048;
  AnswerOptions answer;
};
struct Agent {
  const limpet_host* host;
  // owners: this, and the sessions begun with them
  std::shared_ptr<const Settings> settings = nullptr;
  std::shared_ptr<const tpm::Device> device = nullptr;
  std::string certificate_problem = "";  // as it was logged last
};
struct AgentSession {
  Agent agent;  // as it was configured then
  Agent& owner;
  std::optional<Evidence> evidence = std::nullopt;
};
Agent* self_of(limpet_instance* self) { return reinterpret_cast<Agent*>(self); }
AgentSession* self_of(limpet_session* session) { return reinterpret_cast<AgentSession*>(session); }

limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Agent{host});
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

Result<void> apply(Agent& self, const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  auto settings = std::make_shared<Settings>();
  const tpm::DeviceKeys keys = tpm::read_keys(reader, true);
  const std::string type = reader.text("key_type");
  settings->answer.quote = reader.flag("quote_pcrs", true);
  settings->answer.event_log_path = reader.text("event_log_path");
  TRY(reader.finish());
  if (settings->answer.event_log_path.empty()) settings->answer.event_log_path = kEventLog;
  if (type == "ecc")
    settings->kind = tpm::EkKind::ecc_p256;
  else if (!type.empty() && type != "rsa")
    return fail(Code::invalid_argument, "key_type must be \"rsa\" or \"ecc\", not \"" + type + "\"");
  TRY_ASSIGN(tpm::DeviceSettings device, tpm::read_settings(keys));
  if (config.dry_run != 0) return {};
  self.device = std::make_shared<const tpm::Device>(std::move(device));
  self.settings = std::move(settings);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  kit::end(op, done, apply(*self_of(self), *config));
}

limpet_session* open_session(limpet_instance* self) {
  return reinterpret_cast<limpet_session*>(new AgentSession{*self_of(self), *self_of(self)});
}
void close_session(limpet_session* session) { delete self_of(session); }

// Once, not at each attempt.
void note_certificate(Agent& self, const std::string& problem) {
  if (problem == self.certificate_problem) return;
  self.certificate_problem = problem;
  if (!problem.empty())
    kit::log(self.host, kWarn, "attesting without a certificate of the TPM's endorsement key: " + problem);
}

Result<std::string> make_payload(AgentSession& session) {
  if (session.agent.device == nullptr) return fail(Code::failed_precondition, "not configured");
  TRY_ASSIGN(session.evidence, make_evidence(*session.agent.device, session.agent.settings->kind));
  note_certificate(session.owner, session.evidence->certificate_problem);
  session.evidence->parts.quotes = session.agent.settings->answer.quote;
  return encode_payload(session.evidence->parts);
}

void payload(limpet_session* session, limpet_op* op, limpet_bytes_done done) {
  kit::end(op, done, make_payload(*self_of(session)));
}

// What the server asked for and does not get.
void log_missing(const Agent& agent, const QuoteRequest& request, const Response& response) {
  if (!response.quote_problem.empty()) kit::log(agent.host, kWarn, "PCR quote: " + response.quote_problem);
  if (!request.event_log || !response.quote || !response.quote->event_log.empty()) return;
  const std::string& problem = response.quote->event_log_problem;
  if (problem.empty())
    kit::log(agent.host, kInfo, "no event log at " + agent.settings->answer.event_log_path);
  else
    kit::log(agent.host, kWarn, "event log: " + problem);
}

Result<std::string> make_answer(AgentSession& session, BytesView said) {
  if (!session.evidence) return fail(Code::failed_precondition, "a challenge without a payload before it");
  TRY_ASSIGN_WITHIN("unable to unmarshal challenge", const Challenge challenge, decode_challenge(said));
  const Settings& settings = *session.agent.settings;
  TRY_ASSIGN(Response response,
             answer_challenge(*session.agent.device, settings.kind, *session.evidence, challenge, settings.answer));
  if (challenge.quote && settings.answer.quote) log_missing(session.agent, *challenge.quote, response);
  std::string out = encode_response(response);
  wipe(response.secret);
  return out;
}

void answer(limpet_session* session, limpet_op* op, limpet_bytes challenge, limpet_bytes_done done) {
  kit::end(op, done, make_answer(*self_of(session), kit::view(challenge)));
}

constexpr limpet_node_attestor_agent kTable = {
    sizeof(limpet_node_attestor_agent), 0, open_session, payload, answer, close_session};

}  // namespace

constexpr limpet_component kAgentHalf = {sizeof(limpet_component),
                                         LIMPET_BLOCKING,
                                         LIMPET_NODE_ATTESTOR_AGENT,
                                         "tpm",
                                         create,
                                         destroy,
                                         configure,
                                         nullptr,
                                         &kTable};

}  // namespace limpet::tpm_attestor
