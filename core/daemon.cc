// SPDX-License-Identifier: Apache-2.0
#include "daemon.h"

#include <csignal>
#include <utility>

namespace limpet {
namespace {
constexpr int64_t kStatusMs = 5'000;
}

Result<void> Daemon::follow_signals() {
  for (const int signal : {SIGINT, SIGTERM}) TRY(loop_.on_signal(signal, [this] { stop(); }));
  TRY(loop_.on_signal(SIGHUP, [this] { reload(); }));
  TRY(loop_.on_signal(SIGUSR2, [this] { reopen_logs(); }));
  if (!notify_.usable() && !roles_.empty())
    roles_.front()->logger().warn("The service manager is not told", {{"error", notify_.usable().error().text()}});
  return {};
}

int Daemon::run() {
  loop_.post([this] { start_next(); });
  loop_.run();
  return exit_code_;
}

void Daemon::start_next() {
  if (stopping_) return;
  if (started_ == roles_.size()) {
    tell_status();
    return notify_.ready();
  }
  notify_.status(std::string("Starting the ") + roles_[started_]->name());
  roles_[started_]->start(start_.then<&Daemon::on_started>(this));
}

void Daemon::on_started(Result<void> started) {
  if (!started) {
    roles_[started_]->logger().error("Fatal run error", {{"error", started.error().message}});
    exit_code_ = 1;
    notify_.status(std::string("Cannot start the ") + roles_[started_]->name() + ": " + started.error().message);
    return stop();
  }
  ++started_;
  start_next();
}

void Daemon::stop() {
  if (stopping_) return loop_.stop();  // asked twice: at once
  stopping_ = true;
  status_timer_.stop();
  notify_.stopping();
  start_.drop();
  stop_next();
}

void Daemon::stop_next() {
  if (stopped_ == roles_.size()) return loop_.stop();
  // the agent first: it needs the server, not the reverse
  roles_[roles_.size() - 1 - stopped_]->stop(stop_.then<&Daemon::on_stopped>(this));
}

void Daemon::on_stopped(Result<void>) {
  ++stopped_;
  stop_next();
}

// A bad file changes nothing.
void Daemon::reload() {
  if (stopping_) return;
  notify_.reloading();
  Config next;
  if (const auto read = reload_(next); read) {
    for (const auto& role : roles_) role->reload(next);
  } else {
    for (const auto& role : roles_) {
      role->logger().error("Configuration not reloaded, what was in force stays", {{"error", read.error().message}});
    }
  }
  if (started_ == roles_.size()) notify_.ready();
}

// "server ok, agent degraded [link: ...]", for `systemctl status`.
void Daemon::tell_status() {
  std::string text;
  for (const auto& role : roles_) {
    const Health& health = role->health();
    text += (text.empty() ? "" : ", ") + std::string(role->name());
    text += health.worst() == HealthState::ok ? " ok" : health.serving() ? " degraded" : " not serving";
    for (const auto& [part, state] : health.parts()) {
      if (state.state != HealthState::ok) text += " [" + part + ": " + state.reason + "]";
    }
  }
  notify_.status(text);
  status_timer_.start<&Daemon::tell_status>(kStatusMs, this);
}

void Daemon::reopen_logs() {
  for (const auto& role : roles_) {
    if (const auto reopened = role->logger().reopen(); !reopened) {
      role->logger().error("Log file cannot be opened anew", {{"error", reopened.error().message}});
    }
  }
}

}  // namespace limpet
