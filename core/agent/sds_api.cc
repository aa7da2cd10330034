// SPDX-License-Identifier: Apache-2.0
#include "agent/sds_api.h"

#include "agent/sds_call.h"

namespace limpet::agent {

namespace {

class DeltaRefused final : public wire::ServerFlow {
 public:
  explicit DeltaRefused(wire::ServerCall& call) : call_(call) {}
  void start() override { call_.finish(fail(Code::unimplemented, "Method is not implemented")); }

 private:
  wire::ServerCall& call_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> SdsApi::open(wire::ServerCall& call) {
  const std::string_view path = call.method();
  const std::string_view method = path.substr(path.rfind('/') + 1);
  if (method == "StreamSecrets") return std::make_unique<SdsCall>(parts_, call, false);
  if (method == "FetchSecrets") return std::make_unique<SdsCall>(parts_, call, true);
  if (method == "DeltaSecrets") return std::make_unique<DeltaRefused>(call);
  return nullptr;
}

}  // namespace limpet::agent
