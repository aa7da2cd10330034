// SPDX-License-Identifier: Apache-2.0
// The parts of an op that do not depend on its result.
#include "plugin/op.h"

#include "base/limits.h"
#include "plugin/instance.h"

void limpet_op::begin_answer(const void* result_kind) {
  if (kind != result_kind) owner->misuse("answered an operation with another call's done");
  if (state.exchange(State::finished) != State::running) owner->misuse("called done twice for one operation");
}

void limpet_op::check_running(const void* result_kind) {
  if (kind != result_kind) owner->misuse("gave an operation another call's update");
  if (state != State::running) owner->misuse("called update after done");
}

void limpet_op::end_answer() { owner->op_answered(this); }

void limpet_op::on_deadline() { owner->op_late(*this); }

limpet::Error limpet_op::error_of(const limpet_status& status) const {
  limpet::Error error{limpet::Code::unknown, "the plugin reported an error without a code"};
  if (!LIMPET_HAS(&status, limpet_status, message)) return std::move(error).within(owner->label());
  if (status.code > 0 && status.code <= 16) {
    error.code = static_cast<limpet::Code>(status.code);
    error.message = limpet::code_name(error.code);
  }
  if (status.message.ptr != nullptr && status.message.len > 0) {
    error.message.assign(status.message.ptr, std::min(status.message.len, limpet::limits::kPluginTextBytes));
  }
  return std::move(error).within(owner->label());
}
