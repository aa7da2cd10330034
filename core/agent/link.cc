// SPDX-License-Identifier: Apache-2.0
#include "agent/link.h"

#include <utility>

namespace limpet::agent {

Link::Link(Loop& loop, Dialer& dialer, ServerTrust& trust, Health& health, Logger& log, LinkClient& client)
    : loop_(loop), dialer_(dialer), trust_(trust), health_(health), log_(log), client_(client), pause_(loop) {}

void Link::refresh() {
  channel_.reset();
  seen_ = Seen::nothing;
  backoff_.reset();
  pause_.stop();
  if (dialled_.armed())
    stale_dial_ = true;
  else
    dial();
}

void Link::acquire(Done<SharedChannel> done) {
  if (channel_ != nullptr && channel_->usable()) {
    loop_.post([channel = channel_, d = std::move(done)]() mutable { d(std::move(channel)); });
    return;
  }
  if (pause_.running() || trust_.credential() == nullptr) {
    const Error why =
        trust_.credential() == nullptr ? Error{Code::unavailable, "the agent has no SVID yet"} : last_error_;
    loop_.post([why, d = std::move(done)]() mutable { d(fail(why)); });
    return;
  }
  waiters_.push_back(std::move(done));
  if (!dialled_.armed()) dial();
}

void Link::failed(const wire::Channel* channel, const Error& why) {
  if (channel_ == nullptr || channel != channel_.get()) return;
  if (channel_->usable() && why.code != Code::unavailable && why.code != Code::deadline_exceeded) return;
  last_error_ = why;
  channel_.reset();
  if (!dialled_.armed() && !pause_.running()) dial();
}

void Link::dial() {
  if (trust_.credential() == nullptr) return;
  channel_.reset();
  stale_dial_ = false;
  dialer_.dial(trust_.authenticated(), dialled_.then<&Link::on_dialled>(this));
}

void Link::on_dialled(Result<std::unique_ptr<wire::Channel>> channel) {
  if (stale_dial_) return dial();
  if (!channel) {
    last_error_ = std::move(channel).error();
    // TLS only knows that it could not sign: why, and that it was not the network, the key's manager said
    const auto& credential = trust_.credential();
    const auto no_signature = credential == nullptr ? std::nullopt : credential->take_key_failure();
    if (no_signature) {
      last_error_ = Error(*no_signature).within("sign with the agent's key");
      health_.report("key", HealthState::degraded, no_signature->text());
      key_failed_ = true;
    }
    health_.report("link", HealthState::degraded, last_error_.text());
    if (std::exchange(seen_, Seen::down) != Seen::down)
      log_.warn("Cannot reach the server, dialling again until it answers", {{"error", last_error_.text()}});
    pause_.start<&Link::on_pause_over>(backoff_.pause(), this);
    answer_waiters();
    // for good: the key was made by another TPM, was replaced, or is gone
    if (no_signature && (no_signature->code == Code::failed_precondition || no_signature->code == Code::not_found)) {
      client_.on_key_lost(*no_signature);
    }
    return client_.on_dial_failed(last_error_);
  }
  backoff_.reset();
  channel_ = std::move(*channel);
  health_.report("link", HealthState::ok);
  if (std::exchange(key_failed_, false)) health_.report("key", HealthState::ok);
  const bool first = std::exchange(seen_, Seen::up) != Seen::up;
  if (first) log_.debug("Connected to the server");
  answer_waiters();
  if (first) client_.on_link_up();
}

void Link::on_pause_over() { dial(); }

void Link::answer_waiters() {
  std::vector<Done<SharedChannel>> waiters = std::move(waiters_);
  waiters_.clear();
  for (Done<SharedChannel>& waiter : waiters) {
    if (channel_ != nullptr)
      waiter(channel_);
    else
      waiter(fail(last_error_));
  }
}

}  // namespace limpet::agent
