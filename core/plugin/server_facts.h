// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a server tells its plugins of itself: behind the host services limpet.agent-store/1, limpet.enrollment/1 and
// limpet.identity/1. The server implements the lookups and publishes into an IdentityBoard; tests use fakes.

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "loop/done.h"
#include "spiffe/bundle.h"

namespace limpet {

struct KnownAgent {
  std::string id;
  std::string attestation_type;
  bool banned = false;
};

// Loop thread only.
class AgentLookup {
 public:
  virtual ~AgentLookup() = default;
  // NOT_FOUND: no agent of this ID has attested.
  virtual void find(const std::string& id, Done<KnownAgent> done) = 0;
};

struct KnownDevice {
  bool enrolled = false;
  std::string note;
  int64_t enrolled_at = 0;  // Unix seconds
};

// Loop thread only.
class DeviceLookup {
 public:
  virtual ~DeviceLookup() = default;
  // `attestor` is the node attestor's name; a device that nobody enrolled is no error.
  virtual void find(const std::string& attestor, const std::string& identifier, Done<KnownDevice> done) = 0;
};

struct PublicIdentity {
  Bundle bundle;            // the server's own
  std::vector<Bytes> svid;  // DER, leaf first; empty while there is none
};

// The newest identity. Written on the loop, read on any thread. Owned by main, it outlives server and plugins.
class IdentityBoard {
 public:
  using Shared = std::shared_ptr<const PublicIdentity>;  // owners: the board, and readers on plugin threads
  void put(Shared identity) {
    const std::lock_guard lock(mutex_);
    identity_ = std::move(identity);
  }
  // Null: there is none yet.
  [[nodiscard]] Shared get() const {
    const std::lock_guard lock(mutex_);
    return identity_;
  }

 private:
  mutable std::mutex mutex_;
  Shared identity_;
};

}  // namespace limpet
