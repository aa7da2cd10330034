// SPDX-License-Identifier: Apache-2.0
#pragma once
// The systemd workload attestor's work: which unit a process belongs to, asked of the service manager. The instance is
// BLOCKING: everything but cancel() runs on its own thread, one call after the other.

#include <limpet_plugin.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "workload_attestor_systemd/bus.h"

namespace limpet::workload_attestor_systemd {

class SystemdAttestor {
 public:
  explicit SystemdAttestor(const limpet_host* host);

  Result<void> configure(const limpet_config& config);
  void attest(limpet_op* op, const limpet_workload& workload, limpet_selectors_done done);
  void cancel(const limpet_op* op);  // loop thread

 private:
  using Selectors = std::vector<std::string>;
  struct Unit {
    std::string path;  // of the D-Bus object
    std::string id;
  };

  Result<Selectors> selectors(const limpet_workload& workload, int64_t left_ms);
  BusResult<Selectors> ask(const limpet_workload& workload, Bus::Time deadline);
  BusResult<Unit> find_unit(const limpet_workload& workload, Bus::Time deadline);
  BusResult<std::string> find_by_pidfd(int pidfd, Bus::Time deadline);
  BusResult<std::string> find_by_pid(uint32_t pid, Bus::Time deadline);
  BusResult<std::string> text_property(const std::string& path, const char* interface, const char* name, size_t limit,
                                       Bus::Time deadline);
  BusResult<std::string> invocation_id(const std::string& path, Bus::Time deadline);
  BusResult<MessagePtr> property(const std::string& path, const char* interface, const char* name, Bus::Time deadline);

  Result<Selectors> too_late(int64_t left_ms);
  Result<Selectors> conclude(BusError error, pid_t pid, int64_t left_ms);
  void note_present();
  void note_absent(const std::string& why);

  static constexpr int64_t kDefaultTimeoutMs = 5'000;  // for one workload, all questions together
  static constexpr int64_t kMostTimeoutMs = 9'000;     // the host gives 10 s, in which it waits for others, too
  const limpet_host* host_;
  std::unique_ptr<Bus> bus_;
  std::string address_;
  int64_t timeout_ms_ = kDefaultTimeoutMs;
  bool by_pidfd_ = true;  // until the manager says it does not know how
  enum class Presence { unknown, absent, present } presence_ = Presence::unknown;
  Bus::Time silent_until_ = {};  // the bus did not answer in timeout_ms_: not asked again before

  std::mutex mutex_;  // guards current_, and bus_ against cancel()
  const limpet_op* current_ = nullptr;
};

}  // namespace limpet::workload_attestor_systemd
