// SPDX-License-Identifier: Apache-2.0
#include "server/wire_values.h"

namespace limpet::server {

Result<SpiffeId> id_from_wire(bool present, const spire_api_types_SPIFFEID& id) {
  if (!present) return fail(Code::invalid_argument, "request must specify SPIFFE ID");
  TRY_ASSIGN(TrustDomain trust_domain, TrustDomain::parse(wire::view(id.trust_domain)));
  return SpiffeId::make(trust_domain, wire::view(id.path));
}

void id_to_wire(const SpiffeId& id, bool& present, spire_api_types_SPIFFEID& out) {
  present = true;
  wire::set_string(out.trust_domain, id.trust_domain().name());
  wire::set_string(out.path, id.path());
}

namespace {
std::unexpected<Error> wrong_id(const SpiffeId& id, const TrustDomain& trust_domain, std::string_view what) {
  return fail(Code::invalid_argument, "\"" + id.text() + "\" is not " + std::string(what) + " trust domain \"" + trust_domain.name() + "\"");
}
std::unexpected<Error> wrong_path(const SpiffeId& id, const TrustDomain& trust_domain, std::string_view kind, std::string_view why) {
  return fail(Code::invalid_argument, "\"" + id.text() + "\" is not " + std::string(kind) + " in trust domain \"" +
                                          trust_domain.name() + "\"; " + std::string(why));
}
}  // namespace

Result<void> check_agent_id(const SpiffeId& id, const TrustDomain& trust_domain) {
  if (!id.member_of(trust_domain)) return wrong_id(id, trust_domain, "a member of");
  if (id.path().empty()) return wrong_path(id, trust_domain, "an agent", "path is empty");
  if (!id.path().starts_with(kAgentPrefix)) return wrong_path(id, trust_domain, "an agent", "path is not in the agent namespace");
  return {};
}

Result<void> check_workload_id(const SpiffeId& id, const TrustDomain& trust_domain) {
  if (!id.member_of(trust_domain)) return wrong_id(id, trust_domain, "a member of");
  if (id.path().empty()) return wrong_path(id, trust_domain, "a workload", "path is empty");
  if (id.path() == "/spire" || id.path().starts_with("/spire/")) {
    return wrong_path(id, trust_domain, "a workload", "path is in the reserved namespace");
  }
  return {};
}

Result<SelectorSet> selectors_from_wire(std::span<const spire_api_types_Selector> selectors) {
  std::vector<Selector> out;
  out.reserve(selectors.size());
  for (const spire_api_types_Selector& selector : selectors) {
    std::string_view type = wire::view(selector.type);
    if (type.empty()) return fail(Code::invalid_argument, "missing selector type");
    if (type.find(':') != std::string_view::npos) return fail(Code::invalid_argument, "selector type contains ':'");
    if (wire::view(selector.value).empty()) return fail(Code::invalid_argument, "missing selector value");
    out.push_back({std::string(type), std::string(wire::view(selector.value))});
  }
  return make_selector_set(std::move(out));
}

void selectors_to_wire(const SelectorSet& selectors, spire_api_types_Selector*& out, pb_size_t& count) {
  spire_api_types_Selector* items = wire::set_array(out, count, selectors.size());
  for (size_t i = 0; i < selectors.size(); i++) {
    wire::set_string(items[i].type, selectors[i].type);
    wire::set_string(items[i].value, selectors[i].value);
  }
}

void svid_to_wire(const SignedSvid& svid, const SpiffeId& id, spire_api_types_X509SVID& out) {
  pb_bytes_array_t** chain = wire::set_array(out.cert_chain, out.cert_chain_count, svid.chain.size());
  for (size_t i = 0; i < svid.chain.size(); i++) wire::set_bytes(chain[i], svid.chain[i]);
  id_to_wire(id, out.has_id, out.id);
  out.expires_at = svid.expires_at;
}

void bundle_to_wire(const Bundle& bundle, const spire_api_types_BundleMask* mask, spire_api_types_Bundle& out) {
  wire::set_string(out.trust_domain, bundle.trust_domain.name());
  if (mask == nullptr || mask->x509_authorities) {
    const auto& from = bundle.x509_authorities;
    spire_api_types_X509Certificate* items = wire::set_array(out.x509_authorities, out.x509_authorities_count, from.size());
    for (size_t i = 0; i < from.size(); i++) {
      wire::set_bytes(items[i].asn1, from[i].der);
      items[i].tainted = from[i].tainted;
    }
  }
  if (mask == nullptr || mask->jwt_authorities) {
    const auto& from = bundle.jwt_authorities;
    spire_api_types_JWTKey* items = wire::set_array(out.jwt_authorities, out.jwt_authorities_count, from.size());
    for (size_t i = 0; i < from.size(); i++) {
      wire::set_bytes(items[i].public_key, from[i].spki);
      wire::set_string(items[i].key_id, from[i].key_id);
      items[i].expires_at = from[i].expires_at;
      items[i].tainted = from[i].tainted;
    }
  }
  if (mask == nullptr || mask->refresh_hint) out.refresh_hint = bundle.refresh_hint;
  if (mask == nullptr || mask->sequence_number) out.sequence_number = bundle.sequence_number;
}

void status_to_wire(const Error* error, bool& present, spire_api_types_Status& out) {
  present = true;
  out.code = error == nullptr ? 0 : static_cast<int32_t>(error->code);
  wire::set_string(out.message, error == nullptr ? "OK" : error->message);
}

}  // namespace limpet::server
