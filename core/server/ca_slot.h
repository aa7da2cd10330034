// SPDX-License-Identifier: Apache-2.0
#pragma once
// One slot of the certificate authority, when it is due to be replaced, and the journal that remembers the slots.
// Values.

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "crypto/x509.h"
#include "plugin/key_manager.h"
#include "store/journal.h"

namespace limpet::server {

// The slots are "A" and "B"; the key of slot A is "x509-CA-A" in the key manager.
inline std::string ca_key_id(const std::string& slot_id) { return "x509-CA-" + slot_id; }
inline constexpr size_t kJournalEntries = 10;

// When the next authority is prepared and when it takes over: the fractions of SPIRE. One of a day is followed by one
// that is prepared after 12 h and active after 20 h.
inline int64_t preparation_time(int64_t issued_at, int64_t not_after) {
  return not_after - std::min((not_after - issued_at) / 2, int64_t{30} * 86400);
}
inline int64_t activation_time(int64_t issued_at, int64_t not_after) {
  return not_after - std::min((not_after - issued_at) / 6, int64_t{7} * 86400);
}

// A published authority waits this long before it signs: agents and servers below have to hear of it first. Not where
// the one at work would expire meanwhile, and not when the clock went back.
inline bool spreading(int64_t published_at, int64_t not_after, int64_t now, int64_t others_end) {
  const int64_t until = published_at + std::min(int64_t{60}, (not_after - published_at) / 6);
  return published_at <= now && now < until && until < others_end;
}
// An authority whose key was replaced is replaced at once, but no more often than this: two servers that share their
// keys by mistake would fill the bundle.
inline bool just_made(int64_t published_at, int64_t not_after, int64_t now) {
  return published_at <= now && now < published_at + std::min(int64_t{600}, (not_after - published_at) / 24);
}

struct Authority {
  Certificate certificate;
  std::unique_ptr<Signer> signer;
  // From this certificate up to, but without, the root; empty when it is the root itself. Goes out with every SVID.
  std::vector<Bytes> upstream_chain = {};
};

struct CaSlot {
  std::string slot_id;  // "A" or "B"
  int64_t issued_at = 0;
  // Owners: the slot, and each signature in flight, so that a rotation does not take the key from under it.
  std::shared_ptr<const Authority> authority;
  std::string upstream_authority_id = {};  // hex of the root's subject key id; empty: self-signed
  int64_t published_at = 0;                // about when its root was in the bundle

  [[nodiscard]] int64_t not_after() const { return authority->certificate.not_after; }
  [[nodiscard]] int64_t prepare_at() const { return preparation_time(issued_at, not_after()); }
  [[nodiscard]] int64_t activate_at() const { return activation_time(issued_at, not_after()); }
};

// What a restart found: the journal, and the slots whose keys the key manager still has.
struct LoadedCa {
  Journal journal;
  std::optional<CaSlot> current;
  std::optional<CaSlot> next;
};

}  // namespace limpet::server
