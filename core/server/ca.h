// SPDX-License-Identifier: Apache-2.0
#pragma once
// The X.509 certificate authority: self-signed, or signed by an upstream authority, with two slots A and B whose keys
// the key manager holds, and a journal in the store from which a restart finds the active slot again. Owned by Server;
// loop thread.
//
// Glossary. Authority: a CA certificate with the signer of its key. Prepared: its root is already in the bundle,
// nothing is signed with it yet. Active: signs. Old: signed once; its root stays in the bundle until it has expired.
//
// An upstream authority that cannot be reached stops nothing: what is active goes on signing, and the next authority is
// asked for again at each tick. Without any authority the first one is asked for until it comes.

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
#include "server/ca_slot.h"
#include "server/profiles.h"
#include "store/store.h"

namespace limpet::server {

struct SignedSvid {
  std::vector<Bytes> chain;  // the leaf, and the CA's upstream chain where it has one
  int64_t expires_at = 0;
  std::string serial;  // decimal
};

struct CaOptions {
  TrustDomain trust_domain;
  KeyType key_type = KeyType::ec_p256;
  int64_t ttl = 24 * 3600;  // seconds
  CaSubject subject;
};

class LoadCaFlow;
class PrepareCaFlow;

class X509Ca {
 public:
  X509Ca(Loop& loop, const Clock& clock, Logger& logger, Health& health, Store& store, KeyManager& keys,
         BundleCache& bundles, CaOptions options, UpstreamAuthority* upstream = nullptr,
         Metrics& metrics = Metrics::none());
  ~X509Ca();
  X509Ca(const X509Ca&) = delete;
  X509Ca& operator=(const X509Ca&) = delete;

  // Answers once an authority is active; rotation then goes on by itself. After an error it may be called again: the
  // key manager or the store may be away.
  void start(Done<void> done);
  // Signs with the active authority. UNAVAILABLE before start() answered and when it has expired. Whatever rotates
  // meanwhile, the certificate is signed by the authority that was active when this was called.
  void sign(SvidRequest request, Done<SignedSvid> done);
  // The same for the CA certificate of a downstream server.
  void sign_downstream(DownstreamCaRequest request, Done<SignedSvid> done);
  // Null before start() answered.
  [[nodiscard]] const Certificate* active_certificate() const {
    return current_ ? &current_->authority->certificate : nullptr;
  }
  [[nodiscard]] const CaSlot* current() const { return current_ ? &*current_ : nullptr; }
  [[nodiscard]] const CaSlot* next() const { return next_ ? &*next_ : nullptr; }
  // The one before the current, while nothing took its slot and it has not expired.
  [[nodiscard]] std::optional<JournalX509Ca> old() const;
  // Makes the next authority now, in place of a prepared one, which is gone whatever comes of it: its key is the first
  // thing that is replaced. UNAVAILABLE while one is being made.
  void prepare_now(Done<void> done);
  // The prepared authority becomes the active one. FAILED_PRECONDITION when there is none.
  Result<void> activate();
  [[nodiscard]] bool has_upstream() const { return upstream_ != nullptr; }

 private:
  class SignOperation;
  // Null, and `done` answered later, when there is no active authority.
  SignOperation* begin_signature(const char* metric, Done<SignedSvid> done);
  void on_tick();
  void on_loaded(Result<LoadedCa> loaded);
  void prepare(const std::string& slot_id);
  void on_prepared(Result<CaSlot> slot);
  void activate_next();
  void save_journal();
  void on_journal_saved(Result<uint64_t> saved);
  void prune_bundle();
  void on_pruned(Result<Bundle> pruned);
  void report(Result<void> outcome);
  [[nodiscard]] std::string free_slot() const;
  void on_key_answered(const Authority& authority, const Error* why);  // null: it signed
  [[nodiscard]] bool next_is_due(int64_t now) const;
  // Signed by itself though there is an upstream authority by now, or the reverse: to be replaced soon.
  [[nodiscard]] bool outdated(const CaSlot& slot) const {
    return slot.authority->upstream_chain.empty() == has_upstream();
  }

  Loop& loop_;
  const Clock& clock_;
  Logger& logger_;
  Health& health_;
  Store& store_;
  KeyManager& keys_;
  BundleCache& bundles_;
  CaOptions options_;
  UpstreamAuthority* upstream_;
  Metrics& metrics_;
  int64_t prepare_ms_ = 0;  // loop time at which the one in the making was begun
  int64_t prune_ms_ = 0;
  std::optional<ManagedKey> spare_key_;  // made for an authority that could not be had yet
  std::optional<CaSlot> current_;
  std::optional<CaSlot> next_;
  Journal journal_;
  bool journal_dirty_ = false;
  int failures_ = 0;
  bool key_failing_ = false;  // as health has it
  bool key_lost_ = false;     // the active authority's key will never sign again
  int64_t next_prune_ms_ = 0;
  Timer tick_;
  std::unique_ptr<LoadCaFlow> loading_;
  std::unique_ptr<PrepareCaFlow> preparing_;
  Pending<LoadedCa> loaded_;
  Pending<CaSlot> prepared_;
  Pending<uint64_t> journal_saved_;
  Pending<Bundle> pruned_;
  Done<void> started_;
  Done<void> asked_;  // who called prepare_now()
  std::list<std::unique_ptr<SignOperation>> signing_;
};

}  // namespace limpet::server
