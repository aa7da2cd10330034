// SPDX-License-Identifier: Apache-2.0
#include "agent/bootstrap.h"

#include <algorithm>
#include <utility>

namespace limpet::agent {

Bootstrap::Bootstrap(Loop& loop, Logger& log, Health& health, BundleSource& source, Rebootstrap mode, int64_t delay_ms,
                     BootstrapClient& client)
    : loop_(loop),
      log_(log),
      health_(health),
      source_(source),
      mode_(mode),
      delay_ms_(delay_ms),
      client_(client),
      pause_(loop) {}

void Bootstrap::start() {
  health_.report("bootstrap", HealthState::starting, "no trust bundle yet");
  get();
}

void Bootstrap::on_failure(const Error& why, bool reattestable) {
  if (!is_unknown_authority(why) || got_.armed() || pause_.running()) return;
  if (mode_ == Rebootstrap::never || (mode_ == Rebootstrap::reattestable && !reattestable)) return;
  if (since_ms_ == 0) {
    since_ms_ = std::max<int64_t>(1, loop_.now_ms());
    log_.warn("The server's authority is unknown; if that lasts, the trust bundle is fetched anew",
              {{"after_s", std::to_string(delay_ms_ / 1000)}, {"error", why.text()}});
  }
  if (loop_.now_ms() - since_ms_ < delay_ms_) return;
  since_ms_ = 0;
  again_ = true;
  get();
}

void Bootstrap::get() { source_.get(attempts_++, again_, got_.then<&Bootstrap::on_bundle>(this)); }

void Bootstrap::on_bundle(Result<Bundle> bundle) {
  if (!bundle) {
    const int64_t pause = backoff_.pause();
    log_.log(std::exchange(failing_, true) ? LogLevel::debug : LogLevel::warn,
             "The trust bundle cannot be had, trying again",
             {{"error", bundle.error().text()}, {"retry_in_ms", std::to_string(pause)}});
    health_.report("bootstrap", again_ ? HealthState::degraded : HealthState::starting, bundle.error().text());
    return pause_.start<&Bootstrap::get>(pause, this);
  }
  failing_ = false;
  backoff_.reset();
  log_.info(again_ ? "The agent begins anew with another trust bundle" : "The agent has its first trust bundle");
  health_.report("bootstrap", HealthState::ok);
  client_.on_bootstrap_bundle(*bundle, again_);
}

bool is_unknown_authority(const Error& why) {
  return why.message.find("certificate signed by unknown authority") != std::string::npos;
}

}  // namespace limpet::agent
