// SPDX-License-Identifier: Apache-2.0
#pragma once
// Attestors as the core sees them, whatever stands behind: a static plugin, a loaded one, or a fake in a test. The
// facades over the ABI tables implement these (plugin/node_attestor.cc, plugin/workload_attestor.cc). Loop thread only.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "loop/done.h"

namespace limpet {

// ---- node attestation, agent half: one session per attempt ----
class NodeAttestorAgentSession {
 public:
  virtual ~NodeAttestorAgentSession() = default;
  virtual void payload(Done<Bytes> done) = 0;
  virtual void answer(Bytes challenge, Done<Bytes> done) = 0;
};
class NodeAttestorAgent {
 public:
  virtual ~NodeAttestorAgent() = default;
  [[nodiscard]] virtual const std::string& name() const = 0;  // the attestation type
  virtual std::unique_ptr<NodeAttestorAgentSession> open() = 0;
};

// ---- node attestation, server half ----
struct AttestStep {
  bool attested = false;
  Bytes challenge;                     // when not attested
  std::string agent_path;              // "/spire/agent/<type>/..."
  std::vector<std::string> selectors;  // values; the type is the attestor's name
  bool can_reattest = false;
};
class NodeAttestorServerSession {
 public:
  virtual ~NodeAttestorServerSession() = default;
  virtual void step(Bytes from_agent, Done<AttestStep> done) = 0;
};
class NodeAttestorServer {
 public:
  virtual ~NodeAttestorServer() = default;
  [[nodiscard]] virtual const std::string& name() const = 0;
  virtual std::unique_ptr<NodeAttestorServerSession> open(const std::string& peer_ip) = 0;
};

// ---- workload attestation ----
struct WorkloadReference {
  int32_t pid = -1;
  int32_t pidfd = -1;  // borrowed
  uint32_t uid = 0;
  uint32_t gid = 0;
};
class WorkloadAttestor {
 public:
  virtual ~WorkloadAttestor() = default;
  [[nodiscard]] virtual const std::string& name() const = 0;                                        // the selector type
  virtual void attest(const WorkloadReference& workload, Done<std::vector<std::string>> done) = 0;  // selector values
};

}  // namespace limpet
