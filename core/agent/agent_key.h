// SPDX-License-Identifier: Apache-2.0
#pragma once
// Makes a new key for the agent in its key manager, and the CSR for it: always P-256, subject C=US, O=SPIRE, no SAN, as
// SPIRE's agent does. A member of the flow that asks; loop thread only.

#include "loop/done.h"
#include "plugin/key_manager.h"

namespace limpet::agent {

// The two key slots take turns, so that the key in use is never the one being replaced.
inline constexpr const char* kKeyA = "agent-svid-A";
inline constexpr const char* kKeyB = "agent-svid-B";
inline const char* other_key(std::string_view id) { return id == kKeyA ? kKeyB : kKeyA; }

struct KeyAndCsr {
  ManagedKey key;
  Bytes csr;  // DER
};

class NewAgentKey {
 public:
  explicit NewAgentKey(KeyManager& keys) : keys_(keys) {}
  void start(const std::string& id, Done<KeyAndCsr> done);

 private:
  void on_generated(Result<ManagedKey> key);
  void on_signed(Result<Bytes> signature);

  KeyManager& keys_;
  ManagedKey key_;
  Bytes info_;
  Done<KeyAndCsr> done_;
  Pending<ManagedKey> generated_;
  Pending<Bytes> signed_;
};

}  // namespace limpet::agent
