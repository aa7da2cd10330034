// SPDX-License-Identifier: Apache-2.0
#pragma once
// Unary gRPC calls to SPIFFE servers for plugins, over core/wire: the SVID from a Workload API, the server believed
// when its chain leads to that SVID's bundle and its ID is exactly spiffe://<trust domain>/spire/server. Connections
// are kept and made anew when the SVID changed. Owned by main, it outlives the plugins; loop thread only.

#include <list>
#include <map>
#include <memory>
#include <string>

#include "base/clock.h"
#include "plugin/grpc_caller.h"
#include "plugin/workload_source.h"

namespace limpet {

class SpiffeCaller final : public GrpcCaller {
 public:
  // Loop and clock outlive it.
  SpiffeCaller(UvLoop& loop, const Clock& clock);
  ~SpiffeCaller() override;
  SpiffeCaller(const SpiffeCaller&) = delete;
  SpiffeCaller& operator=(const SpiffeCaller&) = delete;

  void call(GrpcRequest request, Done<Bytes> done) override;

 private:
  class Call;
  // Owners: the table of connections, and each call in flight on it.
  using SharedChannel = std::shared_ptr<wire::Channel>;
  struct Connection {
    SharedChannel channel;
    SharedIdentity identity;  // with which it was made
  };
  [[nodiscard]] WorkloadSource& source(const std::string& socket_path);

  UvLoop& loop_;
  const Clock& clock_;
  std::map<std::string, std::unique_ptr<WorkloadSource>> sources_;  // by socket
  std::map<std::string, Connection> connections_;                   // by target
  std::list<std::unique_ptr<Call>> calls_;
};

}  // namespace limpet
