// SPDX-License-Identifier: Apache-2.0
#pragma once
// spire.api.server.bundle.v1.Bundle (wire notes 5.4): the own bundle here, those of other trust domains in
// server/federated_bundles.h. JWT keys of servers below are taken in
// bundle_publish.cc, WIT keys answer UNIMPLEMENTED. Owned by Server; loop thread only.

#include <memory>

#include "server/caller.h"
#include "server/context.h"

namespace limpet::server {

class BundleApi final : public Api {
 public:
  explicit BundleApi(Context& context) : context_(context) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call, const Caller& caller) override;

 private:
  Context& context_;
};

std::unique_ptr<wire::ServerFlow> open_publish_jwt_authority(Context& context,
                                                             wire::ServerCall& call);  // bundle_publish.cc

}  // namespace limpet::server
