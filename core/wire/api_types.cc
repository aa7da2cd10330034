// SPDX-License-Identifier: Apache-2.0
#include "wire/api_types.h"

#include "crypto/x509.h"

namespace limpet::wire {
namespace {

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

Result<SpiffeId> parse_id(const spire_api_types_SPIFFEID& id) {
  TRY_ASSIGN(const TrustDomain trust_domain, TrustDomain::parse(view(id.trust_domain)));
  return SpiffeId::make(trust_domain, view(id.path));
}

}  // namespace

// ---- SPIFFE IDs ----

Result<SpiffeId> read_id(bool present, const spire_api_types_SPIFFEID& id) {
  if (!present) return invalid("request must specify SPIFFE ID");
  return parse_id(id);
}

void write_id(bool& present, spire_api_types_SPIFFEID& out, const SpiffeId& id) {
  present = !id.empty();
  set_string(out.trust_domain, id.trust_domain().name());
  set_string(out.path, id.path());
}

// ---- selectors ----

Result<std::vector<Selector>> read_selectors(const spire_api_types_Selector* selectors, pb_size_t count) {
  std::vector<Selector> out;
  out.reserve(count);
  for (const auto& selector : items(selectors, count)) {
    const auto type = view(selector.type);
    const auto value = view(selector.value);
    if (type.empty()) return invalid("missing selector type");
    if (type.find(':') != std::string_view::npos) return invalid("selector type contains ':'");
    if (value.empty()) return invalid("missing selector value");
    out.push_back({std::string(type), std::string(value)});
  }
  return out;
}

void write_selectors(spire_api_types_Selector*& out, pb_size_t& out_count, const std::vector<Selector>& selectors) {
  set_array(out, out_count, selectors.size());
  for (pb_size_t i = 0; i < out_count; ++i) {
    set_string(out[i].type, selectors[i].type);
    set_string(out[i].value, selectors[i].value);
  }
}

// ---- lists ----

std::vector<std::string> read_strings(char* const* strings, pb_size_t count) {
  std::vector<std::string> out;
  out.reserve(count);
  for (pb_size_t i = 0; i < count; ++i) out.emplace_back(view(strings[i]));
  return out;
}

// An element of a list is never left out, so it needs memory even when it is empty.
void write_strings(char**& out, pb_size_t& out_count, const std::vector<std::string>& strings) {
  set_array(out, out_count, strings.size());
  for (pb_size_t i = 0; i < out_count; ++i) {
    set_string(out[i], strings[i]);
    if (out[i] == nullptr) out[i] = static_cast<char*>(std::calloc(1, 1));
  }
}

std::vector<Bytes> read_list(pb_bytes_array_t* const* list, pb_size_t count) {
  std::vector<Bytes> out;
  out.reserve(count);
  for (pb_size_t i = 0; i < count; ++i) out.push_back(to_bytes(view(list[i])));
  return out;
}

void write_list(pb_bytes_array_t**& out, pb_size_t& out_count, const std::vector<Bytes>& list) {
  set_array(out, out_count, list.size());
  for (pb_size_t i = 0; i < out_count; ++i) {
    set_bytes(out[i], list[i]);
    if (out[i] == nullptr) out[i] = static_cast<pb_bytes_array_t*>(std::calloc(1, sizeof(pb_bytes_array_t)));
  }
}

// ---- bundles ----

Result<std::vector<X509Authority>> read_x509_authorities(const spire_api_types_X509Certificate* list, pb_size_t count) {
  std::vector<X509Authority> out;
  for (const auto& item : items(list, count)) {
    TRY_ASSIGN_WITHIN("unable to parse X.509 authority", const auto certificates, parse_certificates(view(item.asn1)));
    if (certificates.empty()) return invalid("unable to parse X.509 authority: no certificate");
    for (const auto& certificate : certificates) out.push_back({certificate.der, item.tainted});
  }
  return out;
}

Result<JwtAuthority> read_jwt_authority(const spire_api_types_JWTKey& key) {
  JwtAuthority out{.key_id = std::string(view(key.key_id)),
                   .spki = to_bytes(view(key.public_key)),
                   .expires_at = key.expires_at,
                   .tainted = key.tainted};
  TRY_WITHIN("unable to parse JWT authority", PublicKey::from_spki(out.spki));
  if (out.key_id.empty()) return invalid("unable to parse JWT authority: missing key ID");
  return out;
}

Result<std::vector<JwtAuthority>> read_jwt_authorities(const spire_api_types_JWTKey* list, pb_size_t count) {
  std::vector<JwtAuthority> out;
  for (const auto& item : items(list, count)) {
    TRY_ASSIGN(auto key, read_jwt_authority(item));
    out.push_back(std::move(key));
  }
  return out;
}

Result<Bundle> read_bundle(const spire_api_types_Bundle& bundle, const spire_api_types_BundleMask* mask) {
  Bundle out;
  TRY_ASSIGN_WITHIN("invalid trust domain", out.trust_domain, TrustDomain::parse(view(bundle.trust_domain)));
  if (mask == nullptr || mask->x509_authorities) {
    TRY_ASSIGN(out.x509_authorities, read_x509_authorities(bundle.x509_authorities, bundle.x509_authorities_count));
  }
  if (mask == nullptr || mask->jwt_authorities) {
    TRY_ASSIGN(out.jwt_authorities, read_jwt_authorities(bundle.jwt_authorities, bundle.jwt_authorities_count));
  }
  if (mask == nullptr || mask->refresh_hint) out.refresh_hint = bundle.refresh_hint;
  if (mask == nullptr || mask->sequence_number) out.sequence_number = bundle.sequence_number;
  return out;
}

void write_jwt_authority(spire_api_types_JWTKey& out, const JwtAuthority& key) {
  set_bytes(out.public_key, key.spki);
  set_string(out.key_id, key.key_id);
  out.expires_at = key.expires_at;
  out.tainted = key.tainted;
}

void write_bundle(spire_api_types_Bundle& out, const Bundle& bundle, const spire_api_types_BundleMask* mask) {
  set_string(out.trust_domain, bundle.trust_domain.name());
  if (mask == nullptr || mask->refresh_hint) out.refresh_hint = bundle.refresh_hint;
  if (mask == nullptr || mask->sequence_number) out.sequence_number = bundle.sequence_number;
  if (mask == nullptr || mask->x509_authorities) {
    set_array(out.x509_authorities, out.x509_authorities_count, bundle.x509_authorities.size());
    for (pb_size_t i = 0; i < out.x509_authorities_count; ++i) {
      set_bytes(out.x509_authorities[i].asn1, bundle.x509_authorities[i].der);
      out.x509_authorities[i].tainted = bundle.x509_authorities[i].tainted;
    }
  }
  if (mask == nullptr || mask->jwt_authorities) {
    set_array(out.jwt_authorities, out.jwt_authorities_count, bundle.jwt_authorities.size());
    for (pb_size_t i = 0; i < out.jwt_authorities_count; ++i) {
      write_jwt_authority(out.jwt_authorities[i], bundle.jwt_authorities[i]);
    }
  }
}

// ---- SVIDs ----

Result<X509Svid> read_x509_svid(const spire_api_types_X509SVID& svid) {
  X509Svid out;
  if (svid.cert_chain_count == 0) return invalid("X509-SVID has no certificate chain");
  TRY_ASSIGN_WITHIN("X509-SVID", out.id, read_id(svid.has_id, svid.id));
  out.chain = read_list(svid.cert_chain, svid.cert_chain_count);
  out.expires_at = svid.expires_at;
  out.hint = view(svid.hint);
  return out;
}

void write_x509_svid(spire_api_types_X509SVID& out, const X509Svid& svid) {
  write_list(out.cert_chain, out.cert_chain_count, svid.chain);
  write_id(out.has_id, out.id, svid.id);
  out.expires_at = svid.expires_at;
  set_string(out.hint, svid.hint);
}

Result<JwtSvid> read_jwt_svid(const spire_api_types_JWTSVID& svid) {
  JwtSvid out;
  out.token = view(svid.token);
  if (out.token.empty()) return invalid("JWT-SVID has no token");
  TRY_ASSIGN_WITHIN("JWT-SVID", out.id, read_id(svid.has_id, svid.id));
  out.expires_at = svid.expires_at;
  out.issued_at = svid.issued_at;
  out.hint = view(svid.hint);
  return out;
}

void write_jwt_svid(spire_api_types_JWTSVID& out, const JwtSvid& svid) {
  set_string(out.token, svid.token);
  write_id(out.has_id, out.id, svid.id);
  out.expires_at = svid.expires_at;
  out.issued_at = svid.issued_at;
  set_string(out.hint, svid.hint);
}

// ---- agents ----

void write_agent(spire_api_types_Agent& out, const AgentRecord& agent, const spire_api_types_AgentMask* mask) {
  write_id(out.has_id, out.id, agent.id);
  if (mask == nullptr || mask->attestation_type) set_string(out.attestation_type, agent.attestation_type);
  if (mask == nullptr || mask->x509svid_serial_number) set_string(out.x509svid_serial_number, agent.serial_number);
  if (mask == nullptr || mask->x509svid_expires_at) out.x509svid_expires_at = agent.expires_at;
  if (mask == nullptr || mask->selectors) write_selectors(out.selectors, out.selectors_count, agent.selectors);
  if (mask == nullptr || mask->banned) out.banned = agent.banned;
  if (mask == nullptr || mask->can_reattest) out.can_reattest = agent.can_reattest;
  if (mask == nullptr || mask->agent_version) set_string(out.agent_version, agent.version);
}

// ---- outcome of one item of a batch ----

void write_ok(bool& present, spire_api_types_Status& out) {
  present = true;
  out.code = 0;
  set_string(out.message, "OK");
}

void write_error(bool& present, spire_api_types_Status& out, const Error& error) {
  present = true;
  out.code = static_cast<int32_t>(error.code);
  set_string(out.message, error.message);
}

Result<void> read_status(bool present, const spire_api_types_Status& status) {
  if (!present || status.code == 0) return {};
  return fail(static_cast<Code>(status.code), std::string(view(status.message)));
}

}  // namespace limpet::wire
