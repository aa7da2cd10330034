// SPDX-License-Identifier: Apache-2.0
#include "agent/workload_api.h"

#include <array>

#include "agent/jwt_calls.h"
#include "agent/workload_stream.h"

namespace limpet::agent {

namespace {

// A method of a profile that is not offered.
class NotOffered final : public wire::ServerFlow {
 public:
  NotOffered(wire::ServerCall& call, const char* message) : call_(call), message_(message) {}
  void start() override {
    if (auto header = check_security_header(call_.metadata()); !header) return call_.finish(std::move(header));
    call_.finish(fail(Code::unimplemented, message_));
  }

 private:
  wire::ServerCall& call_;
  const char* message_;
};

struct Refusal {
  std::string_view method;
  const char* message;
};
constexpr std::array kNotOffered = {
    Refusal{"FetchWITSVID", "fetching WIT-SVIDs is not implemented"},
    Refusal{"FetchWITBundles", "fetching WIT bundles is not implemented"},
};

}  // namespace

std::unique_ptr<wire::ServerFlow> WorkloadApi::open(wire::ServerCall& call) {
  const std::string_view path = call.method();
  const std::string_view method = path.substr(path.rfind('/') + 1);
  if (method == "FetchX509SVID") return std::make_unique<WorkloadStream>(parts_, call, WorkloadStream::Kind::svids);
  if (method == "FetchX509Bundles")
    return std::make_unique<WorkloadStream>(parts_, call, WorkloadStream::Kind::bundles);
  if (method == "FetchJWTBundles")
    return std::make_unique<WorkloadStream>(parts_, call, WorkloadStream::Kind::jwt_bundles);
  if (method == "FetchJWTSVID") return std::make_unique<FetchJwtCall>(parts_, call);
  if (method == "ValidateJWTSVID") return std::make_unique<ValidateJwtCall>(parts_, call);
  for (const Refusal& refusal : kNotOffered)
    if (method == refusal.method) return std::make_unique<NotOffered>(call, refusal.message);
  return nullptr;
}

Result<void> admit_call(const WorkloadApiParts& parts, const wire::ServerCall& call, const SelectorSet& caller) {
  return parts.limits == nullptr ? Result<void>() : parts.limits->admit(call, caller);
}

Result<void> check_security_header(const wire::Metadata& metadata) {
  size_t seen = 0;
  bool right = true;
  for (const auto& [name, value] : metadata) {
    if (name != "workload.spiffe.io") continue;
    seen++;
    right = right && value == "true";
  }
  if (seen == 1 && right) return {};
  return fail(Code::invalid_argument, "security header missing from request");
}

}  // namespace limpet::agent
