// SPDX-License-Identifier: Apache-2.0
// Agent half: the host's SSH certificate is the payload, the answer is signed with the host key. The files are read
// anew at each attempt. BLOCKING: it reads files and signs.
#include <optional>
#include <utility>

#include "kit/go_json.h"
#include "kit/kit.h"
#include "kit/pem_files.h"
#include "node_attestor_sshpop/halves.h"
#include "node_attestor_sshpop/ssh_key_file.h"
#include "node_attestor_sshpop/ssh_wire.h"

namespace limpet::sshpop {
namespace {

constexpr size_t kMaxFileBytes = 65536;

struct Paths {
  std::string key;
  std::string certificate;
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
  Bytes certificate;
};

Result<Loaded> load(const Paths& paths) {
  TRY_ASSIGN(PrivateKey key, read_host_key(paths.key));
  TRY_ASSIGN(const std::string line, kit::read_file(paths.certificate, kMaxFileBytes));
  const auto bad = [&](const std::string& why) {
    return fail(Code::failed_precondition, paths.certificate + ": " + why);
  };
  auto wire = parse_key_line(line);
  if (!wire) return bad(wire.error().message);
  const auto certificate = SshCertificate::parse(*wire);
  if (!certificate) return bad(certificate.error().message);
  if (!(certificate->key.key == key.public_key())) return bad("the certificate is not that of the key in " + paths.key);
  return Loaded{std::move(key), std::move(*wire)};
}

Result<void> apply(Paths& self, const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  Paths paths{reader.text("host_key_path"), reader.text("host_cert_path")};
  TRY(reader.finish());
  if (paths.key.empty()) paths.key = "/etc/ssh/ssh_host_rsa_key";
  if (paths.certificate.empty()) paths.certificate = "/etc/ssh/ssh_host_rsa_key-cert.pub";
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
  return "{\"Certificate\":\"" + base64_encode(loaded.certificate) + "\"}";
}

Result<std::string> make_answer(const AgentSession& session, BytesView challenge) {
  if (!session.key) return fail(Code::failed_precondition, "a challenge without a payload before it");
  TRY_ASSIGN_WITHIN("failed to unmarshal challenge", const kit::GoJson document, kit::GoJson::parse(challenge));
  TRY_ASSIGN_WITHIN("failed to unmarshal challenge", Bytes both, kit::GoJson::bytes(document.root(), "Nonce"));
  if (both.size() != kNonceBytes)
    return fail(Code::invalid_argument, "failed to combine nonces: invalid challenge nonce size");
  const Bytes nonce = random_bytes(kNonceBytes);
  append(both, nonce);
  TRY_ASSIGN_WITHIN("failed to sign data", const SshSignature signature, sign(*session.key, sha256(both)));
  return "{\"Nonce\":\"" + base64_encode(nonce) + "\",\"Signature\":{\"Format\":\"" + signature.format +
         "\",\"Blob\":\"" + base64_encode(signature.blob) + "\",\"Rest\":null}}";
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
                                         LIMPET_BLOCKING,
                                         LIMPET_NODE_ATTESTOR_AGENT,
                                         "sshpop",
                                         create,
                                         destroy,
                                         configure,
                                         nullptr,
                                         &kTable};

}  // namespace limpet::sshpop
