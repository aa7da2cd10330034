// SPDX-License-Identifier: Apache-2.0
#include "agent/delegated_api.h"

#include "agent/delegated_bundles.h"
#include "agent/delegated_jwt.h"
#include "agent/delegated_svids.h"

namespace limpet::agent {

std::unique_ptr<wire::ServerFlow> DelegatedApi::open(wire::ServerCall& call) {
  const std::string_view path = call.method();
  const std::string_view method = path.substr(path.rfind('/') + 1);
  if (method == "SubscribeToX509SVIDs") return std::make_unique<DelegatedSvids>(parts_, call);
  if (method == "SubscribeToX509Bundles")
    return std::make_unique<DelegatedBundles>(parts_, call, DelegatedBundles::Kind::x509);
  if (method == "SubscribeToJWTBundles")
    return std::make_unique<DelegatedBundles>(parts_, call, DelegatedBundles::Kind::jwt);
  if (method == "FetchJWTSVIDs") return std::make_unique<DelegatedJwt>(parts_, call);
  return nullptr;
}

}  // namespace limpet::agent
