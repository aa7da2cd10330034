// SPDX-License-Identifier: Apache-2.0
#pragma once
// spire.api.server.svid.v1.SVID (wire notes 5.5): X.509-SVIDs for administrators and agents, CA certificates for
// downstream servers. JWT-SVIDs and WIT-SVIDs answer UNIMPLEMENTED. Owned by Server; loop thread only.

#include <memory>

#include "server/caller.h"
#include "server/context.h"

namespace limpet::server {

class SvidApi final : public Api {
 public:
  explicit SvidApi(Context& context) : context_(context) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call, const Caller& caller) override;

 private:
  Context& context_;
};

std::unique_ptr<wire::ServerFlow> open_mint_x509_svid(Context& context, wire::ServerCall& call);  // svid_mint.cc
std::unique_ptr<wire::ServerFlow> open_batch_new_x509_svid(Context& context, wire::ServerCall& call,
                                                           const Caller& caller);  // svid_batch.cc
std::unique_ptr<wire::ServerFlow> open_new_downstream_x509_ca(Context& context,
                                                              wire::ServerCall& call);  // svid_downstream.cc

std::unique_ptr<wire::ServerFlow> open_mint_jwt_svid(Context& context, wire::ServerCall& call);  // svid_jwt.cc
std::unique_ptr<wire::ServerFlow> open_new_jwt_svid(Context& context, wire::ServerCall& call, const Caller& caller);

}  // namespace limpet::server
