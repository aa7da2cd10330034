// SPDX-License-Identifier: Apache-2.0
#include "agent/state_writer.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <utility>

#include "agent/svid_row.h"
#include "store/agent_state.h"
#include "store/bundles.h"
#include "store/codec.h"
#include "store/entries.h"

namespace limpet::agent {

namespace {

constexpr std::string_view kFederated = "federated";  // one blob: every foreign bundle
constexpr std::string_view kSynced = "synced";
constexpr size_t kManyRows = 64;

// After hundreds of SVIDs were made, sent, received and written, what the allocator keeps for another such burst is
// more than the SVIDs themselves; the next burst is half their life away.
void give_memory_back() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace

StateWriter::StateWriter(Store& store, Logger& log, Health& health, IdentityCache& cache, TrustDomain trust_domain)
    : store_(store), log_(log), health_(health), cache_(cache), trust_domain_(std::move(trust_domain)) {}

KeptState StateWriter::load() {
  KeptState kept;
  const Snapshot snapshot = store_.read();
  if (auto svid = read_agent_svid(snapshot))
    kept.svid = std::move(*svid);
  else
    kept.lost.push_back("agent SVID: " + svid.error().message);
  if (auto time = read_agent_time(snapshot)) kept.time = *time;
  if (auto synced = read_agent_blob(snapshot, kSynced)) kept.synced = synced->has_value();
  load_bundles(snapshot, kept);
  load_entries(snapshot, kept);
  health_.report("store", store_.damage().empty() ? HealthState::ok : HealthState::degraded, store_.damage());
  return kept;
}

void StateWriter::load_bundles(const Snapshot& snapshot, KeptState& kept) {
  if (auto bundle = read_agent_bundle(snapshot))
    kept.bundle = std::move(*bundle);
  else
    kept.lost.push_back("trust bundle: " + bundle.error().message);
  if (kept.bundle) cache_.put_bundle(*kept.bundle);
  auto blob = read_agent_blob(snapshot, kFederated);
  if (!blob || !blob->has_value()) return;
  ProtoReader in(**blob);
  while (in.next()) {
    if (in.field() != 1) continue;
    if (auto bundle = decode_bundle(in.bytes())) cache_.put_bundle(std::move(*bundle));
  }
}

void StateWriter::load_entries(const Snapshot& snapshot, KeptState& kept) {
  auto scanned = snapshot.scan(TableId::agent_entries, {}, [&](BytesView key, BytesView row) {
    auto entry = decode_entry(row);
    if (entry)
      cache_.put_entry(std::move(*entry));
    else
      kept.lost.push_back("entry " + std::string(as_text(key)) + ": " + entry.error().message);
    return true;
  });
  if (!scanned) kept.lost.push_back("entries: " + scanned.error().message);
}

// What the server signed meanwhile is newer than what the store holds.
std::vector<std::string> StateWriter::unlock(SecretBytes seal_key) {
  std::vector<std::string> lost;
  seal_key_ = std::move(seal_key);
  auto scanned = store_.read().scan(TableId::agent_svids, {}, [&](BytesView key, BytesView row) {
    Identity* identity = cache_.find(as_text(key));
    if (identity == nullptr || identity->svid != nullptr) return true;
    auto svid = decode_svid_row(seal_key_, key, row);
    if (svid)
      cache_.put_svid(*identity, std::move(*svid));
    else
      lost.push_back("SVID of entry " + identity->entry.id + ": " + svid.error().message);
    return true;
  });
  if (!scanned) lost.push_back("SVIDs: " + scanned.error().message);
  write();
  return lost;
}

// ---- writing ----
void StateWriter::save_identity(const AgentSvid& svid, const Bundle& bundle, Done<void> done) {
  identity_done_ = std::move(done);
  ChangeSet changes;
  put_agent_svid(changes, svid);
  if (!bundle.trust_domain.empty()) put_agent_bundle(changes, bundle);
  store_.commit(std::move(changes), identity_written_.then<&StateWriter::on_identity_written>(this));
}

void StateWriter::on_identity_written(Result<uint64_t> revision) {
  if (!revision) tell_health(&revision.error());
  Done<void> done = std::move(identity_done_);
  if (!revision)
    done(fail(std::move(revision).error()));
  else
    done({});
  on_settled();
}

void StateWriter::save_entries(std::set<std::string> ids) {
  entries_.merge(ids);
  write();
}

void StateWriter::save_svids(const std::vector<std::string>& ids) {
  svids_.insert(ids.begin(), ids.end());
  write();
}

void StateWriter::save_bundles() {
  bundles_ = true;
  write();
}

void StateWriter::save_time(int64_t unix_seconds) {
  time_ = unix_seconds;
  write();
}

void StateWriter::save_synced() {
  synced_ = true;
  write();
}

// One change set in flight; what comes meanwhile goes into the next.
void StateWriter::write() {
  if (written_.armed()) return;
  const bool locked = seal_key_.empty();  // SVIDs wait for the key
  if (entries_.empty() && (svids_.empty() || locked) && !bundles_ && !synced_ && time_ == 0) return;
  ChangeSet changes;
  writing_entries_ = std::exchange(entries_, {});
  if (!locked) writing_svids_ = std::exchange(svids_, {});
  for (const std::string& id : writing_entries_) {
    const Identity* identity = cache_.find(id);
    if (identity != nullptr)
      changes.put(TableId::agent_entries, as_bytes(id), encode_entry(identity->entry));
    else
      changes.remove(TableId::agent_entries, as_bytes(id));
    if (identity == nullptr) changes.remove(TableId::agent_svids, as_bytes(id));
  }
  for (const std::string& id : writing_svids_) put_svid(changes, id, cache_.find(id));
  if (std::exchange(bundles_, false)) put_bundles(changes);
  if (std::exchange(synced_, false)) put_agent_blob(changes, kSynced, as_bytes("1"));
  if (time_ != 0) put_agent_time(changes, std::exchange(time_, 0));
  store_.commit(std::move(changes), written_.then<&StateWriter::on_written>(this));
}

void StateWriter::on_written(Result<uint64_t> revision) {
  if (revision) {
    const bool many = writing_entries_.size() + writing_svids_.size() >= kManyRows;
    writing_entries_.clear();
    writing_svids_.clear();
    if (broken_) tell_health(nullptr);
    if (many) give_memory_back();
    write();
    return on_settled();
  }
  tell_health(&revision.error());
  entries_.merge(writing_entries_);  // again with the next change
  svids_.merge(writing_svids_);
  writing_entries_.clear();
  writing_svids_.clear();
  bundles_ = true;
  on_settled();
}

void StateWriter::on_settled() {
  if (!settled()) return;
  Done<void> done = std::move(settled_);
  done({});
}

void StateWriter::put_svid(ChangeSet& changes, const std::string& id, const Identity* identity) const {
  if (identity == nullptr || identity->svid == nullptr) return changes.remove(TableId::agent_svids, as_bytes(id));
  if (auto row = encode_svid_row(seal_key_, as_bytes(id), *identity->svid))
    changes.put(TableId::agent_svids, as_bytes(id), *row);
}

void StateWriter::put_bundles(ChangeSet& changes) const {
  ProtoWriter federated;
  for (const auto& [name, cached] : cache_.bundles()) {
    if (name == trust_domain_.name())
      put_agent_bundle(changes, cached.bundle);
    else
      federated.item(1, encode_bundle(cached.bundle));
  }
  put_agent_blob(changes, kFederated, federated.view());
}

void StateWriter::tell_health(const Error* trouble) {
  if (trouble == nullptr) {
    broken_ = false;
    log_.info("The store takes writes again");
    return health_.report("store", HealthState::ok);
  }
  if (!std::exchange(broken_, true))
    log_.error("The agent's state could not be stored, serving goes on from memory", {{"error", trouble->text()}});
  health_.report("store", HealthState::degraded, trouble->text());
}

}  // namespace limpet::agent
