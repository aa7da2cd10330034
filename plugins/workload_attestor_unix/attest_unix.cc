// SPDX-License-Identifier: Apache-2.0
// The unix workload attestor's work.
#include "workload_attestor_unix/attest_unix.h"

#include <sys/stat.h>

#include "kit/kit.h"

namespace limpet::workload_attestor_unix {
namespace {

constexpr size_t kMaxJobs = 256;

}  // namespace

UnixAttestor::~UnixAttestor() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Result<void> UnixAttestor::configure(const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  Settings read;
  read.discover_workload_path = reader.flag("discover_workload_path", false);
  read.workload_size_limit = reader.number("workload_size_limit", 0);
  TRY(reader.finish());
  if (config.dry_run == 0) settings_ = read;
  return {};
}

// Reads the process, and checks the size of its executable.
Result<void> UnixAttestor::prepare(const limpet_workload& w, Job& job) {
  job.with_hash = settings_.discover_workload_path && settings_.workload_size_limit >= 0;
  TRY_ASSIGN(job.process, read_process(w.pid, w.pidfd, settings_.discover_workload_path, job.with_hash));
  // a process that connected and then ran a set-user-ID file is not the one that asked
  if (job.process.uid != w.uid || job.process.gid != w.gid)
    return fail(Code::permission_denied, "process " + std::to_string(w.pid) + " has changed its user or group");
  if (!job.with_hash) return {};
  struct stat file = {};
  if (::fstat(job.process.executable.get(), &file) != 0)
    return fail(Code::internal, "the executable cannot be examined");
  if (settings_.workload_size_limit > 0 && file.st_size > settings_.workload_size_limit) {
    return fail(Code::resource_exhausted, "workload " + job.process.path + ": size " + std::to_string(file.st_size) +
                                              " exceeds limit " + std::to_string(settings_.workload_size_limit) +
                                              " (workload_size_limit)");
  }
  digests_.recall(file, job.digest);
  return {};
}

// Numbers and names in SPIRE's order. A name the system does not know is left out; so is a path that is not UTF-8,
// since no registration entry can hold it.
template <class Name>
std::vector<std::string> UnixAttestor::selectors(const Job& job, Name name) {
  const Process& p = job.process;
  std::vector<std::string> out;
  const auto add = [&](NameKind kind, uint32_t id, const char* number_key, const char* name_key) {
    out.push_back(number_key + std::to_string(id));
    if (std::string text = name(kind, id); !text.empty()) out.push_back(name_key + text);
  };
  add(NameKind::user, p.uid, "uid:", "user:");
  add(NameKind::group, p.gid, "gid:", "group:");
  for (const gid_t group : p.groups) add(NameKind::group, group, "supplementary_gid:", "supplementary_group:");
  if (!p.path.empty() && is_utf8(p.path)) out.push_back("path:" + p.path);
  if (!job.digest.empty()) out.push_back("sha256:" + job.digest);
  return out;
}

bool UnixAttestor::all_remembered(const Job& job, std::vector<std::string>& out) {
  if (job.with_hash && job.digest.empty()) return false;
  bool known = true;
  out = selectors(job, [&](NameKind kind, uint32_t id) {
    std::string name;
    known = known && names_.recall(kind, id, name);
    return name;
  });
  return known;
}

void UnixAttestor::attest(limpet_op* op, const limpet_workload& w, limpet_selectors_done done) {
  if (w.reference_type.len > 0) return done(op, nullptr, {});  // attested by reference, not by pid: not ours
  auto job = std::make_unique<Job>();
  job->op = op;
  job->done = done;
  if (auto ready = prepare(w, *job); !ready) return kit::end(op, done, fail(std::move(ready).error()));
  std::vector<std::string> out;
  if (all_remembered(*job, out)) return kit::end(op, done, std::move(out));
  enqueue(std::move(job));
}

void UnixAttestor::enqueue(std::unique_ptr<Job> job) {
  std::unique_lock lock(mutex_);
  if (jobs_.size() >= kMaxJobs) {
    lock.unlock();
    return kit::end(job->op, job->done,
                    fail(Code::resource_exhausted, "256 workloads are waiting to be attested already"));
  }
  jobs_.push_back(std::move(job));
  if (!thread_.joinable()) thread_ = std::thread([this] { thread_main(); });
  wake_.notify_one();
}

void UnixAttestor::cancel(const limpet_op* op) {
  const std::lock_guard lock(mutex_);
  if (current_ != nullptr && current_->op == op) current_->cancelled = true;
  for (const auto& job : jobs_) {
    if (job->op == op) job->cancelled = true;
  }
}

void UnixAttestor::thread_main() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const std::unique_ptr<Job> job = std::move(jobs_.front());
    jobs_.pop_front();
    current_ = job.get();
    lock.unlock();
    const auto result = work(*job);
    lock.lock();
    current_ = nullptr;  // before done: the op's address may be another's afterwards
    lock.unlock();
    kit::end(job->op, job->done, result);
    lock.lock();
  }
}

Result<std::vector<std::string>> UnixAttestor::work(Job& job) {
  if (job.cancelled) return fail(Code::cancelled, "the attestation was cancelled");
  if (job.with_hash && job.digest.empty()) {
    TRY_ASSIGN_WITHIN("workload " + job.process.path, job.digest,
                      digests_.hash(job.process.executable.get(), job.cancelled));
  }
  return selectors(job, [this](NameKind kind, uint32_t id) { return names_.resolve(kind, id); });
}

}  // namespace limpet::workload_attestor_unix
