// SPDX-License-Identifier: Apache-2.0
#pragma once
// An X509-SVID of a Workload API socket and the bundle that came with it, kept up to date: the stream stays open and is
// opened anew when it breaks. What was received stays usable while the agent is away. Owned by SpiffeCaller; loop
// thread only.

#include <memory>
#include <string>
#include <vector>

#include "loop/uv_loop.h"
#include "spiffe/bundle.h"
#include "wire/grpc_client.h"
#include "wire/tls.h"

namespace limpet {

struct WorkloadIdentity {
  SpiffeId id;
  wire::TlsIdentity tls;
  BundleSet roots;  // of the SVID's own trust domain
};
// Owners: the source, the connections made with it, and handshakes in flight.
using SharedIdentity = std::shared_ptr<const WorkloadIdentity>;

// The first SVID of a serialized X509SVIDResponse, which is zeroed. INVALID_ARGUMENT.
Result<SharedIdentity> read_identity(Bytes message);

class WorkloadSource {
 public:
  WorkloadSource(UvLoop& loop, std::string socket_path);
  WorkloadSource(const WorkloadSource&) = delete;
  WorkloadSource& operator=(const WorkloadSource&) = delete;

  // The identity there is, or the first that comes, or why none came.
  void get(Done<SharedIdentity> done);
  [[nodiscard]] const SharedIdentity& newest() const { return identity_; }

 private:
  void dial();
  void on_dialled(Result<std::unique_ptr<wire::Channel>> channel);
  void receive();
  void on_message(Result<std::optional<Bytes>> message);
  void on_sent(Result<void>) {}  // a failure shows in receive()
  void broken(Error why);
  void answer_waiters(const Result<SharedIdentity>& answer);

  UvLoop& loop_;
  const std::string path_;
  SharedIdentity identity_;
  std::vector<Done<SharedIdentity>> waiters_;
  Timer pause_;
  std::unique_ptr<wire::Channel> channel_;
  std::unique_ptr<wire::ClientCall> stream_;
  Pending<std::unique_ptr<wire::Channel>> dialled_;
  Pending<void> sent_;
  Pending<std::optional<Bytes>> received_;
};

}  // namespace limpet
