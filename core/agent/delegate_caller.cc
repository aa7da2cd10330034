// SPDX-License-Identifier: Apache-2.0
#include "agent/delegate_caller.h"

#include <algorithm>
#include <utility>

namespace limpet::agent {

DelegateCaller::DelegateCaller(const DelegatedParts& parts, DelegateCallerClient& client)
    : parts_(parts), client_(client), wait_(parts.workload.loop) {}

DelegateCaller::~DelegateCaller() {
  if (audience_ != nullptr) parts_.workload.audiences.leave(*audience_, *this);
}

void DelegateCaller::start(const wire::Peer& peer, Done<void> done) {
  done_ = std::move(done);
  began_ = parts_.workload.loop.now_ms();
  attest_ = std::make_unique<WorkloadAttest>(parts_.workload.loop, parts_.workload.log, parts_.workload.attestors);
  attest_->start(peer, attested_.then<&DelegateCaller::on_attested>(this));
}

void DelegateCaller::on_attested(Result<SelectorSet> selectors) {
  attest_.reset();
  if (!selectors) return end(fail(Code::internal, "workload attestation failed"));
  audience_ = &parts_.workload.audiences.find(std::move(*selectors));
  parts_.workload.audiences.join(*audience_, *this);
  look();
}

void DelegateCaller::on_view_changed() {
  if (judged_)
    client_.on_caller_changed();
  else
    look();
}

void DelegateCaller::look() {
  const int64_t patience = WorkloadApi::kWaitForAnyMs - (parts_.workload.loop.now_ms() - began_);
  if (audience_->empty() && !parts_.workload.client.knows_entries() && patience > 0) {
    wait_.start<&DelegateCaller::look>(patience, this);
    return;
  }
  end(check());
}

Result<void> DelegateCaller::check() const {
  if (audience_ == nullptr || audience_->empty()) {
    if (!parts_.workload.client.knows_entries())
      return fail(Code::unavailable, "the agent has not reached its server yet");
    return fail(Code::permission_denied, "no identity issued");
  }
  if (std::ranges::any_of(audience_->identities(), [this](const Identity* identity) {
        return parts_.delegates.contains(identity->entry.spiffe_id.text());
      }))
    return {};
  return fail(Code::permission_denied, "caller not configured as an authorized delegate");
}

void DelegateCaller::end(Result<void> verdict) {
  wait_.stop();
  judged_ = true;
  Done<void> done = std::move(done_);
  done(std::move(verdict));
}

void log_delegate_refused(Logger& log, const wire::ServerCall& call, const Error& why) {
  if (why.code != Code::permission_denied || !call.peer().credentials) return;
  log.from_stranger(LogLevel::warn, "A caller of the Delegated Identity API was refused",
                    {{"method", std::string(call.method())},
                     {"pid", std::to_string(call.peer().credentials->pid)},
                     {"uid", std::to_string(call.peer().credentials->uid)},
                     {"error", why.message}});
}

}  // namespace limpet::agent
