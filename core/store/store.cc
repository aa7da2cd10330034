// SPDX-License-Identifier: Apache-2.0
#include "store/store.h"

#include <algorithm>
#include <utility>

#include "store/engine.h"

namespace limpet {

void ChangeSet::put(TableId table, BytesView key, BytesView value) {
  bytes_ += key.size() + value.size();
  operations_.push_back({table, false, to_bytes(key), to_bytes(value)});
}
void ChangeSet::remove(TableId table, BytesView key) {
  bytes_ += key.size();
  operations_.push_back({table, true, to_bytes(key), {}});
}
void ChangeSet::require_absent(TableId table, BytesView key) {
  bytes_ += key.size();
  preconditions_.push_back({table, to_bytes(key), Precondition::Kind::absent, {}});
}
void ChangeSet::require_present(TableId table, BytesView key) {
  bytes_ += key.size();
  preconditions_.push_back({table, to_bytes(key), Precondition::Kind::present, {}});
}
void ChangeSet::require_equal(TableId table, BytesView key, BytesView value) {
  bytes_ += key.size() + value.size();
  preconditions_.push_back({table, to_bytes(key), Precondition::Kind::equals, to_bytes(value)});
}

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() { impl_->close(); }

Result<std::unique_ptr<Store>> Store::open(Loop& loop, StoreOptions options) {
  TRY_ASSIGN_WITHIN("store", StoreFile file, open_store_file(options));
  auto impl = std::make_unique<Impl>(loop, std::move(file), options);
  impl->start();
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

void Store::commit(ChangeSet changes, Done<uint64_t> done) { impl_->commit(std::move(changes), std::move(done)); }
void Store::subscribe(StoreObserver& observer) { impl_->observers.push_back(&observer); }
void Store::unsubscribe(StoreObserver& observer) { std::ranges::replace(impl_->observers, &observer, nullptr); }
const std::string& Store::damage() const { return impl_->file.damage; }
bool Store::read_only() const { return impl_->read_only; }
void Store::settle() { impl_->settle(); }

Store::Impl::Impl(Loop& loop_, StoreFile file_, const StoreOptions& options)
    : loop(loop_), file(std::move(file_)), link(std::make_shared<Link>(this)) {
  committer = std::make_unique<LocalCommitter>(file.env.get(), file.tables, options.path, options.log_keep);
  if (options.wrap_committer) committer = options.wrap_committer(std::move(committer));
}

Store::Impl::~Impl() {
  for (MDB_txn* txn : idle_readers) mdb_txn_abort(txn);
}

void Store::Impl::start() { writer = std::thread(&Impl::write, this); }

// ---- on the loop ----

void Store::Impl::commit(ChangeSet changes, Done<uint64_t> done) {
  std::unique_lock lock(mutex);
  const bool full = waiting.size() >= kWaitingSets || waiting_bytes + changes.bytes() > kWaitingBytes;
  if (closing || full) {
    lock.unlock();
    Error error = closing ? Error{Code::cancelled, "store: closing"}
                          : Error{Code::resource_exhausted,
                                  "store: too many change sets are waiting for the disk: try again later"};
    loop.post(
        [answer = std::move(done), why = std::move(error)]() mutable { answer(std::unexpected(std::move(why))); });
    return;
  }
  waiting_bytes += changes.bytes();
  waiting.push_back(std::move(changes));
  dones.push_back(std::move(done));
  lock.unlock();
  wake.notify_one();
}

void Store::Impl::take_committed() {
  std::lock_guard lock(mutex);
  posted = false;
  std::ranges::move(committed, std::back_inserter(outcomes));
  committed.clear();
}

// Tells observers, then the one who waits. Either may destroy the store, which then delivers the rest itself.
void Store::Impl::deliver(const std::shared_ptr<Link>& alive) {
  if (alive->impl == nullptr) return;
  Impl* self = alive->impl;
  self->take_committed();
  while (alive->impl != nullptr && !self->outcomes.empty()) {
    Committer::Outcome outcome = std::move(self->outcomes.front());
    self->outcomes.pop_front();
    Done<uint64_t> done = std::move(self->dones.front());
    self->dones.pop_front();
    for (size_t i = 0; outcome.revision && alive->impl != nullptr && i < self->observers.size(); ++i) {
      if (self->observers[i] != nullptr) self->observers[i]->on_commit(*outcome.revision, outcome.changes);
    }
    if (alive->impl != nullptr) std::erase(self->observers, nullptr);
    done(std::move(outcome.revision));
  }
}

void Store::Impl::close() {
  {
    std::lock_guard lock(mutex);
    closing = true;
  }
  wake.notify_all();
  if (writer.joinable()) writer.join();
  link->impl = nullptr;
  take_committed();
  // what is on disk is answered as such, the rest was never tried
  while (!dones.empty()) {
    Done<uint64_t> done = std::move(dones.front());
    dones.pop_front();
    if (outcomes.empty()) {
      done(fail(Code::cancelled, "store: closed before the change set was written"));
      continue;
    }
    Result<uint64_t> revision = std::move(outcomes.front().revision);
    outcomes.pop_front();
    done(std::move(revision));
  }
}

void Store::Impl::settle() {
  std::unique_lock lock(mutex);
  idle.wait(lock, [this] { return waiting.empty() && !writing; });
}

// ---- on the writer thread ----

std::vector<ChangeSet> Store::Impl::take_group() {
  std::unique_lock lock(mutex);
  wake.wait(lock, [this] { return closing || !waiting.empty(); });
  std::vector<ChangeSet> group;
  size_t bytes = 0;
  while (!closing && !waiting.empty() && group.size() < kGroupSets && bytes < kGroupBytes) {
    bytes += waiting.front().bytes();
    group.push_back(std::move(waiting.front()));
    waiting.pop_front();
  }
  waiting_bytes -= bytes;
  writing = !group.empty();
  return group;
}

void Store::Impl::note_disk(const std::vector<Committer::Outcome>& group) {
  for (const Committer::Outcome& outcome : group) {
    if (outcome.revision) {
      read_only = false;
    } else if (outcome.revision.error().code == Code::resource_exhausted ||
               outcome.revision.error().code == Code::unavailable) {
      read_only = true;
    }
  }
}

void Store::Impl::write() {
  for (std::vector<ChangeSet> group = take_group(); !group.empty(); group = take_group()) {
    std::vector<Committer::Outcome> done = committer->commit(group);
    done.resize(group.size(), {fail(Code::internal, "store: the committer gave no answer"), {}});
    note_disk(done);
    std::lock_guard lock(mutex);
    std::ranges::move(done, std::back_inserter(committed));
    // posted before idle is told, so that settle() returns with the answer on the loop
    if (!std::exchange(posted, true)) loop.post([alive = link] { deliver(alive); });
    writing = false;
    idle.notify_all();
  }
  std::lock_guard lock(mutex);
  writing = false;
  idle.notify_all();
}

}  // namespace limpet
