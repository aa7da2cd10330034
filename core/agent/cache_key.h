// SPDX-License-Identifier: Apache-2.0
#pragma once
// The key that wraps the workloads' keys on disk. Without a sealer it stands in a file (0600). With one, the sealer
// keeps it: the store holds what only this machine or token can open. A key that cannot be opened costs the cached
// SVIDs, which are made anew under another key; the old ones are set aside with their key and taken back when their
// sealer is. A sealer that does not answer is asked again for ever; meanwhile the agent does without what is on disk.
// Owned by the Agent; loop thread only.

#include <optional>
#include <string>
#include <vector>

#include "base/secret.h"
#include "loop/backoff.h"
#include "loop/loop.h"
#include "plugin/sealer.h"
#include "report/health.h"
#include "report/log.h"
#include "store/agent_seals.h"

namespace limpet::agent {

class CacheKeyClient {
 public:
  virtual ~CacheKeyClient() = default;
  // The rows of agent_svids are of this key. Once; without a sealer within start().
  virtual void on_cache_key(SecretBytes key) = 0;
  // It takes longer. Perhaps for ever.
  virtual void on_cache_key_away() = 0;
};

// The key in `path`: 32 bytes, made once, mode 0600. UNAVAILABLE names the file.
Result<SecretBytes> load_seal_key(const std::string& path);

struct CacheKeyParts {
  Loop& loop;
  Store& store;
  Logger& log;
  Health& health;
  Sealer* sealer;        // nullptr: the key is in the file
  std::string key_file;  // "<data_dir>/seal.key"
  CacheKeyClient& client;
};

class CacheKey {
 public:
  explicit CacheKey(CacheKeyParts parts);
  // Fails only for what an operator must mend: a file that cannot be read or made.
  Result<void> start();
  // There are new SVIDs in the place of those that were lost.
  void on_rebuilt();

 private:
  void find_candidates();
  void next();
  void on_unsealed(Result<SecretBytes> key);
  void on_sealed(Result<Bytes> blob);
  void write();
  Result<void> collect(ChangeSet& changes);
  Result<void> seal_rows_anew(const Snapshot& snapshot, ChangeSet& changes);
  void on_written(Result<uint64_t> revision);
  void finish();
  void retry(const Error& why);

  CacheKeyParts parts_;
  std::optional<SealedKey> current_;
  std::optional<SecretBytes> from_file_;  // the key so far, where a sealer is new
  bool file_spent_ = false;               // a sealer has taken its place
  std::vector<KeyAside> candidates_;      // number 0: the current one
  size_t at_ = 0;
  std::string lost_;                   // why the current one cannot be opened
  SecretBytes fresh_;                  // a new key, being sealed
  SecretBytes key_;                    // what the rows are of, once it is written
  std::optional<SealedKey> next_key_;  // a new one, to be written
  size_t rows_aside_ = 0;
  size_t rows_back_ = 0;
  bool away_ = false;
  Backoff backoff_{1'000, 60'000};
  Timer timer_;
  Pending<SecretBytes> unsealed_;
  Pending<Bytes> sealed_;
  Pending<uint64_t> written_;
};

}  // namespace limpet::agent
