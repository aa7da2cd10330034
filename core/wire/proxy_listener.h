// SPDX-License-Identifier: Apache-2.0
#pragma once
// Stands between a listener and its server where load balancers are in front: reads the PROXY header of connections
// from trusted addresses and hands them on under the address it names. Connections from elsewhere are handed on as they
// are, so that a header there is the garbage it looks like. Owned by who listens; loop thread only.

#include <list>
#include <memory>
#include <vector>

#include "base/ip_range.h"
#include "wire/grpc_server.h"

namespace limpet::wire {

class ProxyListener final : public ListenerClient {
 public:
  // `next` and `events` outlive it.
  ProxyListener(Loop& loop, std::vector<IpRange> trusted, ListenerClient& next, GrpcServerEvents* events = nullptr);
  ~ProxyListener() override;  // ends the connections whose header is not there yet
  void on_connection(std::unique_ptr<Stream> stream) override;
  [[nodiscard]] size_t waiting() const { return waiting_.size(); }

 private:
  struct Waiting;
  [[nodiscard]] bool trusts(const StreamAddress& address) const;
  std::unique_ptr<Waiting> take(Waiting& one);
  void refuse(Waiting& one, const Error& why);
  void hand_on(Waiting& one, std::optional<StreamAddress> source, Bytes early);

  Loop& loop_;
  std::vector<IpRange> trusted_;
  ListenerClient& next_;
  GrpcServerEvents* events_;
  std::list<std::unique_ptr<Waiting>> waiting_;
};

}  // namespace limpet::wire
