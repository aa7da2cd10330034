// SPDX-License-Identifier: Apache-2.0
// Server half: lets in the TPMs whose endorsement key is enrolled or certified by a trusted maker, and challenges each
// to prove that it holds that key and the attestation key that came with it. BLOCKING: it reads files and does
// arithmetic.
#include <unistd.h>

#include <ctime>
#include <optional>

#include "kit/enrollment_lookup.h"
#include "kit/kit.h"
#include "kit_tpm/credential.h"
#include "kit_tpm/ek_certificate.h"
#include "node_attestor_tpm/checks.h"
#include "node_attestor_tpm/halves.h"
#include "node_attestor_tpm/messages.h"
#include "node_attestor_tpm/policies.h"
#include "node_attestor_tpm/settings.h"

namespace limpet::tpm_attestor {
namespace {

constexpr int32_t kWarn = 2;
constexpr int32_t kInfo = 3;
constexpr uint32_t kFirmwarePcrs = 8;

struct Server {
  explicit Server(const limpet_host* given) : host(given), enrollment(given) {}
  const limpet_host* host;
  kit::EnrollmentLookup enrollment;
  std::optional<Settings> settings = std::nullopt;
};
// What the first step found out and the second one needs.
struct ServerSession {
  explicit ServerSession(Server* owner) : server(owner) {}
  ~ServerSession() { wipe(secret); }
  ServerSession(const ServerSession&) = delete;
  ServerSession& operator=(const ServerSession&) = delete;

  Server* server;
  bool challenged = false;
  bool spent = false;
  std::string hash = {};
  bool enrolled_only = false;  // nothing else than its enrolment lets this TPM in
  CheckedAk ak = {};
  Bytes secret = {};
  std::vector<PcrPolicy> policies = {};
  std::optional<QuoteRequest> request = std::nullopt;
  std::vector<std::string> selectors = {};
};
Server* self_of(limpet_instance* self) { return reinterpret_cast<Server*>(self); }
ServerSession* self_of(limpet_session* session) { return reinterpret_cast<ServerSession*>(session); }

limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Server(host));
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }
void cancel(limpet_instance* self, limpet_op* op) { self_of(self)->enrollment.cancel(op); }

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }
std::unexpected<Error> denied(std::string message) { return fail(Code::permission_denied, std::move(message)); }

Result<void> apply(Server& self, const limpet_config& config) {
  TRY_ASSIGN(Settings settings, read_settings(config));
  if (config.dry_run != 0) return {};
  if (!self.enrollment.offered() && settings.hash_path.empty() &&
      (settings.authorities.empty() || settings.require_enrollment))
    return fail(Code::failed_precondition, "the host has no " LIMPET_SERVICE_ENROLLMENT "; set ca_path or hash_path");
  self.settings = std::move(settings);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  kit::end(op, done, apply(*self_of(self), *config));
}

limpet_session* open_session(limpet_instance* self, const limpet_attempt*) {
  return reinterpret_cast<limpet_session*>(new ServerSession(self_of(self)));
}
void close_session(limpet_session* session) { delete self_of(session); }

// ---- 1. the payload: whose TPM is it, and is it one of ours? ----

bool file_exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

Result<bool> is_enrolled(Server& server, const std::string& hash) {
  if (!server.settings->hash_path.empty() && file_exists(server.settings->hash_path + "/" + hash)) return true;
  if (!server.enrollment.offered()) return false;
  TRY_ASSIGN_WITHIN("enrollment", const bool enrolled, server.enrollment.enrolled(hash));
  return enrolled;
}

// The certificate's word on maker, model and version, if somebody trusted gave it.
Result<tpm_wire::TpmModel> check_certificate(const Settings& settings, const Payload& payload) {
  if (!payload.ek_certificate)
    return invalid(payload.certificate_problem.empty() ? "the TPM has no certificate" : payload.certificate_problem);
  if (settings.authorities.empty()) return invalid("no authority is trusted (ca_path)");
  TRY_ASSIGN(tpm_wire::TpmModel model, tpm_wire::check_ek_profile(*payload.ek_certificate));
  TRY(tpm_wire::verify_ek_issuer(*payload.ek_certificate, settings.authorities, std::time(nullptr)));
  return model;
}

Result<void> check_ek(ServerSession& session, const Payload& payload) {
  const Settings& settings = *session.server->settings;
  session.hash = ek_hash(payload.ek);
  TRY_ASSIGN(const bool enrolled, is_enrolled(*session.server, session.hash));
  const auto model = check_certificate(settings, payload);
  session.enrolled_only = settings.require_enrollment || !model;
  if (!enrolled && session.enrolled_only) {
    const std::string why = settings.require_enrollment ? "" : "; certificate: " + model.error().message;
    return denied("tpm: could not validate EK " + session.hash + ": it is not enrolled (limpet tpm enroll -hash " +
                  session.hash + ")" + why);
  }
  session.selectors.push_back("pub_hash:" + session.hash);
  if (!model) return {};
  session.selectors.push_back("manufacturer:" + model->manufacturer);
  session.selectors.push_back("model:" + model->model);
  session.selectors.push_back("version:" + model->version);
  return {};
}

// ---- 2. the challenge ----

// Read anew each time; a file that cannot be used is no reason to let anybody in or to keep everybody out.
const std::vector<PcrPolicy>& current_policies(Server& server) {
  Settings& settings = *server.settings;
  if (settings.policy_path.empty()) return settings.policies;
  auto fresh = read_policies(settings.policy_path);
  if (fresh) settings.policies = std::move(*fresh);
  if (!fresh)
    kit::log(server.host, LIMPET_LOG_ERROR,
             "pcr_policy_path: " + fresh.error().message + "; the policies read before stay in force");
  return settings.policies;
}

Result<void> ask_for_quote(ServerSession& session, bool agent_can) {
  const Settings& settings = *session.server->settings;
  if (!settings.wants_quote()) return {};
  if (!agent_can) {
    if (settings.require_policy) return denied("require_pcr_policy: this agent does not quote PCRs");
    return {};
  }
  session.policies = current_policies(*session.server);
  if (settings.require_policy && session.policies.empty())
    return denied("require_pcr_policy: " + settings.policy_path + " names no policy");
  QuoteRequest request{random_bytes(kNonceBytes), {}, settings.event_log};
  for (const PcrPolicy& policy : session.policies) tpm_wire::add_pcrs(request.sets, policy.set.hash, policy.set.pcrs);
  if (settings.event_log) {
    for (uint32_t pcr = 0; pcr < kFirmwarePcrs; ++pcr) tpm_wire::add_pcrs(request.sets, tpm_wire::kAlgSha256, {pcr});
  }
  if (!request.sets.empty()) session.request = std::move(request);
  return {};
}

Result<std::string> challenge(ServerSession& session, BytesView said) {
  if (!session.server->settings) return fail(Code::failed_precondition, "not configured");
  TRY_ASSIGN_WITHIN("failed to unmarshal attestation data", const Payload payload, decode_payload(said));
  TRY(check_ek(session, payload));
  TRY_ASSIGN(session.ak, check_ak(payload.ak));
  TRY(ask_for_quote(session, payload.quotes));
  session.secret = random_bytes(kSecretBytes);
  TRY_ASSIGN(const tpm_wire::Protector ek, tpm_wire::Protector::of(payload.ek));
  Challenge out;
  TRY_ASSIGN_WITHIN("make credential", out.credential,
                    tpm_wire::make_credential(ek, session.ak.key.name(), session.secret));
  out.quote = session.request;
  session.challenged = true;
  return encode_challenge(out);
}

// ---- 3. the response ----

void log_verdicts(const ServerSession& session, const MachineState& state, const std::string& problem) {
  if (!problem.empty())
    kit::log(session.server->host, kWarn,
             "TPM " + session.hash + ": the agent quotes less than it was asked for: " + problem);
  for (const Verdict& verdict : state.verdicts) {
    if (verdict.accepted && !verdict.observe) continue;
    if (!verdict.missing.empty()) {
      kit::log(session.server->host, verdict.observe ? kInfo : kWarn,
               "PCR policy " + verdict.name + " is not met by TPM " + session.hash + ": " + verdict.missing);
      continue;
    }
    const std::string what =
        verdict.observe ? (verdict.accepted ? "would be accepted" : "would not be accepted") : "is not accepted";
    kit::log(session.server->host, verdict.observe ? kInfo : kWarn,
             "PCR policy " + verdict.name + ": digest " + verdict.digest + " of TPM " + session.hash + " " + what);
  }
  if (!state.event_log_problem.empty())
    kit::log(session.server->host, kWarn,
             "TPM " + session.hash + ": no secureboot selector: " + state.event_log_problem);
}

Result<void> check_state(ServerSession& session, const Response& response) {
  if (!session.request) return {};
  TRY_ASSIGN(const MachineState state,
             check_quote(response.quote, *session.request, session.ak, session.policies, std::time(nullptr)));
  log_verdicts(session, state, response.quote_problem);
  bool matched = false;
  for (const Verdict& verdict : state.verdicts) matched = matched || (verdict.accepted && !verdict.observe);
  if (session.server->settings->require_policy && !matched) {
    std::string all;
    for (const Verdict& verdict : state.verdicts)
      all += " " + verdict.name + (verdict.missing.empty() ? "=" + verdict.digest : " (" + verdict.missing + ")");
    return denied("require_pcr_policy: the machine's PCRs match no policy;" + all);
  }
  for (const std::string& selector : state.selectors) session.selectors.push_back(selector);
  return {};
}

// An agent may hold its challenge for long; a device that is removed meanwhile is not let in any more.
Result<void> check_still_enrolled(const ServerSession& session) {
  if (!session.enrolled_only && !session.server->settings->require_enrollment) return {};
  TRY_ASSIGN(const bool enrolled, is_enrolled(*session.server, session.hash));
  if (enrolled) return {};
  return denied("tpm: could not validate EK " + session.hash + ": its enrolment was removed meanwhile");
}

// A challenge is answered once, rightly or wrongly.
Result<void> check_response(ServerSession& session, BytesView said) {
  if (session.spent) return invalid("the challenge was answered already");
  session.spent = true;
  TRY_ASSIGN_WITHIN("unable to unmarshal challenge response", Response response, decode_response(said));
  const bool same = tpm_wire::same_secret(response.secret, session.secret);
  wipe(response.secret);
  if (!same) return denied("the challenge response is wrong: the TPM does not hold these two keys");
  TRY(check_state(session, response));
  return check_still_enrolled(session);
}

void step(limpet_session* raw, limpet_op* op, limpet_bytes from_agent, limpet_step_done done) {
  ServerSession& session = *self_of(raw);
  session.server->enrollment.begin(op);
  if (!session.challenged) {
    const auto asked = challenge(session, kit::view(from_agent));
    if (!asked) return kit::refuse(op, done, asked.error());
    return kit::challenge(op, done, *asked);
  }
  if (const auto good = check_response(session, kit::view(from_agent)); !good)
    return kit::refuse(op, done, good.error());
  kit::attest(op, done, "/spire/agent/tpm/" + session.hash, session.selectors, true);
}

constexpr limpet_node_attestor_server kTable = {sizeof(limpet_node_attestor_server), 0, open_session, step,
                                                close_session};

}  // namespace

constexpr limpet_component kServerHalf = {sizeof(limpet_component),
                                          LIMPET_BLOCKING,
                                          LIMPET_NODE_ATTESTOR_SERVER,
                                          "tpm",
                                          create,
                                          destroy,
                                          configure,
                                          cancel,
                                          &kTable};

}  // namespace limpet::tpm_attestor
