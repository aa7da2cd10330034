// SPDX-License-Identifier: Apache-2.0
#include "server/svid_api.h"

#include "server/unimplemented.h"

namespace limpet::server {

std::unique_ptr<wire::ServerFlow> SvidApi::open(wire::ServerCall& call, const Caller& caller) {
  std::string_view method = call.method();
  method.remove_prefix(method.rfind('/') + 1);
  if (method == "MintX509SVID") return open_mint_x509_svid(context_, call);
  if (method == "BatchNewX509SVID") return open_batch_new_x509_svid(context_, call, caller);
  if (method == "MintJWTSVID") return open_mint_jwt_svid(context_, call);
  if (method == "NewJWTSVID") return open_new_jwt_svid(context_, call, caller);
  if (method == "MintWITSVID" || method == "BatchNewWITSVID")
    return std::make_unique<UnimplementedFlow>(call, "WIT functionality is disabled");
  if (method == "NewDownstreamX509CA") return open_new_downstream_x509_ca(context_, call);
  return nullptr;
}

}  // namespace limpet::server
