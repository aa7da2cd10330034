// SPDX-License-Identifier: Apache-2.0
// Agent half: the chain is the payload, the answer is signed with the key beside it, or with one that the host's key
// manager holds. The files are read anew at each attempt, so that renewed ones are taken without a restart and missing
// ones never keep an agent from starting. BLOCKING: it reads files, signs, and waits for the host.
#include <optional>
#include <utility>

#include "kit/host_keys.h"
#include "kit/kit.h"
#include "kit/pem_files.h"
#include "node_attestor_x509pop/halves.h"
#include "node_attestor_x509pop/proof.h"

namespace limpet::x509pop {
namespace {

struct Settings {
  std::string key_path;
  std::string key_id;  // in the key manager; instead of a path
  std::string certificate;
  std::string intermediates;
};
struct Agent {
  explicit Agent(const limpet_host* host) : wait(host) {}
  Settings settings;
  kit::HostWait wait;
};
struct AgentSession {
  Agent& agent;
  const Settings settings;
  std::optional<PrivateKey> key;        // from the file
  std::optional<PublicKey> public_key;  // set with the payload
};
Agent* self_of(limpet_instance* self) { return reinterpret_cast<Agent*>(self); }
AgentSession* self_of(limpet_session* session) { return reinterpret_cast<AgentSession*>(session); }

limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Agent(host));
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }
void cancel(limpet_instance* self, limpet_op* op) { self_of(self)->wait.cancel(op); }

Result<std::vector<Certificate>> load_chain(const Settings& settings) {
  TRY_ASSIGN(std::vector<Certificate> chain, kit::read_certificates(settings.certificate));
  if (!settings.intermediates.empty()) {
    TRY_ASSIGN(std::vector<Certificate> more, kit::read_certificates(settings.intermediates));
    for (Certificate& certificate : more) chain.push_back(std::move(certificate));
  }
  return chain;
}

Result<void> check_match(const Settings& settings, const PublicKey& key, const std::vector<Certificate>& chain) {
  if (key == chain.front().key) return {};
  const std::string name = settings.key_id.empty() ? settings.key_path : "key \"" + settings.key_id + "\"";
  return fail(Code::failed_precondition, name + ": the key does not match the certificate in " + settings.certificate);
}

Result<void> check_files(const Settings& settings) {
  TRY_ASSIGN(const std::vector<Certificate> chain, load_chain(settings));
  if (!settings.key_id.empty()) return {};  // the host lends no keys to a check
  TRY_ASSIGN(const PrivateKey key, kit::read_private_key(settings.key_path));
  return check_match(settings, key.public_key(), chain);
}

Result<void> apply(Agent& self, const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  Settings settings{reader.text("private_key_path"), reader.text("key_id"), reader.text("certificate_path"),
                    reader.text("intermediates_path")};
  TRY(reader.finish());
  if (settings.key_path.empty() && settings.key_id.empty())
    return fail(Code::invalid_argument, "private_key_path is required, or key_id for a key of the key manager");
  if (!settings.key_path.empty() && !settings.key_id.empty())
    return fail(Code::invalid_argument, "set private_key_path or key_id, not both");
  if (settings.certificate.empty()) return fail(Code::invalid_argument, "certificate_path is required");
  if (config.dry_run != 0) return check_files(settings);
  self.settings = std::move(settings);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  kit::end(op, done, apply(*self_of(self), *config));
}

limpet_session* open_session(limpet_instance* self) {
  return reinterpret_cast<limpet_session*>(
      new AgentSession{*self_of(self), self_of(self)->settings, std::nullopt, std::nullopt});
}
void close_session(limpet_session* session) { delete self_of(session); }

Result<std::string> make_payload(AgentSession& session) {
  const Settings& settings = session.settings;
  TRY_ASSIGN(const std::vector<Certificate> chain, load_chain(settings));
  if (settings.key_id.empty()) {
    TRY_ASSIGN(PrivateKey key, kit::read_private_key(settings.key_path));
    session.public_key = key.public_key();
    session.key = std::move(key);
  } else {
    TRY_ASSIGN(session.public_key, kit::find_host_key(session.agent.wait, settings.key_id));
  }
  TRY(check_match(settings, *session.public_key, chain));
  return encode_payload(chain);
}

void payload(limpet_session* session, limpet_op* op, limpet_bytes_done done) {
  self_of(session)->agent.wait.begin(op);
  kit::end(op, done, make_payload(*self_of(session)));
}

Result<std::string> make_answer(AgentSession& self, BytesView challenge) {
  if (!self.public_key) return fail(Code::failed_precondition, "a challenge without a payload before it");
  if (self.key) return answer_challenge(*self.public_key, prover_of(*self.key), challenge);
  const Prover prove = [&](BytesView digest) {
    return kit::prove_with_host_key(self.agent.wait, self.settings.key_id, *self.public_key, digest);
  };
  return answer_challenge(*self.public_key, prove, challenge);
}

void answer(limpet_session* session, limpet_op* op, limpet_bytes challenge, limpet_bytes_done done) {
  self_of(session)->agent.wait.begin(op);
  kit::end(op, done, make_answer(*self_of(session), kit::view(challenge)));
}

constexpr limpet_node_attestor_agent kTable = {
    sizeof(limpet_node_attestor_agent), 0, open_session, payload, answer, close_session};

}  // namespace

constexpr limpet_component kAgentHalf = {sizeof(limpet_component),
                                         LIMPET_BLOCKING,
                                         LIMPET_NODE_ATTESTOR_AGENT,
                                         "x509pop",
                                         create,
                                         destroy,
                                         configure,
                                         cancel,
                                         &kTable};

}  // namespace limpet::x509pop
