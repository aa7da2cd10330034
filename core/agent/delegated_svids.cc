// SPDX-License-Identifier: Apache-2.0
#include "agent/delegated_svids.h"

#include <utility>

#include "agent/delegated_messages.h"

namespace limpet::agent {

DelegatedSvids::DelegatedSvids(const DelegatedParts& parts, wire::ServerCall& call)
    : parts_(parts), call_(call), caller_(parts, *this), target_(parts.workload), wait_(parts.workload.loop) {}

DelegatedSvids::~DelegatedSvids() {
  if (audience_ != nullptr) parts_.workload.audiences.leave(*audience_, *this);
}

void DelegatedSvids::start() { call_.receive(received_.then<&DelegatedSvids::on_request>(this)); }

// 1. the request; who asks comes before what it says
void DelegatedSvids::on_request(Result<std::optional<Bytes>> bytes) {
  if (!bytes) return finish(std::move(bytes).error());
  if (!*bytes) return finish({Code::internal, "the call has no request"});
  auto request = wire::Message<Request>::decode(**bytes);
  if (!request) return finish(std::move(request).error());
  request_ = std::move(*request);
  caller_.start(call_.peer(), admitted_.then<&DelegatedSvids::on_admitted>(this));
}

// 2. a delegate, or not
void DelegatedSvids::on_admitted(Result<void> verdict) {
  if (!verdict) return finish(std::move(verdict).error());
  target_.start(wire::items(request_->selectors, request_->selectors_count), request_->pid,
                resolved_.then<&DelegatedSvids::on_target>(this));
}

// 3. for whom it asks
void DelegatedSvids::on_target(Result<SelectorSet> selectors) {
  if (ended_) return;
  if (!selectors) return finish(std::move(selectors).error());
  audience_ = &parts_.workload.audiences.find(std::move(*selectors));
  parts_.workload.audiences.join(*audience_, *this);
  began_ = parts_.workload.loop.now_ms();
  look();
}

void DelegatedSvids::on_view_changed() { look(); }

void DelegatedSvids::on_caller_changed() {
  if (auto verdict = caller_.check(); !verdict) finish(std::move(verdict).error());
}

// 4. what there is for them now; again after each change. Nothing to give is an answer, too.
void DelegatedSvids::look() {
  if (ended_) return;
  if (auto verdict = caller_.check(); !verdict) return finish(std::move(verdict).error());
  if (sending_)
    changed_ = true;
  else if (!waits())
    answer();
}

// A new entry's SVID is on its way: wait for it, but not for long when there are others to give.
bool DelegatedSvids::waits() {
  size_t ready = 0;
  size_t missing = 0;
  for (const Identity* identity : audience_->identities()) {
    if (!may_be_delegated(*identity)) continue;
    const bool valid = identity->svid != nullptr && identity->svid->not_after > parts_.workload.clock.now();
    (valid ? ready : missing)++;
  }
  if (missing == 0) return false;
  parts_.workload.client.on_identity_wanted();
  if (answered_) return ready == 0;  // expired, to be renewed: the delegate keeps what it has
  const int64_t waited = parts_.workload.loop.now_ms() - began_;
  if (ready > 0 && waited >= WorkloadApi::kWaitForAllMs) return false;
  wait_or_end(ready > 0);
  return true;
}

void DelegatedSvids::wait_or_end(bool enough) {
  const int64_t waited = parts_.workload.loop.now_ms() - began_;
  const int64_t patience = (enough ? WorkloadApi::kWaitForAllMs : WorkloadApi::kWaitForAnyMs) - waited;
  if (patience <= 0) return finish({Code::unavailable, "no valid X.509-SVID yet: the agent cannot reach its server"});
  wait_.start<&DelegatedSvids::look>(patience, this);
}

void DelegatedSvids::answer() {
  wait_.stop();
  auto bytes = encode_delegated_svids(audience_->identities(), parts_.workload.audiences.cache(),
                                      parts_.workload.audiences.trust_domain(), parts_.workload.clock.now());
  if (!bytes) return finish(std::move(bytes).error());
  answered_ = sending_ = true;
  changed_ = false;
  call_.send(std::move(*bytes), sent_.then<&DelegatedSvids::on_sent>(this), true);
}

void DelegatedSvids::on_sent(Result<void> sent) {
  sending_ = false;
  if (!sent) return finish(std::move(sent).error());
  if (std::exchange(changed_, false)) look();
}

void DelegatedSvids::finish(Error error) {
  if (std::exchange(ended_, true)) return;
  wait_.stop();
  log_delegate_refused(parts_.workload.log, call_, error);
  call_.finish(fail(std::move(error)));
}

}  // namespace limpet::agent
