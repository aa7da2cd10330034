// SPDX-License-Identifier: Apache-2.0
#pragma once
// The keys that sign JWT-SVIDs: two slots in the key manager, a record in the store from which a restart finds them
// again, and the public halves in the own bundle before anything is signed with them. Owned by Server; loop thread.
//
// Glossary as in server/ca.h. The second slot holds the prepared key or, after an activation, the old one.

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "plugin/key_manager.h"
#include "plugin/upstream_authority.h"
#include "report/health.h"
#include "report/log.h"
#include "report/metrics.h"
#include "server/bundle_cache.h"
#include "server/jwt_claims.h"
#include "store/journal.h"
#include "store/store.h"

namespace limpet::server {

inline std::string jwt_key_id(const std::string& slot_id) { return "JWT-Signer-" + slot_id; }

struct JwtSlot {
  std::string slot_id;  // "A" or "B"
  std::string key_id;   // `kid`: 32 letters and digits
  int64_t issued_at = 0;
  int64_t not_after = 0;
  AuthorityStatus status = AuthorityStatus::unknown;
  // Owners: the slot, and each signature in flight, so that a rotation does not take the key from under it.
  std::shared_ptr<Signer> signer;
  int64_t published_at = 0;  // about when it was in the bundle
  bool known_above = false;  // the upstream authority has it, as far as this process knows
};

struct JwtRequest {
  SpiffeId id;
  std::vector<std::string> audience;
  int64_t ttl = 0;  // seconds
  bool with_token_id = false;
};
struct SignedJwt {
  std::string token;
  int64_t issued_at = 0;
  int64_t expires_at = 0;
};

struct JwtKeyOptions {
  KeyType key_type = KeyType::ec_p256;
  int64_t ttl = 24 * 3600;  // of a key, seconds
  std::string issuer;
};

class JwtKeys {
 public:
  JwtKeys(Loop& loop, const Clock& clock, Logger& logger, Health& health, Store& store, KeyManager& keys,
          BundleCache& bundles, JwtKeyOptions options, UpstreamAuthority* upstream = nullptr,
          Metrics& metrics = Metrics::none());
  ~JwtKeys();
  JwtKeys(const JwtKeys&) = delete;
  JwtKeys& operator=(const JwtKeys&) = delete;

  // Answers once a key is active; rotation then goes on by itself. After an error it may be called again.
  void start(Done<void> done);
  // Signs with the active key; the token never outlives it. UNAVAILABLE before start() answered.
  void sign(const JwtRequest& request, Done<SignedJwt> done);

  [[nodiscard]] const JwtSlot* current() const { return current_ ? &*current_ : nullptr; }
  // The slot that is not active: a prepared or an old key, or null.
  [[nodiscard]] const JwtSlot* other() const { return other_ ? &*other_ : nullptr; }
  // Makes the next key now, in place of the one in the other slot; a prepared one is gone whatever comes of it: it is
  // the first thing that is replaced. UNAVAILABLE while one is being made.
  void prepare(Done<JwtSlot> done);
  // The prepared key becomes the active one. FAILED_PRECONDITION when there is none.
  Result<void> activate();

 private:
  class PrepareFlow;
  class SignOperation;
  void on_keys(Result<std::vector<ManagedKey>> keys);
  [[nodiscard]] std::optional<JwtSlot> slot_of(const JournalJwtKey& entry, const std::vector<ManagedKey>& keys);
  void on_tick();
  void on_prepared(Result<JwtSlot> slot);
  void save_journal();
  void on_journal_saved(Result<uint64_t> saved);
  void set_status(const std::string& key_id, AuthorityStatus status);
  void tell_upstream();
  void on_told(Result<void> told);
  void on_tell_deadline();
  void on_key_answered(const Signer& signer, const Error* why);  // null: it signed
  void on_key_lost(const Error& why);
  void report(Result<void> outcome);

  Loop& loop_;
  const Clock& clock_;
  Logger& logger_;
  Health& health_;
  Store& store_;
  KeyManager& keys_;
  BundleCache& bundles_;
  JwtKeyOptions options_;
  UpstreamAuthority* upstream_;  // null: none
  Metrics& metrics_;
  int64_t prepare_ms_ = 0;  // loop time at which the one in the making was begun
  std::optional<JwtSlot> current_;
  std::optional<JwtSlot> other_;
  std::vector<JournalJwtKey> journal_;
  bool journal_dirty_ = false;
  std::string lost_;      // why the active key will never sign again; empty: it may
  std::string unusable_;  // why the last signature failed, for now; empty: it did not
  std::string untold_;    // why the upstream authority does not know the active key; empty: it does
  std::string telling_;   // the key id that it is being told
  Timer tick_;
  Timer tell_deadline_;
  std::unique_ptr<PrepareFlow> preparing_;
  Pending<std::vector<ManagedKey>> listed_;
  Pending<JwtSlot> prepared_;
  Pending<void> told_;
  Pending<uint64_t> journal_saved_;
  Done<void> started_;
  Done<JwtSlot> asked_;  // who called prepare()
  std::list<std::unique_ptr<SignOperation>> signing_;
};

}  // namespace limpet::server
