// SPDX-License-Identifier: Apache-2.0
// Agent half: the DevID key and a fresh attestation key, loaded into the TPM for one piece of work at a time; files are
// read anew at each attempt. Nothing stays in the TPM. BLOCKING: a TPM takes seconds.
#include <memory>
#include <optional>

#include "kit/kit.h"
#include "kit/pem_files.h"
#include "kit_tpm/settings.h"
#include "node_attestor_tpm_devid/halves.h"
#include "node_attestor_tpm_devid/messages.h"

namespace limpet::tpm_devid {
namespace {

constexpr size_t kMaxBlobBytes = 4096;
constexpr size_t kMaxAuthBytes = 64;

struct Settings {
  std::string certificate_path;
  std::string public_path;
  std::string private_path;
  SecretBytes devid_auth;
  std::unique_ptr<const tpm::Device> device;
};
struct Agent {
  std::shared_ptr<const Settings> settings = nullptr;  // owners: this, and the sessions begun with them
};
// Keys as the TPM saved them: each comes back by one command, until the next reset.
struct SavedKey {
  Bytes context;
  Bytes public_area;
  Bytes name;
};
struct AgentSession {
  std::shared_ptr<const Settings> settings;
  std::optional<SavedKey> devid = std::nullopt;
  std::optional<SavedKey> ak = std::nullopt;
};
Agent* self_of(limpet_instance* self) { return reinterpret_cast<Agent*>(self); }
AgentSession* self_of(limpet_session* session) { return reinterpret_cast<AgentSession*>(session); }

limpet_code create(const limpet_host*, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Agent());
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

// SPIRE's configuration has the passwords themselves in it; a file, as the other TPM plugins take it, is better.
Result<SecretBytes> take_password(kit::ConfigReader& reader, const char* key, const char* file_key) {
  std::string text = reader.text(key);
  SecretBytes out(as_bytes(text));
  wipe(text.data(), text.size());
  if (out.size() > kMaxAuthBytes) return invalid(std::string(key) + " is longer than 64 bytes");
  const std::string path = reader.text(file_key);
  if (path.empty()) return out;
  if (!out.empty()) return invalid(std::string("set ") + key + " or " + file_key + ", not both");
  TRY_ASSIGN_WITHIN(file_key, out, tpm::read_auth_file(path));
  return out;
}

Result<void> apply(Agent& self, const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  auto settings = std::make_shared<Settings>();
  settings->certificate_path = reader.text("devid_cert_path");
  settings->public_path = reader.text("devid_pub_path");
  settings->private_path = reader.text("devid_priv_path");
  const std::string path = reader.text("tpm_device_path");
  tpm::DeviceSettings device;
  TRY_ASSIGN(settings->devid_auth, take_password(reader, "devid_password", "devid_auth_file"));
  TRY_ASSIGN(device.owner_auth, take_password(reader, "owner_hierarchy_password", "owner_auth_file"));
  TRY_ASSIGN(device.endorsement_auth, take_password(reader, "endorsement_hierarchy_password", "endorsement_auth_file"));
  TRY(reader.finish());
  if (settings->certificate_path.empty()) return invalid("devid_cert_path is required");
  if (settings->public_path.empty()) return invalid("devid_pub_path is required");
  if (settings->private_path.empty()) return invalid("devid_priv_path is required");
  TRY_ASSIGN_WITHIN("tpm_device_path", device.address, tpm::parse_address(path));
  settings->device = std::make_unique<const tpm::Device>(std::move(device));
  if (config.dry_run == 0) self.settings = std::move(settings);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  kit::end(op, done, apply(*self_of(self), *config));
}

limpet_session* open_session(limpet_instance* self) {
  return reinterpret_cast<limpet_session*>(new AgentSession{self_of(self)->settings});
}
void close_session(limpet_session* session) { delete self_of(session); }

// ---- the payload ----

// tpm2_create writes the files with a length in front, other tools without.
Result<Bytes> read_blob(const std::string& path) {
  TRY_ASSIGN(const std::string text, kit::read_file(path, kMaxBlobBytes));
  if (text.empty()) return fail(Code::failed_precondition, path + ": is empty");
  return to_bytes(tpm_wire::without_size(as_bytes(text)));
}

Result<std::vector<Bytes>> read_chain(const Settings& settings, const PublicKey& devid) {
  TRY_ASSIGN(const std::vector<Certificate> chain, kit::read_certificates(settings.certificate_path));
  if (!(chain.front().key == devid))
    return fail(
        Code::failed_precondition,
        settings.certificate_path + ": the first certificate is not that of the key in " + settings.public_path);
  std::vector<Bytes> out;
  out.reserve(chain.size());
  for (const Certificate& certificate : chain) out.push_back(certificate.der);
  return out;
}

Result<SavedKey> save(tpm::Tpm& tpm, const tpm::Object& key) {
  TRY_ASSIGN(Bytes context, tpm.save(key));
  return SavedKey{std::move(context), key.public_area(), key.name()};
}

// SPIRE's provisioning makes the DevID key under the standard storage key of its own kind; so the one says which the
// other is. The attestation key hangs there too, and is RSA because SPIRE's server takes no other.
Result<void> certify_devid(const Settings& settings, tpm::Tpm& tpm, AgentSession& session, Payload& out) {
  TRY_ASSIGN_WITHIN(settings.public_path, const PublicKey key, tpm::public_key_of(out.devid_public));
  TRY_ASSIGN(const Bytes private_area, read_blob(settings.private_path));
  TRY_ASSIGN_WITHIN("storage root key", tpm::Object parent,
                    tpm.create_primary(tpm::Hierarchy::owner, key.is_rsa() ? tpm::srk_rsa() : tpm::srk_ecc()));
  TRY_ASSIGN_WITHIN("DevID key", const tpm::Object devid,
                    tpm.load(parent, {out.devid_public, private_area}, settings.devid_auth.view()));
  TRY_ASSIGN_WITHIN("attestation key", const tpm::Created created, tpm.create(parent, tpm::ak_rsa(true)));
  TRY_ASSIGN_WITHIN("attestation key", const tpm::Object ak, tpm.load(parent, created.blob));
  TRY_ASSIGN_WITHIN("certify DevID key", tpm::Attested attested, tpm.certify(devid, ak));
  out.ak_public = ak.public_area();
  out.certified_devid = std::move(attested.attest);
  out.certification_signature = std::move(attested.signature);
  TRY_ASSIGN(session.devid, save(tpm, devid));
  TRY_ASSIGN(session.ak, save(tpm, ak));
  return {};
}

Result<std::string> make_payload(AgentSession& session) {
  if (session.settings == nullptr) return fail(Code::failed_precondition, "not configured");
  const Settings& settings = *session.settings;
  Payload out;
  TRY_ASSIGN(out.devid_public, read_blob(settings.public_path));
  TRY_ASSIGN_WITHIN(settings.public_path, const PublicKey devid, tpm::public_key_of(out.devid_public));
  TRY_ASSIGN(out.devid_chain, read_chain(settings, devid));
  TRY_ASSIGN(const std::unique_ptr<tpm::Tpm> tpm, settings.device->open());
  TRY(certify_devid(settings, *tpm, session, out));
  auto certificate = tpm->ek_certificate(tpm::EkKind::rsa_2048);
  if (!certificate && certificate.error().code == Code::not_found)
    return fail(Code::failed_precondition, "the TPM has no endorsement key certificate, which tpm_devid needs");
  if (!certificate) return fail(std::move(certificate).error());
  out.ek_certificate = std::move(*certificate);
  TRY_ASSIGN_WITHIN("endorsement key", const tpm::Object ek, tpm->create_ek(tpm::EkKind::rsa_2048, false));
  out.ek_public = ek.public_area();
  return encode_payload(out);
}

void payload(limpet_session* session, limpet_op* op, limpet_bytes_done done) {
  kit::end(op, done, make_payload(*self_of(session)));
}

// ---- the answer ----

Result<std::string> make_answer(AgentSession& session, BytesView said) {
  if (!session.ak) return fail(Code::failed_precondition, "a challenge without a payload before it");
  TRY_ASSIGN_WITHIN("unable to unmarshall challenge", const Challenge challenge, decode_challenge(said));
  const Settings& settings = *session.settings;
  TRY_ASSIGN(const std::unique_ptr<tpm::Tpm> tpm, settings.device->open());
  Response out;
  {
    TRY_ASSIGN_WITHIN("DevID key", const tpm::Object devid,
                      tpm->load_saved(session.devid->context, session.devid->public_area, session.devid->name,
                                      settings.devid_auth.view()));
    TRY_ASSIGN_WITHIN("DevID challenge", out.devid_signature,
                      tpm->sign_message(devid, HashAlg::sha256, challenge.devid_nonce));
  }
  TRY_ASSIGN_WITHIN("attestation key", const tpm::Object ak,
                    tpm->load_saved(session.ak->context, session.ak->public_area, session.ak->name));
  TRY_ASSIGN_WITHIN("endorsement key", const tpm::Object ek, tpm->create_ek(tpm::EkKind::rsa_2048, false));
  TRY_ASSIGN_WITHIN("activate credential", const SecretBytes secret,
                    tpm->activate_credential(ak, ek, challenge.credential.id_object, challenge.credential.secret));
  out.secret = to_bytes(secret.view());
  std::string text = encode_response(out);
  wipe(out.secret);
  return text;
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
                                         "tpm_devid",
                                         create,
                                         destroy,
                                         configure,
                                         nullptr,
                                         &kTable};

}  // namespace limpet::tpm_devid
