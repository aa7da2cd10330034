// SPDX-License-Identifier: Apache-2.0
#include "agent/cache_key.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "agent/svid_row.h"
#include "base/errno_text.h"
#include "base/sync_directory.h"
#include "crypto/key.h"

namespace limpet::agent {

namespace {

constexpr size_t kSealKeyBytes = 32;
constexpr std::string_view kContext = "limpet agent cache key 1";

Error file_error(const std::string& path, const char* verb) {
  return {Code::unavailable, std::string(verb) + " " + path + ": " + errno_text(errno)};
}

Result<SecretBytes> read_seal_key(int file, const std::string& path) {
  SecretBytes key(kSealKeyBytes);
  const ssize_t got = ::read(file, key.data(), kSealKeyBytes);
  if (got < 0) return fail(file_error(path, "read"));
  if (static_cast<size_t>(got) != kSealKeyBytes)
    return fail(Code::data_loss, path + ": not 32 bytes; delete it and the stored workload keys are made anew");
  return key;
}

SecretBytes random_key() {
  SecretBytes key(kSealKeyBytes);
  random_bytes(key.data(), kSealKeyBytes);
  return key;
}

// Written beside and renamed: a power cut leaves either no key or a whole one.
Result<SecretBytes> make_seal_key(const std::string& path) {
  SecretBytes key = random_key();
  const std::string next = path + ".new";
  const int file = ::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return fail(file_error(next, "create"));
  const bool written =
      ::fchmod(file, 0600) == 0 && ::write(file, key.data(), kSealKeyBytes) == kSealKeyBytes && ::fsync(file) == 0;
  const Error why = file_error(next, "write");
  ::close(file);
  if (!written) return fail(why);
  if (::rename(next.c_str(), path.c_str()) != 0) return fail(file_error(path, "rename to"));
  sync_directory_of(path);  // before the store has a row under this key
  return key;
}

// nullopt: there is no such file.
Result<std::optional<SecretBytes>> find_seal_key(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0 && errno == ENOENT) return std::nullopt;
  if (file < 0) return fail(file_error(path, "open"));
  auto key = read_seal_key(file, path);
  ::close(file);
  if (!key) return fail(std::move(key).error());
  return std::optional(std::move(*key));
}

}  // namespace

Result<SecretBytes> load_seal_key(const std::string& path) {
  TRY_ASSIGN(std::optional<SecretBytes> found, find_seal_key(path));
  if (found) return std::move(*found);
  return make_seal_key(path);
}

CacheKey::CacheKey(CacheKeyParts parts) : parts_(std::move(parts)), timer_(parts_.loop) {}

Result<void> CacheKey::start() {
  if (auto current = read_sealed_key(parts_.store.read()))
    current_ = std::move(*current);
  else
    parts_.log.error("The sealed key of the agent's cache cannot be read", {{"error", current.error().text()}});
  if (parts_.sealer != nullptr) {
    find_candidates();
    next();
    return {};
  }
  TRY_ASSIGN(key_, load_seal_key(parts_.key_file));
  if (current_) lost_ = "the sealer \"" + current_->sealer + "\" has it, and none is configured";
  next();
  return {};
}

void CacheKey::find_candidates() {
  auto file = find_seal_key(parts_.key_file);
  if (!file) parts_.log.error("The cache's key file is left alone", {{"error", file.error().text()}});
  file_spent_ = file && file->has_value();
  if (file_spent_ && !current_) {
    from_file_ = std::move(*file);
    return;
  }
  const std::string& name = parts_.sealer->name();
  if (current_ && current_->sealer == name) candidates_.push_back({0, *current_});
  if (current_ && current_->sealer != name)
    lost_ = "the sealer \"" + current_->sealer + "\" has it, and the configuration names \"" + name + "\"";
  for (KeyAside& aside : read_keys_aside(parts_.store.read()))
    if (aside.key.sealer == name) candidates_.push_back(std::move(aside));
}

void CacheKey::next() {
  if (!key_.empty()) return write();
  if (at_ < candidates_.size()) {
    return parts_.sealer->unseal(candidates_[at_].key.blob, to_bytes(as_bytes(kContext)),
                                 unsealed_.then<&CacheKey::on_unsealed>(this));
  }
  fresh_ = random_key();
  parts_.sealer->seal(fresh_.clone(), to_bytes(as_bytes(kContext)), sealed_.then<&CacheKey::on_sealed>(this));
}

// Only an answer that says "never" counts as one.
void CacheKey::on_unsealed(Result<SecretBytes> key) {
  if (key && key->size() != kSealKeyBytes)
    key = fail(Code::failed_precondition, "what the sealer opened is no key of 32 bytes");
  if (!key && key.error().code != Code::failed_precondition) return retry(key.error());
  if (!key) {
    if (candidates_[at_].number == 0) lost_ = key.error().message;
    ++at_;
    return next();
  }
  key_ = std::move(*key);
  next();
}

void CacheKey::on_sealed(Result<Bytes> blob) {
  if (!blob) return retry(blob.error());
  key_ = std::move(fresh_);
  next_key_ = SealedKey{parts_.sealer->name(), std::move(*blob)};
  next();
}

void CacheKey::write() {
  ChangeSet changes;
  if (const auto collected = collect(changes); !collected) return retry(collected.error());
  if (changes.empty()) return finish();
  parts_.store.commit(std::move(changes), written_.then<&CacheKey::on_written>(this));
}

// One change set: after a power cut the rows are of the old key or of the new one.
Result<void> CacheKey::collect(ChangeSet& changes) {
  const KeyAside* opened = at_ < candidates_.size() ? &candidates_[at_] : nullptr;
  if (opened != nullptr && opened->number == 0) return {};
  const Snapshot snapshot = parts_.store.read();
  if (current_) {
    TRY_ASSIGN(rows_aside_, set_aside(snapshot, changes, *current_, opened != nullptr ? opened->number : 0));
    remove_sealed_key(changes);
  } else if (from_file_) {
    TRY(seal_rows_anew(snapshot, changes));
  }
  if (opened != nullptr) {
    TRY_ASSIGN(rows_back_, take_back(snapshot, changes, *opened));
    put_sealed_key(changes, opened->key);
  }
  if (next_key_) put_sealed_key(changes, *next_key_);
  return {};
}

// A row that the file's key does not open stays as it is: it is reported when the rows are read.
Result<void> CacheKey::seal_rows_anew(const Snapshot& snapshot, ChangeSet& changes) {
  return snapshot.scan(TableId::agent_svids, {}, [&](BytesView id, BytesView row) {
    const auto svid = decode_svid_row(*from_file_, id, row);
    if (!svid) return true;
    if (auto fresh = encode_svid_row(key_, id, **svid)) changes.put(TableId::agent_svids, id, *fresh);
    return true;
  });
}

void CacheKey::on_written(Result<uint64_t> revision) {
  if (!revision) return retry(revision.error());
  finish();
}

void CacheKey::finish() {
  const std::string rows = std::to_string(rows_aside_);
  if (rows_back_ > 0)
    parts_.log.info("Cached SVIDs that were kept aside are back", {{"count", std::to_string(rows_back_)}});
  if (rows_aside_ > 0) {
    parts_.log.error("Cached SVIDs cannot be opened; they are kept aside until they can, and others are asked for",
                     {{"count", rows}, {"sealer", current_->sealer}, {"error", lost_}});
  }
  if (rows_aside_ > 0 && rows_back_ == 0) {
    parts_.health.report("sealer", HealthState::degraded, "cached SVIDs (" + rows + ") cannot be opened: " + lost_);
  } else {
    lost_.clear();
    if (parts_.sealer != nullptr) parts_.health.report("sealer", HealthState::ok);
  }
  if (file_spent_ && ::unlink(parts_.key_file.c_str()) == 0)
    parts_.log.info("The cache's key file gave way to the sealer", {{"file", parts_.key_file}});
  from_file_.reset();
  parts_.client.on_cache_key(std::move(key_));
}

void CacheKey::on_rebuilt() {
  if (lost_.empty()) return;
  lost_.clear();
  parts_.health.report("sealer", HealthState::ok);
}

void CacheKey::retry(const Error& why) {
  const int64_t pause = backoff_.pause();
  parts_.log.log(away_ ? LogLevel::debug : LogLevel::warn, "The key of the agent's cache cannot be had, trying again",
                 {{"error", why.text()}, {"retry_in_ms", std::to_string(pause)}});
  parts_.health.report("sealer", HealthState::degraded, why.text());
  timer_.start<&CacheKey::next>(pause, this);
  if (!std::exchange(away_, true)) parts_.client.on_cache_key_away();
}

}  // namespace limpet::agent
