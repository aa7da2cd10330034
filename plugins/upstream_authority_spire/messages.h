// SPDX-License-Identifier: Apache-2.0
#pragma once
// The three calls to the server above, as bytes: requests encoded, replies decoded. Pure functions, any thread.

#include <limpet_plugin.h>

#include <string>
#include <vector>

#include "base/bytes.h"

namespace limpet::upstream_authority_spire {

inline constexpr const char* kNewCa = "/spire.api.server.svid.v1.SVID/NewDownstreamX509CA";
inline constexpr const char* kGetBundle = "/spire.api.server.bundle.v1.Bundle/GetBundle";
inline constexpr const char* kPublishJwt = "/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority";

Result<Bytes> new_ca_request(BytesView csr_der, uint32_t ttl_s);
struct NewCa {
  std::vector<Bytes> chain;
  std::vector<Bytes> roots;
};
Result<NewCa> read_new_ca(BytesView reply);

Result<Bytes> publish_request(const limpet_jwt_key& key);

struct JwtKey {
  std::string id;
  Bytes spki;
  int64_t expires_at = 0;
  bool tainted = false;
};
struct UpBundle {
  std::vector<Bytes> roots;
  std::vector<Bytes> tainted_roots;
  std::vector<JwtKey> keys;
  int64_t refresh_hint = 0;
};
// INVALID_ARGUMENT: malformed, or of another trust domain.
Result<UpBundle> read_bundle(BytesView reply, std::string_view trust_domain);

}  // namespace limpet::upstream_authority_spire
