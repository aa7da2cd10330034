// SPDX-License-Identifier: Apache-2.0
#include "agent/sds_messages.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/secret.h"
#include "wire/message.h"

namespace limpet::agent {

namespace {

using wire::Message;
using Secret = envoy_service_secret_v3_Secret;
using ValidatorConfig = envoy_service_secret_v3_SPIFFECertValidatorConfig;

constexpr std::string_view kSecretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
constexpr std::string_view kValidatorType =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
constexpr std::string_view kValidatorName = "envoy.tls.cert_validator.spiffe";
constexpr std::string_view kDisableKey = "disable_spiffe_cert_validation";

// Concatenated DER certificates, each in PEM.
std::string pem_of(BytesView der) {
  std::string out;
  while (der.size() >= 4) {
    size_t size = 2 + size_t{der[1]};
    if (der[1] == 0x81) size = 3 + size_t{der[2]};
    if (der[1] == 0x82) size = 4 + (size_t{der[2]} << 8) + der[3];
    if (der[1] > 0x82 || size > der.size()) break;
    out += pem_encode("CERTIFICATE", der.first(size));
    der = der.subspan(size);
  }
  return out;
}

// PKCS#8 in PEM, leaving no copy of the key behind: the caller wipes the result, which was never moved.
std::string key_pem(BytesView der) {
  constexpr size_t kLine = 48;  // bytes, 64 characters
  std::string out;
  out.reserve(128 + der.size() * 2);
  out += "-----BEGIN PRIVATE KEY-----\n";
  for (size_t at = 0; at < der.size(); at += kLine) {
    std::string line = base64_encode(der.subspan(at, std::min(kLine, der.size() - at)));
    out += line;
    out += '\n';
    wipe(line.data(), line.size());
  }
  out += "-----END PRIVATE KEY-----\n";
  return out;
}

void inline_text(bool& present, envoy_service_secret_v3_DataSource& out, std::string_view text) {
  present = true;
  wire::set_present(out.inline_bytes, as_bytes(text));
}

bool asks_for_plain_roots(const google_protobuf_Value& value) {
  if (value.which_kind == google_protobuf_Value_bool_value_tag) return value.kind.bool_value;
  if (value.which_kind == google_protobuf_Value_string_value_tag) return wire::view(value.kind.string_value) == "true";
  return false;
}

// One answer while it is put together.
class Secrets {
 public:
  explicit Secrets(const SdsQuestion& question) : question_(question), left_(question.names) {}

  // What the caller may have is asked for by name, or everything is.
  bool wants(const std::string& name) {
    if (question_.names.empty()) return true;
    return left_.erase(name) > 0;
  }
  bool takes(const std::string& name) { return !name.empty() && left_.erase(name) > 0; }

  Result<void> add_identity(const std::string& name, const Identity& identity) {
    Message<Secret> secret;
    secret.mark_secret();
    wire::set_string(secret->name, name);
    secret->which_type = envoy_service_secret_v3_Secret_tls_certificate_tag;
    auto& certificate = secret->type.tls_certificate;
    inline_text(certificate.has_certificate_chain, certificate.certificate_chain, pem_of(identity.svid->chain));
    std::string key = key_pem(identity.svid->key.view());
    inline_text(certificate.has_private_key, certificate.private_key, key);
    wipe(key.data(), key.size());
    return add(secret);
  }

  using Bundles = std::map<std::string, const CachedBundle*>;  // by trust domain name
  Result<void> add_bundles(const std::string& name, const Bundles& bundles) {
    Message<Secret> secret;
    wire::set_string(secret->name, name);
    secret->which_type = envoy_service_secret_v3_Secret_validation_context_tag;
    auto& context = secret->type.validation_context;
    if (plain()) {
      // SPIRE's text; a list of trust domains has no form without the validator
      if (bundles.size() != 1 || name == question_.config.default_all_bundles_name)
        return fail(Code::internal, "unable to use \"SPIFFE validator\" on Envoy below 1.17");
      inline_text(context.has_trusted_ca, context.trusted_ca, pem_of(bundles.begin()->second->roots));
      return add(secret);
    }
    Message<ValidatorConfig> validator;
    auto* out = wire::set_array(validator->trust_domains, validator->trust_domains_count, bundles.size());
    for (const auto& [domain, bundle] : bundles) {
      wire::set_string(out->name, domain);
      inline_text(out->has_trust_bundle, out->trust_bundle, pem_of(bundle->roots));
      out++;
    }
    TRY_ASSIGN(const Bytes packed, validator.encode());
    context.has_custom_validator_config = context.custom_validator_config.has_typed_config = true;
    wire::set_string(context.custom_validator_config.name, kValidatorName);
    wire::set_string(context.custom_validator_config.typed_config.type_url, kValidatorType);
    wire::set_bytes(context.custom_validator_config.typed_config.value, packed);
    return add(secret);
  }

  Result<Bytes> encode() {
    if (!left_.empty()) return fail(Code::invalid_argument, refusal());
    Message<envoy_service_secret_v3_DiscoveryResponse> response;
    response.mark_secret();
    wire::set_string(response->version_info, question_.version);
    wire::set_string(response->type_url, kSecretType);
    wire::set_string(response->nonce, question_.nonce);
    auto* out = wire::set_array(response->resources, response->resources_count, packed_.size());
    for (const SecretBytes& secret : packed_) {
      wire::set_string(out->type_url, kSecretType);
      wire::set_bytes(out->value, secret.view());
      out++;
    }
    return response.encode();
  }

 private:
  [[nodiscard]] bool plain() const {
    return question_.config.disable_spiffe_cert_validation || question_.node.disabled || question_.node.old_envoy;
  }

  Result<void> add(const Message<Secret>& secret) {
    TRY_ASSIGN(Bytes packed, secret.encode());
    packed_.emplace_back(BytesView(packed));
    wipe(packed);
    return {};
  }

  [[nodiscard]] std::string refusal() const {
    std::string list;
    for (const std::string& name : left_) list += (list.empty() ? "\"" : " \"") + name + "\"";
    return "workload is not authorized for the requested identities [" + list + "]";
  }

  const SdsQuestion& question_;
  std::set<std::string> left_;  // asked for and not given yet
  std::vector<SecretBytes> packed_;
};

// The own bundle is given once, under the first of its names that was asked for.
Result<void> add_own_bundle(Secrets& secrets, const SdsConfig& config, const Secrets::Bundles& all,
                            std::string_view trust_domain) {
  const auto own = all.find(std::string(trust_domain));
  if (own == all.end()) return {};
  const Secrets::Bundles one{*own};
  const std::string id = "spiffe://" + own->first;
  if (secrets.wants(id)) return secrets.add_bundles(id, one);
  if (secrets.takes(config.default_bundle_name)) return secrets.add_bundles(config.default_bundle_name, one);
  if (secrets.takes(config.default_all_bundles_name)) return secrets.add_bundles(config.default_all_bundles_name, all);
  return {};
}

Secrets::Bundles visible_bundles(const std::vector<Identity*>& identities, const IdentityCache& cache,
                                 std::string_view trust_domain) {
  Secrets::Bundles all;
  const auto add = [&](std::string_view name) {
    if (const CachedBundle* bundle = cache.bundle(name)) all.emplace(name, bundle);
  };
  add(trust_domain);
  for (const Identity* identity : identities)
    for (const std::string& name : identity->entry.federates_with) add(name);
  return all;
}

}  // namespace

SdsNode read_sds_node(const envoy_service_secret_v3_Node& node) {
  SdsNode read;
  if (node.which_user_agent_version_type == envoy_service_secret_v3_Node_user_agent_build_version_tag) {
    const auto& version = node.user_agent_version_type.user_agent_build_version.version;
    read.old_envoy = version.major_number < 1 || (version.major_number == 1 && version.minor_number <= 17);
  }
  if (!node.has_metadata) return read;
  for (const auto& field : wire::items(node.metadata.fields, node.metadata.fields_count))
    if (wire::view(field.key) == kDisableKey && field.has_value) read.disabled = asks_for_plain_roots(field.value);
  return read;
}

Result<Bytes> encode_secrets(const SdsQuestion& question, const std::vector<Identity*>& identities,
                             const IdentityCache& cache, std::string_view trust_domain, int64_t now) {
  Secrets secrets(question);
  const Secrets::Bundles all = visible_bundles(identities, cache, trust_domain);
  TRY(add_own_bundle(secrets, question.config, all, trust_domain));
  for (const auto& [name, bundle] : all) {
    const std::string id = "spiffe://" + name;
    if (name != trust_domain && secrets.wants(id)) TRY(secrets.add_bundles(id, {{name, bundle}}));
  }
  // The default name is the first identity's, also while that has no valid SVID: another one in its place would change
  // who an Envoy is.
  const Identity* first = identities.empty() ? nullptr : identities.front();
  std::set<std::string> given;  // a name is given once, however many entries have it
  for (const Identity* identity : identities) {
    if (identity->svid == nullptr || identity->svid->not_after <= now) continue;
    const std::string id = identity->entry.spiffe_id.text();
    if (!given.contains(id) && secrets.wants(id)) {
      given.insert(id);
      TRY(secrets.add_identity(id, *identity));
    } else if (identity == first && secrets.takes(question.config.default_svid_name)) {
      TRY(secrets.add_identity(question.config.default_svid_name, *identity));
    }
  }
  return secrets.encode();
}

}  // namespace limpet::agent
