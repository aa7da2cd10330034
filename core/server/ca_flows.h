// SPDX-License-Identifier: Apache-2.0
#pragma once
// The two conversations of the certificate authority with its key manager and the store: finding the slots again after
// a restart, and preparing a new authority. Owned by X509Ca, one at a time; loop thread.

#include "base/clock.h"
#include "server/bundle_cache.h"
#include "server/ca.h"
#include "server/ca_slot.h"

namespace limpet::server {

class LoadCaFlow {
 public:
  LoadCaFlow(const Clock& clock, Store& store, KeyManager& keys, Done<LoadedCa> done)
      : clock_(clock), store_(store), keys_(keys), done_(std::move(done)) {}
  void start();

 private:
  void on_keys(Result<std::vector<ManagedKey>> keys);
  // The slot of a journal entry, if it is still valid and the key manager has its key.
  [[nodiscard]] std::optional<CaSlot> slot_of(const JournalX509Ca& entry, const std::vector<ManagedKey>& keys) const;

  const Clock& clock_;
  Store& store_;
  KeyManager& keys_;
  Done<LoadedCa> done_;
  Pending<std::vector<ManagedKey>> listed_;
};

// New key, self-signed certificate, root into the bundle and entry into the journal (one commit). Answers with the slot
// and leaves the journal with its new entry: ACTIVE when `activate` (there was no authority), else PREPARED.
class PrepareCaFlow {
 public:
  PrepareCaFlow(const Clock& clock, KeyManager& keys, BundleCache& bundles, const CaOptions& options, Journal& journal,
                std::string slot_id, bool activate, Done<CaSlot> done)
      : clock_(clock),
        keys_(keys),
        bundles_(bundles),
        options_(options),
        journal_(journal),
        slot_id_(std::move(slot_id)),
        activate_(activate),
        done_(std::move(done)) {}
  void start();

 private:
  void on_key(Result<ManagedKey> key);
  void on_signed(Result<Bytes> signature);
  void on_published(Result<Bundle> bundle);
  void end(Result<CaSlot> slot);
  [[nodiscard]] Journal journal_with(const CaSlot& slot) const;

  const Clock& clock_;
  KeyManager& keys_;
  BundleCache& bundles_;
  const CaOptions& options_;
  Journal& journal_;
  std::string slot_id_;
  bool activate_;
  Done<CaSlot> done_;
  std::optional<ManagedKey> key_;
  int64_t issued_at_ = 0;
  Bytes tbs_;
  CaSlot slot_;
  Journal new_journal_;
  Pending<ManagedKey> generated_;
  Pending<Bytes> signed_;
  Pending<Bundle> published_;
};

}  // namespace limpet::server
