// SPDX-License-Identifier: Apache-2.0
// The ways a call takes.
#include "plugin_check/subject.h"

#include <algorithm>

namespace limpet::check {

Kind kind_of(std::string_view id) {
  static constexpr std::pair<std::string_view, Kind> kKinds[] = {{LIMPET_WORKLOAD_ATTESTOR, Kind::workload},
                                                                 {LIMPET_KEY_MANAGER, Kind::key_manager},
                                                                 {LIMPET_NODE_ATTESTOR_AGENT, Kind::agent},
                                                                 {LIMPET_NODE_ATTESTOR_SERVER, Kind::server},
                                                                 {LIMPET_SEALER, Kind::sealer},
                                                                 {LIMPET_UPSTREAM_AUTHORITY, Kind::upstream},
                                                                 {LIMPET_BUNDLE_PUBLISHER, Kind::publisher}};
  for (const auto& [name, kind] : kKinds) {
    if (name == id) return kind;
  }
  return Kind::unknown;
}

// The host side is not freed with the subject: what a plugin does with it afterwards must be seen, not crash.
Subject::Subject(Bench& bench, const limpet_component& component, Offer offer)
    : bench_(bench), component_(component), host_(bench.new_host(offer, component)) {}

Subject::~Subject() { destroy(); }

limpet_code Subject::create() {
  const limpet_code code = component_.create(host_.raw(), &raw_);
  if (code != LIMPET_OK) raw_ = nullptr;
  if (code == LIMPET_OK && raw_ == nullptr) return LIMPET_INTERNAL;
  return code;
}

bool Subject::destroy() {
  if (raw_ == nullptr) return true;
  for (Op* op : mine_) {
    if (!op->ready) cancel(*op);
  }
  const bool ended = bench_.run_until(
      [this] {
        pump();
        return std::ranges::all_of(mine_, [](const Op* op) { return op->dones > 0 && op->returned; });
      },
      5'000);
  if (!ended) {
    if (thread_.joinable()) thread_.detach();
    raw_ = nullptr;  // abandoned, as the real host would
    return false;
  }
  while (!conversations_.empty()) close(conversations_.front());
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  host_.close();
  component_.destroy(std::exchange(raw_, nullptr));
  mine_.clear();
  return true;
}

Op& Subject::configure(const std::string& json, bool dry_run, const std::string& trust_domain, CallOptions options) {
  return start(
      Answer::plain,
      [this, json, dry_run, trust_domain](limpet_instance* self, Op& op) {
        const limpet_config config = {sizeof config, dry_run ? 1u : 0u, op.loan.text(trust_domain), op.loan.text(json)};
        component_.configure(self, op.raw(), op.loan.value(config), &done_plain);
      },
      options);
}

Op& Subject::start(Answer answer, Call call, CallOptions options) {
  Op& op = bench_.new_op(host_, answer, options.sheltered);
  if (options.deadline_ms != CallOptions::kUnlimited)
    op.deadline = Clock::now() + std::chrono::milliseconds(options.deadline_ms);
  mine_.push_back(&op);
  enqueue({&op, std::move(call), {}});
  return op;
}

void Subject::enqueue(Job job) {
  if (!blocking()) {
    if (!serial()) return run(job);
    jobs_.push_back(std::move(job));
    return pump();
  }
  const std::lock_guard lock(mutex_);
  jobs_.push_back(std::move(job));
  if (!thread_.joinable()) thread_ = std::thread([this] { thread_main(); });
  wake_.notify_one();
}

void Subject::run(Job& job) {
  if (job.op == nullptr) return job.chore(raw_);
  const auto before = Clock::now();
  job.call(raw_, *job.op);
  const auto held = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - before).count();
  if (blocking()) {
    if (job.op->dones == 0) bench_.note(Flaw::late_return, "a BLOCKING call returned without having called done");
  } else {
    holds_ms_[job.op] = held;
  }
  job.op->loan.call_returned();
  job.op->returned = true;
}

void Subject::pump() {
  while (serial() && !blocking() && !jobs_.empty() && (current_ == nullptr || current_->ready)) {
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    current_ = job.op;
    run(job);
  }
}

void Subject::thread_main() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    if (new_threads_) {
      std::thread([this, &job] { run(job); }).join();
    } else {
      run(job);
    }
    lock.lock();
  }
}

void Subject::chore(std::function<void(limpet_instance*)> work) {
  if (!blocking()) return work(raw_);
  auto finished = std::make_shared<std::atomic<bool>>(false);
  enqueue({nullptr, {}, [work = std::move(work), finished](limpet_instance* self) {
             work(self);
             *finished = true;
           }});
  bench_.run_until([&] { return finished->load(); }, 20'000);
}

bool Subject::wait(const Op& op, int64_t ms) {
  return bench_.run_until(
      [&] {
        pump();
        return op.ready && op.returned;
      },
      ms);
}

void Subject::cancel(Op& op) {
  if (component_.cancel != nullptr && raw_ != nullptr) component_.cancel(raw_, op.raw());
}

Conversation& Subject::converse() { return conversations_.emplace_back(); }

void Subject::close(Conversation& conversation) {
  if (conversation.session != nullptr) {
    chore([this, session = conversation.session](limpet_instance*) {
      if (kind() == Kind::agent) {
        table<limpet_node_attestor_agent>().close(session);
      } else {
        table<limpet_node_attestor_server>().close(session);
      }
    });
  }
  std::erase_if(conversations_, [&](const Conversation& c) { return &c == &conversation; });
}

int64_t Subject::held_ms(const Op& op) const {
  const auto place = holds_ms_.find(&op);
  return place == holds_ms_.end() ? 0 : place->second;
}

}  // namespace limpet::check
