// SPDX-License-Identifier: Apache-2.0
#include "plugin/shim_proxy.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/limits.h"

namespace limpet::shim {
namespace {

constexpr size_t kMaxUnsent = 8u << 20;      // frames for a child that does not read
constexpr size_t kMaxOps = 1024;             // as limits::kPluginQueue
constexpr size_t kLogsASecond = 100;         // more are counted and dropped
constexpr size_t kCostASecond = 20'000;      // of frames nobody asked for: one each, and one for each 4 KiB
constexpr int64_t kDeathWindowMs = 600'000;  // five deaths in ten minutes are too many
constexpr size_t kTooManyDeaths = 5;
constexpr int64_t kLongestPauseMs = 60'000;
constexpr int64_t kCalmMs = 60'000;         // after so long without a death the next pause is short again
constexpr int64_t kHoldMs = 1'000;          // a call waits for a child that comes back this soon
constexpr size_t kTimeLeftAt = kFrameHead;  // in the frame of a call

bool repeatable(Method m) {
  return m == Method::list || m == Method::sign || m == Method::attest || m == Method::payload;
}

// Which file stands there; kNoNode: none.
using Node = std::pair<dev_t, ino_t>;
constexpr Node kNoNode = {};
Node node_at(const std::string& path) {
  struct stat st = {};
  return ::stat(path.c_str(), &st) == 0 ? Node(st.st_dev, st.st_ino) : kNoNode;
}

}  // namespace

Proxy::Proxy(const limpet_host* host, const Component& component)
    : host_(*host),
      component_(component),
      settings_(component.settings()),
      rest_timer_(component.loop()),
      tick_timer_(component.loop()),
      start_timer_(component.loop()),
      grace_timer_(component.loop()) {}

Proxy::~Proxy() {
  stop_services();
  for (auto& [number, op] : ops_) {
    if (op.fd >= 0) ::close(op.fd);
  }
  if (child_ != nullptr) child_->send(FrameWriter(Method::stop, 0).finish());
}

// ---- calls ----

FrameWriter Proxy::begin(Method method) {
  while (++last_number_ == 0 || ops_.contains(last_number_) || cancelled_.contains(last_number_)) {
  }
  FrameWriter frame(method, last_number_);
  frame.i64(0);
  return frame;
}

void Proxy::call(FrameWriter&& frame, ProxyOp op) {
  const int lent_fd = std::exchange(op.fd, -1);  // the caller's: only a copy of it is ours to close
  if (!frame.good()) {
    return end(op, LIMPET_RESOURCE_EXHAUSTED,
               "an argument is larger than the " + std::to_string(kFrameBytes) +
                   " bytes that go to a plugin's process at once; isolation = \"in-process\" has no such limit");
  }
  if (ops_.size() >= kMaxOps || (child_ != nullptr && child_->unsent() > kMaxUnsent))
    return end(op, LIMPET_RESOURCE_EXHAUSTED, "too many calls are waiting for the plugin's process");
  if (phase_ == Phase::resting && pause_ms_ > kHoldMs)
    return end(op, LIMPET_UNAVAILABLE, "the plugin's process died (" + last_death_ + ") and is not back yet");
  if (lent_fd >= 0) op.fd = ::fcntl(lent_fd, F_DUPFD_CLOEXEC, 0);
  if (lent_fd >= 0 && op.fd < 0)  // the frame promises one: without it the child would take the next call's
    return end(op, LIMPET_RESOURCE_EXHAUSTED, "no descriptor is free to hand to the plugin's process");
  op.frame = std::move(frame).finish();
  const uint32_t number = last_number_;
  ProxyOp& kept = ops_.emplace(number, std::move(op)).first->second;
  if (phase_ == Phase::idle) start_child();
  if (phase_ == Phase::up) send(number, kept);
}

void Proxy::send(uint32_t number, ProxyOp& op) {
  if (op.session != nullptr) {
    if (op.session->generation == 0) op.session->generation = generation_;
    if (op.session->generation != generation_) {
      ProxyOp gone = std::move(op);
      ops_.erase(number);
      return end(gone, LIMPET_UNAVAILABLE,
                 "the attestation's session died with the plugin's process; the next attempt starts anew");
    }
  }
  if (op.op != nullptr) {
    const auto left = static_cast<uint64_t>(host_.time_left_ms(&host_, op.op));
    for (size_t i = 0; i < 8; ++i) op.frame[kTimeLeftAt + i] = static_cast<uint8_t>(left >> (8 * i));
  }
  if (op.method == Method::step || op.method == Method::mint_ca || op.method == Method::publish_bundle) tell_identity();
  op.sent = true;
  const bool again = repeatable(op.method) && !op.repeated;
  child_->send(again ? Bytes(op.frame) : std::move(op.frame), op.fd);
  if (again) return;
  op.frame.clear();
  if (op.fd >= 0) ::close(std::exchange(op.fd, -1));
}

void Proxy::end(ProxyOp& op, limpet_code code, const std::string& why) {
  if (op.fd >= 0) ::close(std::exchange(op.fd, -1));
  const limpet_status status = {sizeof(limpet_status), code, lend_text(why), 0, 0};
  if (op.op != nullptr) give_error(op, status);
}

// Ended here and now, so that an instance can be closed while its child hangs; the child has a while to end it, too.
void Proxy::cancel(limpet_op* op) {
  const auto place = std::ranges::find_if(ops_, [op](const auto& entry) { return entry.second.op == op; });
  if (place == ops_.end()) return;
  const uint32_t number = place->first;
  ProxyOp cancelled = std::move(place->second);
  ops_.erase(place);
  if (cancelled.sent && child_ != nullptr) {
    child_->send(FrameWriter(Method::cancel, number).finish());
    cancelled_[number] = now() + settings_.grace_ms;
    if (!grace_timer_.running()) grace_timer_.start<&Proxy::on_grace>(settings_.grace_ms, this);
  }
  end(cancelled, LIMPET_CANCELLED, "cancelled");
}

void Proxy::configure(limpet_op* op, const limpet_config* config, limpet_done done) {
  FrameWriter frame = begin(Method::configure);
  frame.u32(config->dry_run);
  put(frame, config->trust_domain);
  put(frame, config->json);
  if (config->dry_run == 0) {
    wanted_number_ = last_number_;
    FrameWriter again(Method::configure, 0);
    again.i64(limits::kPluginConfigureMs);
    again.u32(0);
    put(again, config->trust_domain);
    put(again, config->json);
    wanted_config_ = std::move(again).finish();
  }
  ProxyOp kept;
  kept.op = op;
  kept.done = reinterpret_cast<void (*)()>(done);
  call(std::move(frame), std::move(kept));
}

limpet_session* Proxy::open_session() {
  auto session = std::make_unique<ProxySession>();
  session->owner = this;
  while (++last_session_ == 0) {
  }
  session->number = last_session_;
  return reinterpret_cast<limpet_session*>(session.release());
}

void Proxy::close_session(ProxySession* session) {
  const std::unique_ptr<ProxySession> mine(session);
  if (child_ == nullptr || mine->generation != generation_) return;
  child_->send(FrameWriter(Method::session_close, mine->number).finish());
}

// ---- what the child says ----

void Proxy::on_frame(const Frame& frame) {
  if (phase_ == Phase::starting) return on_ready_frame(frame);
  switch (frame.method) {
    case Method::done:
      return on_done_frame(frame);
    case Method::update:
      return on_update_frame(frame);
    case Method::pong:
      if (pinged_at_ == 0) return violation("a pong without a ping");
      pinged_at_ = 0;
      return;
    case Method::log:
      return on_log_frame(frame);
    case Method::service_call:
      return on_service_call(frame);
    case Method::service_stop:
      if (unsolicited(frame.payload.size())) on_service_stop(frame.number);
      return;
    default:
      return violation("a frame of kind " + std::to_string(static_cast<unsigned>(frame.method)));
  }
}

void Proxy::violation(const std::string& what) { child_->kill("it sent " + what); }

// Frames that answer nothing are bounded; what answers something is bounded by what was asked.
bool Proxy::unsolicited(size_t bytes) {
  if (now() - window_start_ >= 1'000) new_window();
  window_cost_ += 1 + bytes / 4096;
  if (window_cost_ <= kCostASecond) return true;
  violation("a flood: more than " + std::to_string(kCostASecond) + " frames in a second that nobody asked for");
  return false;
}

void Proxy::new_window() {
  if (dropped_logs_ > 0) {
    const std::string count = std::to_string(dropped_logs_);
    log(2, "log records of a plugin were dropped: it wrote too many", {{lend_text("records"), lend_text(count)}});
  }
  window_start_ = now();
  window_cost_ = window_logs_ = dropped_logs_ = 0;
}

// The child's own words, said before there is a plugin in it that could say otherwise.
void Proxy::on_greeting(const Frame& frame) {
  std::vector<std::string> missing;
  if (!read_greeting(frame, missing)) return violation("a greeting that is not understood");
  greeted_ = generation_;
  if (std::exchange(told_missing_, true)) return;
  std::string list;
  for (const std::string& one : missing) list += (list.empty() ? "" : "; ") + one;
  if (!list.empty()) log(2, "a plugin's sandbox is not complete", {{lend_text("missing"), lend_text(list)}});
  if (settings_.health != nullptr) settings_.health->note("sandbox_missing " + component_.label(), list);
}

void Proxy::on_ready_frame(const Frame& frame) {
  FieldReader in(frame.payload);
  if (frame.method == Method::refused) {
    const auto code = static_cast<limpet_code>(in.u32());
    const std::string why(in.text());
    // of a first start only: later ones say nothing of keys and secrets, and whoever waits may not read it so
    if (!configured_ && code > 0 && code <= 16) refusal_ = code;
    return child_->kill(in.done() ? why : "it refused to start without a reason");
  }
  if (greeted_ != generation_) return on_greeting(frame);
  if (frame.method == Method::log) return on_log_frame(frame);
  if (frame.method != Method::ready) return violation("something before it was ready");
  if (!in.done()) return violation("an answer to the greeting that cannot be read");
  if (!configured_) return come_up();
  phase_ = Phase::configuring;
  ProxyOp own;
  own.sent = true;
  ops_.emplace(0, std::move(own));
  tell_identity();
  child_->send(Bytes(config_));
}

void Proxy::come_up() {
  phase_ = Phase::up;
  start_timer_.stop();
  up_since_ = now();
  pinged_at_ = 0;
  tick_timer_.start<&Proxy::on_tick>(settings_.ping_every_ms, this);
  tell_identity();
  std::vector<uint32_t> waiting;
  for (const auto& [number, op] : ops_) {
    if (!op.sent) waiting.push_back(number);
  }
  for (const uint32_t number : waiting) {
    if (const auto place = ops_.find(number); place != ops_.end()) send(number, place->second);
  }
}

void Proxy::on_done_frame(const Frame& frame) {
  if (cancelled_.erase(frame.number) > 0) return;
  const auto place = ops_.find(frame.number);
  if (place == ops_.end() || !place->second.sent)
    return violation("an answer to nothing it was asked, or a second one");
  ProxyOp op = std::move(place->second);
  ops_.erase(place);
  if (op.fd >= 0) ::close(std::exchange(op.fd, -1));
  FieldReader in(frame.payload);
  limpet_status status = {};
  const bool failed = get_status(in, status);
  if ((failed && (!in.done() || status.code < 1 || status.code > 16)) || !in.good()) {
    end(op, LIMPET_INTERNAL, "the plugin's process sent an answer that cannot be read");
    return violation("an answer that cannot be read");
  }
  if (op.op == nullptr) {  // our own configure
    if (!failed) return come_up();
    return child_->kill("it refused its configuration: " + std::string(status.message.ptr, status.message.len));
  }
  if (frame.number == wanted_number_ && op.method == Method::configure && !failed) {
    config_ = std::move(wanted_config_);
    configured_ = true;
  }
  if (failed) return give_error(op, status);
  if (give_answer(op, in)) return;
  end(op, LIMPET_INTERNAL, "the plugin's process sent an answer that cannot be read");
  violation("an answer that cannot be read");
}

void Proxy::on_update_frame(const Frame& frame) {
  if (!unsolicited(frame.payload.size()) || cancelled_.contains(frame.number)) return;
  const auto place = ops_.find(frame.number);
  if (place == ops_.end() || place->second.method != Method::watch_bundle) return violation("an update of nothing");
  FieldReader in(frame.payload);
  if (!give_update(place->second, in)) violation("an update that cannot be read");
}

void Proxy::on_log_frame(const Frame& frame) {
  if (!unsolicited(frame.payload.size())) return;
  if (++window_logs_ > kLogsASecond) {
    ++dropped_logs_;
    return;
  }
  FieldReader in(frame.payload);
  const auto level = static_cast<int32_t>(in.u32());
  const limpet_str message = get_text(in);
  const size_t count = in.count(8, 64);
  std::vector<limpet_field> fields;
  for (size_t i = 0; i < count; ++i) {
    const limpet_str key = get_text(in);
    fields.push_back({key, get_text(in)});
  }
  if (!in.done()) return violation("a log record that cannot be read");
  host_.log(&host_, level, message, fields.data(), fields.size());
}

// ---- life and death ----

void Proxy::start_child() {
  phase_ = Phase::starting;
  ++generation_;
  identity_.clear();
  if (auto same = component_.check_file(); !same) return after_death(same.error().message);
  auto started = ShimChild::start(component_.loop(), settings_.program, component_.plugin_fd(), *this);
  if (!started) return after_death(started.error().message);
  child_ = std::move(*started);
  devices_.clear();
  for (const std::string& path : settings_.devices) devices_.emplace_back(path, node_at(path));
  start_timer_.start<&Proxy::on_late_start>(settings_.start_ms, this);
  child_->send(component_.hello(offered_services()));
}

void Proxy::on_late_start() { child_->kill("it did not start in time"); }

void Proxy::on_end(std::string why) {
  child_.reset();
  after_death(why);
}

void Proxy::after_death(const std::string& why) {
  const bool counts = phase_ != Phase::idle;
  tick_timer_.stop();
  start_timer_.stop();
  grace_timer_.stop();
  cancelled_.clear();
  stop_services();
  ops_.erase(0);
  last_death_ = why;
  if (counts) ++deaths_total_;
  if (phase_ == Phase::up && now() - up_since_ >= kCalmMs) pause_ms_ = 0;
  pause_ms_ = std::clamp(pause_ms_ * 2, settings_.restart_first_ms, kLongestPauseMs);
  deaths_.push_back(now());
  // never configured: whoever starts us decides, we do not try again behind its back
  phase_ = configured_ ? Phase::resting : Phase::idle;
  const std::string pause = std::to_string(pause_ms_);
  if (configured_) {
    log(1, "a plugin's process died and is started again",
        {{lend_text("why"), lend_text(why)}, {lend_text("in_milliseconds"), lend_text(pause)}});
  }
  std::vector<ProxyOp> ended;
  for (auto place = ops_.begin(); place != ops_.end();) {
    ProxyOp& op = place->second;
    const bool again = configured_ && pause_ms_ <= kHoldMs && (!op.sent || (!op.frame.empty() && !op.repeated));
    if (again) {
      op.repeated = op.repeated || op.sent;
      op.sent = false;
      if (op.method == Method::payload && op.session != nullptr) op.session->generation = 0;
      ++place;
      continue;
    }
    ended.push_back(std::move(op));
    place = ops_.erase(place);
  }
  rest();
  const bool refused = refusal_ != LIMPET_UNAVAILABLE;
  for (ProxyOp& op : ended) end(op, refusal_, refused ? why : "the plugin's process died: " + why);
  refusal_ = LIMPET_UNAVAILABLE;
}

void Proxy::rest() {
  tell_health();
  if (phase_ == Phase::resting) rest_timer_.start<&Proxy::on_rested>(pause_ms_, this);
}

void Proxy::on_rested() { start_child(); }

void Proxy::on_tick() {
  tell_health();
  if (dropped_logs_ > 0 && now() - window_start_ >= 1'000) new_window();
  if (const std::string path = replaced_device(); !path.empty())
    return child_->kill("its device " + path + " was replaced, and only a new process may open the new one");
  if (pinged_at_ != 0) {
    // a plugin may work on its own loop as long as the call's deadline allows; one that is idle, or only watches, has
    // no excuse
    const bool works = std::ranges::any_of(ops_, [](const auto& o) { return o.second.method != Method::watch_bundle; });
    if (!works && now() - pinged_at_ >= settings_.grace_ms) return child_->kill("it does not answer");
  } else {
    pinged_at_ = std::max<int64_t>(1, now());
    tell_identity();
    child_->send(FrameWriter(Method::ping, 0).finish());
  }
  tick_timer_.start<&Proxy::on_tick>(settings_.ping_every_ms, this);
}

// A sandbox lets its process open the file that stood there at the start; a driver that was bound again, or an adapter
// that was plugged in again, has another under the same name.
std::string Proxy::replaced_device() const {
  for (const auto& [path, node] : devices_) {
    const Node there = node_at(path);
    if (there != node && there != kNoNode) return path;
  }
  return {};
}

void Proxy::on_grace() {
  int64_t next = INT64_MAX;
  for (const auto& [number, until] : cancelled_) next = std::min(next, until);
  if (next == INT64_MAX || child_ == nullptr) return;
  if (next <= now()) return child_->kill("it did not end a call that was cancelled");
  grace_timer_.start<&Proxy::on_grace>(next - now(), this);
}

void Proxy::tell_health() {
  std::erase_if(deaths_, [this](int64_t when) { return now() - when > kDeathWindowMs; });
  if (settings_.health == nullptr) return;
  const bool degraded = deaths_.size() >= kTooManyDeaths;
  if (degraded == told_degraded_ && !degraded) return;
  told_degraded_ = degraded;
  settings_.health->report("plugin " + component_.label(), degraded ? HealthState::degraded : HealthState::ok,
                           degraded ? "its process died " + std::to_string(deaths_.size()) +
                                          " times in ten minutes, the last time: " + last_death_
                                    : "");
}

void Proxy::log(int32_t level, std::string_view message, std::initializer_list<limpet_field> fields) {
  host_.log(&host_, level, lend_text(message), fields.begin(), fields.size());
}

}  // namespace limpet::shim
