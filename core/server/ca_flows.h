// SPDX-License-Identifier: Apache-2.0
#pragma once
// The two conversations of the certificate authority with its key manager and the store: finding the slots again after
// a restart, and preparing a new authority. Owned by X509Ca, one at a time; loop thread.

#include "base/clock.h"
#include "server/bundle_cache.h"
#include "server/ca.h"
#include "server/ca_slot.h"
#include "server/minted_ca.h"

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

// New key, certificate signed by it or by the upstream authority, roots into the bundle and entry into the journal (one
// commit). Answers with the slot and leaves the journal with its new entry: ACTIVE when `activate` (there was no
// authority), else PREPARED. A key whose certificate could not be had stays in `spare` for the next attempt.
class PrepareCaFlow {
 public:
  struct Parts {
    Loop& loop;
    const Clock& clock;
    KeyManager& keys;
    UpstreamAuthority* upstream;  // null: self-signed
    BundleCache& bundles;
    const CaOptions& options;
    Journal& journal;
    std::optional<ManagedKey>& spare;
  };
  PrepareCaFlow(const Parts& parts, std::string slot_id, bool activate, Done<CaSlot> done)
      : parts_(parts), slot_id_(std::move(slot_id)), activate_(activate), done_(std::move(done)) {}
  void start();

 private:
  void on_key(Result<ManagedKey> key);
  void on_signed(Result<Bytes> signature);
  void on_csr_signed(Result<Bytes> signature);
  void on_minted(Result<MintedCa> minted);
  void on_checked(Result<CheckedCa> checked);
  void publish(Certificate certificate, std::vector<Bytes> chain, std::vector<Bytes> roots);
  void on_published(Result<Bundle> bundle);
  void end(Result<CaSlot> slot);
  [[nodiscard]] Journal journal_with(const CaSlot& slot) const;

  Parts parts_;
  std::string slot_id_;
  bool activate_;
  Done<CaSlot> done_;
  std::optional<ManagedKey> key_;
  int64_t issued_at_ = 0;
  Bytes tbs_;  // of the certificate, or what a CSR says
  CaSlot slot_;
  Journal new_journal_;
  Pending<ManagedKey> generated_;
  Pending<Bytes> signed_;
  Pending<MintedCa> minted_;
  Pending<CheckedCa> checked_;
  Pending<Bundle> published_;
};

}  // namespace limpet::server
