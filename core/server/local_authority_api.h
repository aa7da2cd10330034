// SPDX-License-Identifier: Apache-2.0
#pragma once
// spire.api.server.localauthority.v1.LocalAuthority (wire notes 5.7): the operator's hand on the signing authorities.
// Automatic rotation goes on beside it. Owned by Server; loop thread only.

#include <memory>
#include <optional>

#include "server/authority_slots.h"
#include "server/caller.h"
#include "server/context.h"
#include "server/server_svid.h"

namespace limpet::server {

class LocalAuthorityApi final : public Api {
 public:
  LocalAuthorityApi(Context& context, ServerSvid& svid);
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call, const Caller& caller) override;

 private:
  Context& context_;
  ServerSvid& svid_;
  X509Slots x509_;
  std::optional<JwtSlots> jwt_;  // none: disable_jwt_svids
};

}  // namespace limpet::server
