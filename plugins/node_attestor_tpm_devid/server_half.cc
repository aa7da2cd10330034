// SPDX-License-Identifier: Apache-2.0
// Server half: verifies the DevID certificate, that its key lives in a certified TPM, and challenges both that key and
// the TPM. BLOCKING: it reads files at configuration and does arithmetic.
#include <ctime>
#include <optional>

#include "kit/kit.h"
#include "kit/pem_files.h"
#include "kit/twin.h"
#include "node_attestor_tpm_devid/checks.h"
#include "node_attestor_tpm_devid/halves.h"

namespace limpet::tpm_devid {
namespace {

constexpr size_t kSecretBytes = 32;

struct Server {
  explicit Server(const limpet_host* host) : twins(host) {}
  kit::TwinCheck twins;
  std::string trust_domain = {};
  std::optional<Authorities> authorities = std::nullopt;
};
// What the first step found out and the second one needs.
struct ServerSession {
  explicit ServerSession(Server* owner) : server(owner) {}
  ~ServerSession() { wipe(secret); }
  ServerSession(const ServerSession&) = delete;
  ServerSession& operator=(const ServerSession&) = delete;

  Server* server;
  std::optional<Device> device = std::nullopt;
  bool spent = false;
  Bytes nonce = {};
  Bytes secret = {};
};
Server* self_of(limpet_instance* self) { return reinterpret_cast<Server*>(self); }
ServerSession* self_of(limpet_session* session) { return reinterpret_cast<ServerSession*>(session); }

limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Server(host));
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }
std::unexpected<Error> denied(std::string message) { return fail(Code::permission_denied, std::move(message)); }

Result<std::vector<Certificate>> load(const char* key, const std::string& path) {
  if (path.empty()) return invalid(std::string(key) + " is required");
  auto out = kit::read_certificates(path);
  if (!out) return invalid(std::string(key) + ": " + out.error().message);
  return out;
}

Result<void> apply(Server& self, const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  const std::string devid = reader.text("devid_ca_path");
  const std::string endorsement = reader.text("endorsement_ca_path");
  TRY(reader.finish());
  Authorities authorities;
  TRY_ASSIGN(authorities.devid, load("devid_ca_path", devid));
  TRY_ASSIGN(authorities.endorsement, load("endorsement_ca_path", endorsement));
  if (config.dry_run != 0) return {};
  if (!self.twins.offered()) return fail(Code::failed_precondition, "the host has no " LIMPET_SERVICE_AGENT_STORE);
  self.trust_domain = kit::view(config.trust_domain);
  self.authorities = std::move(authorities);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  kit::end(op, done, apply(*self_of(self), *config));
}

limpet_session* open_session(limpet_instance* self, const limpet_attempt*) {
  return reinterpret_cast<limpet_session*>(new ServerSession(self_of(self)));
}
void close_session(limpet_session* session) { delete self_of(session); }

// ---- 1. the payload ----

Result<std::string> challenge(ServerSession& session, BytesView said) {
  if (!session.server->authorities) return fail(Code::failed_precondition, "not configured");
  TRY_ASSIGN_WITHIN("unable to unmarshall attestation data", const Payload payload, decode_payload(said));
  TRY_ASSIGN(Device device, check_payload(payload, *session.server->authorities, std::time(nullptr)));
  TRY_ASSIGN_WITHIN("EKPub", const tpm_wire::Protector ek, tpm_wire::Protector::of(device.ek));
  session.nonce = random_bytes(kNonceBytes);
  session.secret = random_bytes(kSecretBytes);
  Challenge out{session.nonce, {}};
  TRY_ASSIGN_WITHIN("unable to generate credential activation challenge", out.credential,
                    tpm_wire::make_credential(ek, device.ak.name(), session.secret));
  session.device = std::move(device);
  return encode_challenge(out);
}

// ---- 2. the response ----

// A challenge is answered once, rightly or wrongly.
Result<void> check_response(ServerSession& session, BytesView said) {
  if (std::exchange(session.spent, true)) return invalid("the challenge was answered already");
  TRY_ASSIGN_WITHIN("unable to unmarshall challenge response", Response response, decode_response(said));
  const bool same = tpm_wire::same_secret(response.secret, session.secret);
  wipe(response.secret);
  if (auto good = session.device->devid.verify(HashAlg::sha256, sha256(session.nonce), response.devid_signature); !good)
    return denied("devID challenge verification failed: " + good.error().message);
  if (!same) return denied("credential activation failed: the TPM does not hold these two keys");
  return session.server->twins.refuse_known(session.server->trust_domain, session.device->twin_path);
}

void step(limpet_session* raw, limpet_op* op, limpet_bytes from_agent, limpet_step_done done) {
  ServerSession& session = *self_of(raw);
  session.server->twins.begin(op);
  if (!session.device) {
    const auto asked = challenge(session, kit::view(from_agent));
    if (!asked) return kit::refuse(op, done, asked.error());
    return kit::challenge(op, done, *asked);
  }
  if (const auto good = check_response(session, kit::view(from_agent)); !good)
    return kit::refuse(op, done, good.error());
  kit::attest(op, done, session.device->agent_path, session.device->selectors, true);
}

void cancel(limpet_instance* self, limpet_op* op) { self_of(self)->twins.cancel(op); }

constexpr limpet_node_attestor_server kTable = {sizeof(limpet_node_attestor_server), 0, open_session, step,
                                                close_session};

}  // namespace

constexpr limpet_component kServerHalf = {sizeof(limpet_component),
                                          LIMPET_BLOCKING,
                                          LIMPET_NODE_ATTESTOR_SERVER,
                                          "tpm_devid",
                                          create,
                                          destroy,
                                          configure,
                                          cancel,
                                          &kTable};

}  // namespace limpet::tpm_devid
