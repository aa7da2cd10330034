// SPDX-License-Identifier: Apache-2.0
#pragma once
// grpc.health.v1.Health (Check, Watch, List), which probes, load balancers and `healthcheck` ask. The two messages are
// small enough to be written by hand. Owned by the role that listens; add() it to a GrpcServer as kHealthServiceName.
// Loop thread.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/grpc.h"

namespace limpet::wire {

inline constexpr const char* kHealthServiceName = "grpc.health.v1.Health";

// The numbers are the wire's (HealthCheckResponse.ServingStatus).
enum class ServingStatus : uint8_t { unknown = 0, serving = 1, not_serving = 2, service_unknown = 3 };

class HealthService final : public Service {
 public:
  // The status of a service by name; "" is the process as a whole. service_unknown for a name that does not exist.
  using Ask = std::function<ServingStatus(std::string_view service)>;
  // `names`: what List tells of, besides "".
  HealthService(Ask ask, std::vector<std::string> names);
  ~HealthService() override;

  std::unique_ptr<ServerFlow> open(ServerCall& call) override;
  // A status may have changed: watchers whose answer differs are told.
  void changed();

 private:
  friend class HealthWatchFlow;
  friend class HealthCheckFlow;
  friend class HealthListFlow;
  Ask ask_;
  std::vector<std::string> names_;
  std::vector<class HealthWatchFlow*> watchers_;
};

// The messages, for the client side too. Request: {1 service}; response: {1 status}.
Bytes encode_health_request(std::string_view service);
Result<ServingStatus> decode_health_response(BytesView message);

}  // namespace limpet::wire
