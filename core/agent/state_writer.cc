// SPDX-License-Identifier: Apache-2.0
#include "agent/state_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <cerrno>
#include <cstring>
#include <utility>

#include "crypto/seal.h"
#include "store/agent_state.h"
#include "store/bundles.h"
#include "store/codec.h"
#include "store/entries.h"

namespace limpet::agent {

namespace {

constexpr std::string_view kFederated = "federated";  // one blob: every foreign bundle
constexpr std::string_view kSynced = "synced";
constexpr size_t kSealKeyBytes = 32;
constexpr size_t kManyRows = 64;

// After hundreds of SVIDs were made, sent, received and written, what the allocator keeps for another such burst is
// more than the SVIDs themselves; the next burst is half their life away.
void give_memory_back() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

Error file_error(const std::string& path, const char* verb) {
  return {Code::unavailable, std::string(verb) + " " + path + ": " + std::strerror(errno)};
}

Result<SecretBytes> read_seal_key(int file, const std::string& path) {
  SecretBytes key(kSealKeyBytes);
  const ssize_t got = ::read(file, key.data(), kSealKeyBytes);
  if (got < 0) return fail(file_error(path, "read"));
  if (static_cast<size_t>(got) != kSealKeyBytes)
    return fail(Code::data_loss, path + ": not 32 bytes; delete it and the stored workload keys are made anew");
  return key;
}

// Written beside and renamed: a power cut leaves either no key or a whole one.
Result<SecretBytes> make_seal_key(const std::string& path) {
  SecretBytes key(kSealKeyBytes);
  random_bytes(key.data(), kSealKeyBytes);
  const std::string next = path + ".new";
  const int file = ::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return fail(file_error(next, "create"));
  const bool written =
      ::fchmod(file, 0600) == 0 && ::write(file, key.data(), kSealKeyBytes) == kSealKeyBytes && ::fsync(file) == 0;
  const Error why = file_error(next, "write");
  ::close(file);
  if (!written) return fail(why);
  if (::rename(next.c_str(), path.c_str()) != 0) return fail(file_error(path, "rename to"));
  return key;
}

// An SVID's row: 1 chain, 2 sealed key, 3 revision_number and 4 created_at of its entry, 5 not_before, 6 not_after,
// 7 root_key_id: so that nothing needs to be parsed at start.
Result<std::unique_ptr<CachedSvid>> decode_svid(const SecretBytes& seal_key, BytesView id, BytesView row) {
  auto svid = std::make_unique<CachedSvid>();
  Bytes sealed;
  ProtoReader in(row);
  while (in.next()) {
    if (in.field() == 1) svid->chain = to_bytes(in.bytes());
    if (in.field() == 2) sealed = to_bytes(in.bytes());
    if (in.field() == 3) svid->revision_number = in.number();
    if (in.field() == 4) svid->created_at = in.number();
    if (in.field() == 5) svid->not_before = in.number();
    if (in.field() == 6) svid->not_after = in.number();
    if (in.field() == 7) svid->root_key_id = to_bytes(in.bytes());
  }
  if (!in.ok()) return malformed_row("workload SVID");
  TRY_ASSIGN(svid->key, unseal(seal_key, id, sealed));
  if (svid->chain.empty() || svid->not_after == 0) return malformed_row("workload SVID");
  return svid;
}

}  // namespace

Result<SecretBytes> load_seal_key(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return errno == ENOENT ? make_seal_key(path) : Result<SecretBytes>(fail(file_error(path, "open")));
  auto key = read_seal_key(file, path);
  ::close(file);
  return key;
}

StateWriter::StateWriter(Store& store, Logger& log, Health& health, IdentityCache& cache, TrustDomain trust_domain,
                         SecretBytes seal_key)
    : store_(store),
      log_(log),
      health_(health),
      cache_(cache),
      trust_domain_(std::move(trust_domain)),
      seal_key_(std::move(seal_key)) {}

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
  load_svids(snapshot, kept);
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

void StateWriter::load_svids(const Snapshot& snapshot, KeptState& kept) {
  auto scanned = snapshot.scan(TableId::agent_svids, {}, [&](BytesView key, BytesView row) {
    Identity* identity = cache_.find(as_text(key));
    if (identity == nullptr) return true;
    auto svid = decode_svid(seal_key_, key, row);
    if (svid)
      cache_.put_svid(*identity, std::move(*svid));
    else
      kept.lost.push_back("SVID of entry " + identity->entry.id + ": " + svid.error().message);
    return true;
  });
  if (!scanned) kept.lost.push_back("SVIDs: " + scanned.error().message);
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
  if (entries_.empty() && svids_.empty() && !bundles_ && !synced_ && time_ == 0) return;
  ChangeSet changes;
  writing_entries_ = std::exchange(entries_, {});
  writing_svids_ = std::exchange(svids_, {});
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
    return write();
  }
  tell_health(&revision.error());
  entries_.merge(writing_entries_);  // again with the next change
  svids_.merge(writing_svids_);
  writing_entries_.clear();
  writing_svids_.clear();
  bundles_ = true;
}

void StateWriter::put_svid(ChangeSet& changes, const std::string& id, const Identity* identity) const {
  if (identity == nullptr || identity->svid == nullptr) return changes.remove(TableId::agent_svids, as_bytes(id));
  const CachedSvid& svid = *identity->svid;
  auto sealed = seal(seal_key_, as_bytes(id), svid.key.view());
  if (!sealed) return;
  ProtoWriter row;
  row.bytes(1, svid.chain);
  row.bytes(2, *sealed);
  row.number(3, svid.revision_number);
  row.number(4, svid.created_at);
  row.number(5, svid.not_before);
  row.number(6, svid.not_after);
  row.bytes(7, svid.root_key_id);
  changes.put(TableId::agent_svids, as_bytes(id), row.view());
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
