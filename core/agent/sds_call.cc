// SPDX-License-Identifier: Apache-2.0
#include "agent/sds_call.h"

#include <algorithm>
#include <array>
#include <utility>

#include "crypto/key.h"
#include "wire/message.h"

namespace limpet::agent {

namespace {
constexpr size_t kMostRefusalText = 256;  // of Envoy's reason, in the log

std::string new_nonce() {
  std::array<uint8_t, 8> random{};
  random_bytes(random.data(), random.size());
  return hex_encode(random);
}
}  // namespace

SdsCall::SdsCall(const SdsParts& parts, wire::ServerCall& call, bool once)
    : parts_(parts), call_(call), once_(once), wait_(parts.workload.loop) {}

SdsCall::~SdsCall() {
  if (audience_ != nullptr) parts_.workload.audiences.leave(*audience_, *this);
}

// 1. who it is
void SdsCall::start() {
  attest_ = std::make_unique<WorkloadAttest>(parts_.workload.loop, parts_.workload.log, parts_.workload.attestors,
                                             parts_.workload.metrics);
  attest_->start(call_.peer(), attested_.then<&SdsCall::on_attested>(this));
}

void SdsCall::on_attested(Result<SelectorSet> selectors) {
  attest_.reset();
  if (!selectors) return finish(std::unexpected(std::move(selectors).error()));
  if (auto admitted = admit_call(parts_.workload, call_, *selectors); !admitted) return finish(std::move(admitted));
  audience_ = &parts_.workload.audiences.find(std::move(*selectors));
  parts_.workload.audiences.join(*audience_, *this);
  began_ = parts_.workload.loop.now_ms();
  call_.receive(received_.then<&SdsCall::on_request>(this));
}

// 2. a request: a question, an acknowledgement, or a refusal
void SdsCall::on_request(Result<std::optional<Bytes>> request) {
  if (ended_) return;
  if (!request) return finish(std::unexpected(std::move(request).error()));
  if (!*request) return once_ ? finish(fail(Code::internal, "unary call without a request")) : finish({});
  auto message = wire::Message<Request>::decode(**request);
  if (!message) return finish(std::unexpected(std::move(message).error()));
  if ((*message)->resource_names_count > SdsApi::kMostNames)
    return finish(
        fail(Code::invalid_argument, "resource_names has more than " + std::to_string(SdsApi::kMostNames) + " names"));
  take(**message);
  if (!once_ && !ended_) call_.receive(received_.then<&SdsCall::on_request>(this));
}

void SdsCall::take(const Request& request) {
  if (!nonce_.empty() && wire::view(request.response_nonce) != nonce_) return;
  if (request.has_node) node_ = read_sds_node(request.node);
  std::set<std::string> names;
  for (const char* name : wire::items(request.resource_names, request.resource_names_count))
    if (!wire::view(name).empty()) names.emplace(wire::view(name));
  const bool same = asked_ && names == names_;
  names_ = std::move(names);
  if (!std::exchange(asked_, true)) began_ = parts_.workload.loop.now_ms();
  if (request.has_error_detail && answered_) return refused(request);
  refusals_ = 0;
  if (same && answered_ && wire::view(request.version_info) == sent_version_) return;  // it took the last response
  look();
}

// The first time at once; an Envoy that goes on refusing must not make both sides busy.
void SdsCall::refused(const Request& request) {
  parts_.workload.log.from_stranger(
      LogLevel::warn, "Envoy refused its secrets",
      {{"error", std::string(wire::view(request.error_detail.message).substr(0, kMostRefusalText))},
       {"version", sent_version_}});
  if (refusals_++ == 0) return look();
  wait_.start<&SdsCall::on_waited>(SdsApi::kRefusedPauseMs, this);
}

void SdsCall::on_view_changed() {
  version_++;
  look();
}

void SdsCall::on_waited() { look(); }

// 3. what there is for it now; again after each change
void SdsCall::look() {
  if (!asked_ || ended_) return;
  if (sending_) {
    again_ = true;
    return;
  }
  if (audience_->empty() && !answered_ && !parts_.workload.client.knows_entries())
    return wait_or(false, "the agent has not reached its server yet");
  if (!waits_for_svids()) answer();
}

// An SVID that was asked for is on its way: nothing is refused or withdrawn for that.
bool SdsCall::waits_for_svids() {
  if (audience_->missing() == 0) return false;
  parts_.workload.client.on_identity_wanted();
  if (answered_) return audience_->ready() == 0 || named_is_missing();
  const bool enough = audience_->ready() > 0 && !named_is_missing();
  const int64_t waited = parts_.workload.loop.now_ms() - began_;
  if (enough && waited >= WorkloadApi::kWaitForAllMs) return false;
  wait_or(enough, "no valid X.509-SVID yet: the agent cannot reach its server");
  return true;
}

// The default name stands for the first identity.
bool SdsCall::named_is_missing() const {
  const int64_t now = parts_.clock.now();
  const auto& identities = audience_->identities();
  const bool by_default = names_.contains(parts_.config.default_svid_name);
  return std::ranges::any_of(identities, [&](const Identity* identity) {
    return (identity->svid == nullptr || identity->svid->not_after <= now) &&
           (names_.contains(identity->entry.spiffe_id.text()) || (by_default && identity == identities.front()));
  });
}

void SdsCall::wait_or(bool enough, const char* message) {
  const int64_t waited = parts_.workload.loop.now_ms() - began_;
  const int64_t patience = (enough ? WorkloadApi::kWaitForAllMs : WorkloadApi::kWaitForAnyMs) - waited;
  if (patience <= 0) return finish(fail(Code::unavailable, message));
  wait_.start<&SdsCall::on_waited>(patience, this);
}

void SdsCall::answer() {
  wait_.stop();
  sent_version_ = once_ ? "" : std::to_string(version_);
  nonce_ = new_nonce();
  auto bytes = encode_secrets({parts_.config, names_, node_, sent_version_, nonce_}, audience_->identities(),
                              parts_.cache, parts_.trust_domain, parts_.clock.now());
  if (!bytes) return finish(std::unexpected(std::move(bytes).error()));
  answered_ = sending_ = true;
  again_ = false;
  call_.send(std::move(*bytes), sent_.then<&SdsCall::on_sent>(this), true);
}

void SdsCall::on_sent(Result<void> sent) {
  sending_ = false;
  if (!sent || once_) return finish(std::move(sent));
  if (std::exchange(again_, false)) look();
}

void SdsCall::finish(Result<void> status) {
  if (std::exchange(ended_, true)) return;
  wait_.stop();
  call_.finish(std::move(status));
}

}  // namespace limpet::agent
