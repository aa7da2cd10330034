// SPDX-License-Identifier: Apache-2.0
#pragma once
// One instance of the unix workload attestor: configuration, what it remembers, and the thread for what may take long.
// Called on the loop, except where [thread] is said. The thread starts with the first job and ends with this object.

#include <limpet_plugin.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "workload_attestor_unix/digest.h"
#include "workload_attestor_unix/names.h"
#include "workload_attestor_unix/process.h"

namespace limpet::workload_attestor_unix {

struct Settings {
  bool discover_workload_path = false;
  int64_t workload_size_limit = 0;  // bytes; 0: no limit, negative: no hash
};

class UnixAttestor {
 public:
  UnixAttestor() = default;
  ~UnixAttestor();
  UnixAttestor(const UnixAttestor&) = delete;
  UnixAttestor& operator=(const UnixAttestor&) = delete;

  Result<void> configure(const limpet_config& config);
  // Answers at once when everything asked for is remembered (the usual case), else from the thread.
  void attest(limpet_op* op, const limpet_workload& workload, limpet_selectors_done done);
  void cancel(const limpet_op* op);

 private:
  struct Job {
    limpet_op* op = nullptr;
    limpet_selectors_done done = nullptr;
    Process process;
    bool with_hash = false;
    std::string digest;
    std::atomic<bool> cancelled{false};
  };
  Result<void> prepare(const limpet_workload& workload, Job& job);
  bool all_remembered(const Job& job, std::vector<std::string>& out);
  void enqueue(std::unique_ptr<Job> job);
  void thread_main();                               // [thread]
  Result<std::vector<std::string>> work(Job& job);  // [thread]
  template <class Name>
  std::vector<std::string> selectors(const Job& job, Name name);

  Settings settings_;
  Names names_;
  Digests digests_;

  std::thread thread_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Job>> jobs_;
  Job* current_ = nullptr;
  bool stopping_ = false;
};

}  // namespace limpet::workload_attestor_unix
