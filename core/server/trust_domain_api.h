// SPDX-License-Identifier: Apache-2.0
#pragma once
// spire.api.server.trustdomain.v1.TrustDomain (wire notes 5.6): federation relationships kept in the store. Those of
// the configuration are not shown here. Owned by Server; loop thread only.

#include <memory>

#include "server/bundle_refresher.h"
#include "server/caller.h"
#include "server/context.h"

namespace limpet::server {

class TrustDomainApi final : public Api {
 public:
  TrustDomainApi(Context& context, BundleRefresher& refresher) : context_(context), refresher_(refresher) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call, const Caller& caller) override;

 private:
  Context& context_;
  BundleRefresher& refresher_;
};

// One flow a method; those that change are in trust_domain_change.cc.
std::unique_ptr<wire::ServerFlow> open_create_relationships(Context& context, wire::ServerCall& call);
std::unique_ptr<wire::ServerFlow> open_update_relationships(Context& context, wire::ServerCall& call);
std::unique_ptr<wire::ServerFlow> open_delete_relationships(Context& context, wire::ServerCall& call);

}  // namespace limpet::server
