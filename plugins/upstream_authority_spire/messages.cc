// SPDX-License-Identifier: Apache-2.0
#include "upstream_authority_spire/messages.h"

#include "kit/kit.h"
#include "proto/spire_bundle.pb.h"
#include "proto/spire_svid.pb.h"
#include "wire/message.h"

namespace limpet::upstream_authority_spire {
namespace {

std::vector<Bytes> copy_all(pb_bytes_array_t* const* items, pb_size_t count) {
  std::vector<Bytes> out;
  out.reserve(count);
  for (pb_size_t i = 0; i < count; ++i) out.push_back(to_bytes(wire::view(items[i])));
  return out;
}

constexpr size_t kMaxField = 60'000;  // a message's field holds 65,535 bytes; no request or key comes near

}  // namespace

Result<Bytes> new_ca_request(BytesView csr_der, uint32_t ttl_s) {
  if (csr_der.size() > kMaxField) return fail(Code::invalid_argument, "the CSR is larger than 60,000 bytes");
  wire::Message<spire_api_server_svid_v1_NewDownstreamX509CARequest> request;
  wire::set_bytes(request->csr, csr_der);
  request->preferred_ttl = static_cast<int32_t>(std::min<uint32_t>(ttl_s, INT32_MAX));
  return request.encode();
}

Result<NewCa> read_new_ca(BytesView reply) {
  TRY_ASSIGN(const auto response, wire::Message<spire_api_server_svid_v1_NewDownstreamX509CAResponse>::decode(reply));
  return NewCa{copy_all(response->ca_cert_chain, response->ca_cert_chain_count),
               copy_all(response->x509_authorities, response->x509_authorities_count)};
}

Result<Bytes> publish_request(const limpet_jwt_key& key) {
  if (key.spki_der.len > kMaxField || key.id.len > kMaxField)
    return fail(Code::invalid_argument, "the JWT key or its id is larger than 60,000 bytes");
  wire::Message<spire_api_server_bundle_v1_PublishJWTAuthorityRequest> request;
  request->has_jwt_authority = true;
  wire::set_bytes(request->jwt_authority.public_key, kit::view(key.spki_der));
  wire::set_string(request->jwt_authority.key_id, kit::view(key.id));
  request->jwt_authority.expires_at = key.expires_at;
  request->jwt_authority.tainted = key.tainted != 0;
  return request.encode();
}

Result<UpBundle> read_bundle(BytesView reply, std::string_view trust_domain) {
  TRY_ASSIGN(const auto bundle, wire::Message<spire_api_types_Bundle>::decode(reply));
  if (wire::view(bundle->trust_domain) != trust_domain) {
    return fail(Code::invalid_argument, "the server above serves trust domain \"" +
                                            std::string(wire::view(bundle->trust_domain)) + "\", not \"" +
                                            std::string(trust_domain) + "\"");
  }
  UpBundle out;
  out.refresh_hint = bundle->refresh_hint;
  for (const auto& root : wire::items(bundle->x509_authorities, bundle->x509_authorities_count)) {
    out.roots.push_back(to_bytes(wire::view(root.asn1)));
    if (root.tainted) out.tainted_roots.push_back(out.roots.back());
  }
  for (const auto& key : wire::items(bundle->jwt_authorities, bundle->jwt_authorities_count)) {
    out.keys.push_back(
        {std::string(wire::view(key.key_id)), to_bytes(wire::view(key.public_key)), key.expires_at, key.tainted});
  }
  return out;
}

}  // namespace limpet::upstream_authority_spire
