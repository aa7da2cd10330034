// SPDX-License-Identifier: Apache-2.0
#pragma once
// spire.api.server.debug.v1.Debug (wire notes 5.8), on the local socket only: what the server holds, counted at most
// every 5 s. Owned by Server; loop thread only.

#include <memory>
#include <vector>

#include "proto/spire_debug.pb.h"
#include "server/caller.h"
#include "server/context.h"
#include "server/server_svid.h"
#include "wire/message.h"

namespace limpet::server {

class DebugApi final : public Api {
 public:
  DebugApi(Context& context, const ServerSvid& svid)
      : context_(context), svid_(svid), started_ms_(context.loop.now_ms()) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call, const Caller& caller) override;
  // Serialized GetInfoResponse.
  Result<Bytes> info();

 private:
  void add_chain(spire_api_server_debug_v1_GetInfoResponse& response) const;

  Context& context_;
  const ServerSvid& svid_;
  int64_t started_ms_;
  Bytes cached_;
  int64_t cached_until_ms_ = 0;
};

}  // namespace limpet::server
