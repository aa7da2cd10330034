// SPDX-License-Identifier: Apache-2.0
// Agent half: the chain is the payload, the answer is signed with the key beside it. The files are read anew at each
// attempt, so that renewed ones are taken without a restart and missing ones never keep an agent from starting.
// BLOCKING: it reads files and signs.
#include <optional>
#include <utility>

#include "kit/kit.h"
#include "kit/pem_files.h"
#include "node_attestor_x509pop/halves.h"
#include "node_attestor_x509pop/proof.h"

namespace limpet::x509pop {
namespace {

struct Paths {
  std::string key;
  std::string certificate;
  std::string intermediates;
};
struct AgentSession {
  const Paths paths;
  std::optional<PrivateKey> key;
};
Paths* self_of(limpet_instance* self) { return reinterpret_cast<Paths*>(self); }
AgentSession* self_of(limpet_session* session) { return reinterpret_cast<AgentSession*>(session); }

limpet_code create(const limpet_host*, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Paths());
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

struct Loaded {
  PrivateKey key;
  std::vector<Certificate> chain;
};

Result<Loaded> load(const Paths& paths) {
  TRY_ASSIGN(PrivateKey key, kit::read_private_key(paths.key));
  TRY_ASSIGN(std::vector<Certificate> chain, kit::read_certificates(paths.certificate));
  if (!(key.public_key() == chain.front().key))
    return fail(Code::failed_precondition,
                paths.key + ": the key does not match the certificate in " + paths.certificate);
  if (!paths.intermediates.empty()) {
    TRY_ASSIGN(std::vector<Certificate> more, kit::read_certificates(paths.intermediates));
    for (Certificate& certificate : more) chain.push_back(std::move(certificate));
  }
  return Loaded{std::move(key), std::move(chain)};
}

Result<void> apply(Paths& self, const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  Paths paths{reader.text("private_key_path"), reader.text("certificate_path"), reader.text("intermediates_path")};
  TRY(reader.finish());
  if (paths.key.empty()) return fail(Code::invalid_argument, "private_key_path is required");
  if (paths.certificate.empty()) return fail(Code::invalid_argument, "certificate_path is required");
  if (config.dry_run != 0) {
    TRY(load(paths));
    return {};
  }
  self = std::move(paths);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  kit::end(op, done, apply(*self_of(self), *config));
}

limpet_session* open_session(limpet_instance* self) {
  return reinterpret_cast<limpet_session*>(new AgentSession{*self_of(self), std::nullopt});
}
void close_session(limpet_session* session) { delete self_of(session); }

Result<std::string> make_payload(AgentSession& session) {
  TRY_ASSIGN(Loaded loaded, load(session.paths));
  session.key = std::move(loaded.key);
  return encode_payload(loaded.chain);
}

void payload(limpet_session* session, limpet_op* op, limpet_bytes_done done) {
  kit::end(op, done, make_payload(*self_of(session)));
}

void answer(limpet_session* session, limpet_op* op, limpet_bytes challenge, limpet_bytes_done done) {
  AgentSession& self = *self_of(session);
  if (!self.key) return kit::end(op, done, fail(Code::failed_precondition, "a challenge without a payload before it"));
  kit::end(op, done, answer_challenge(*self.key, kit::view(challenge)));
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
                                         nullptr,
                                         &kTable};

}  // namespace limpet::x509pop
