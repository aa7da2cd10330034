// SPDX-License-Identifier: Apache-2.0
#pragma once
// Asks limpet.enrollment/1 from a BLOCKING plugin's own thread: posts to the loop, waits there for the answer, and is
// woken by the plugin's cancel. One question at a time, as such a plugin has one call at a time. Member of the
// instance.

#include <limpet_plugin.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>

#include "base/result.h"

namespace limpet::kit {

class EnrollmentLookup {
 public:
  explicit EnrollmentLookup(const limpet_host* host);
  EnrollmentLookup(const EnrollmentLookup&) = delete;
  EnrollmentLookup& operator=(const EnrollmentLookup&) = delete;

  [[nodiscard]] bool offered() const { return service_ != nullptr; }
  // Plugin's thread: the call that the next questions belong to.
  void begin(const limpet_op* op);
  // Plugin's thread. CANCELLED, or what the host says; RESOURCE_EXHAUSTED when it has too many questions.
  Result<bool> enrolled(const std::string& identifier);
  // Loop thread: ends this call's question.
  void cancel(const limpet_op* op);

 private:
  static void on_loop(void* arg);
  static void on_answer(void* arg, const limpet_status* err, const limpet_enrollment* found);
  void start();
  void answer(Result<bool> result);

  const limpet_host* host_;
  const limpet_enrollment_service* service_;
  uint32_t call_ = 0;  // loop thread
  std::mutex mutex_;
  std::condition_variable wake_;
  std::string identifier_;
  const limpet_op* op_ = nullptr;
  bool cancelled_ = false;
  std::optional<Result<bool>> result_;
};

}  // namespace limpet::kit
