// SPDX-License-Identifier: Apache-2.0
#include "agent/workload_stream.h"

#include <functional>
#include <string_view>
#include <utility>

#include "base/secret.h"
#include "proto/workload.pb.h"
#include "wire/message.h"

namespace limpet::agent {

WorkloadStream::WorkloadStream(const WorkloadApiParts& parts, wire::ServerCall& call, Kind kind)
    : parts_(parts), call_(call), kind_(kind), wait_(parts.loop) {}

WorkloadStream::~WorkloadStream() {
  if (audience_ != nullptr) parts_.audiences.leave(*audience_, *this);
}

// 1. the header comes before everything
void WorkloadStream::start() {
  if (auto header = check_security_header(call_.metadata()); !header) return finish(std::move(header).error());
  began_ = parts_.loop.now_ms();
  call_.receive(received_.then<&WorkloadStream::on_request>(this));
}

// 2. the request: all are empty messages, so that it only has to be one, within the bounds
void WorkloadStream::on_request(Result<std::optional<Bytes>> request) {
  if (!request) return finish(std::move(request).error());
  if (!*request) return finish({Code::internal, "the call has no request"});
  if (auto message = wire::Message<X509SVIDRequest>::decode(**request); !message)
    return finish(std::move(message).error());
  attest_ = std::make_unique<WorkloadAttest>(parts_.loop, parts_.log, parts_.attestors, parts_.metrics);
  attest_->start(call_.peer(), attested_.then<&WorkloadStream::on_attested>(this));
}

// 3. who it is
void WorkloadStream::on_attested(Result<SelectorSet> selectors) {
  attest_.reset();
  if (!selectors) return finish(std::move(selectors).error());
  if (auto admitted = admit_call(parts_, call_, *selectors); !admitted) return finish(std::move(admitted).error());
  audience_ = &parts_.audiences.find(std::move(*selectors));
  parts_.audiences.join(*audience_, *this);
  look();
}

void WorkloadStream::on_view_changed() {
  if (sending_)
    changed_ = true;
  else if (!ended_)
    look();
}

void WorkloadStream::on_waited() { look(); }

// 4. what there is for it now; again after each change
void WorkloadStream::look() {
  if (audience_->empty()) {
    if (kind_ != Kind::svids && parts_.allow_unauthenticated_verifiers) return send_bundles();
    if (!answered_ && !parts_.client.knows_entries())
      return wait_or(false, Code::unavailable, "the agent has not reached its server yet");
    return finish({Code::permission_denied, "no identity issued"});
  }
  if (kind_ == Kind::svids) return look_for_svids();
  send_bundles();
}

void WorkloadStream::send_bundles() {
  send(kind_ == Kind::bundles ? audience_->bundles() : audience_->jwt_bundles(), false);
}

// A new entry's SVID is on its way: wait for it rather than deny, but not for long when there are others to give.
void WorkloadStream::look_for_svids() {
  if (audience_->missing() > 0) parts_.client.on_identity_wanted();
  if (answered_ && audience_->ready() == 0) return;  // expired, to be renewed: the workload keeps what it has
  const int64_t waited = parts_.loop.now_ms() - began_;
  if (!answered_ && audience_->missing() > 0 && (audience_->ready() == 0 || waited < WorkloadApi::kWaitForAllMs))
    return wait_or(audience_->ready() > 0, Code::unavailable,
                   "no valid X.509-SVID yet: the agent cannot reach its server");
  send(audience_->svids(), true);
}

// Looks again when something changes, at the latest when the patience is over; then it ends with this error.
void WorkloadStream::wait_or(bool enough, Code code, const char* message) {
  const int64_t waited = parts_.loop.now_ms() - began_;
  const int64_t patience = (enough ? WorkloadApi::kWaitForAllMs : WorkloadApi::kWaitForAnyMs) - waited;
  if (patience <= 0) return finish({code, message});
  wait_.start<&WorkloadStream::on_waited>(patience, this);
}

void WorkloadStream::send(const Bytes& message, bool secret) {
  wait_.stop();
  if (kind_ != Kind::svids) {
    const uint64_t hash = std::hash<std::string_view>{}(as_text(message)) | 1;
    if (hash == last_hash_) return;  // byte-identical updates are not sent
    last_hash_ = hash;
  }
  answered_ = sending_ = true;
  changed_ = false;
  call_.send(message, sent_.then<&WorkloadStream::on_sent>(this), secret);
}

void WorkloadStream::on_sent(Result<void> sent) {
  sending_ = false;
  if (!sent) return finish(std::move(sent).error());
  if (std::exchange(changed_, false)) look();
}

void WorkloadStream::finish(Error error) {
  if (std::exchange(ended_, true)) return;
  wait_.stop();
  if (error.code == Code::permission_denied && call_.peer().credentials)
    parts_.log.from_stranger(LogLevel::info, "No identity issued",
                             {{"pid", std::to_string(call_.peer().credentials->pid)},
                              {"uid", std::to_string(call_.peer().credentials->uid)}});
  call_.finish(fail(std::move(error)));
}

}  // namespace limpet::agent
