// SPDX-License-Identifier: Apache-2.0
#pragma once
// An answer that is waited for: hands out the Done, turns the loop until it came. Loop thread, outside of run().

#include "loop/uv_loop.h"

namespace limpet::test {

template <class T>
class Awaited {
 public:
  explicit Awaited(UvLoop& loop) : loop_(loop) {}
  Done<T> done() { return pending_.template then<&Awaited::on_answer>(this); }
  // INTERNAL "no answer" when the loop had nothing left to do.
  Result<T> get() {
    if (answers_ == 0) loop_.run();
    return std::move(result_);
  }
  [[nodiscard]] int answers() const { return answers_; }

 private:
  void on_answer(Result<T> result) {
    result_ = std::move(result);
    ++answers_;
    loop_.stop();
  }
  UvLoop& loop_;
  Pending<T> pending_;
  Result<T> result_ = fail(Code::internal, "no answer");
  int answers_ = 0;
};

}  // namespace limpet::test
