// SPDX-License-Identifier: Apache-2.0
#pragma once
// The CA's journal in the store: which authorities were prepared, activated and retired, and in which key slot. One
// record, written whole. Loop thread only.

#include <string>
#include <vector>

#include "store/store.h"

namespace limpet {

// The numbers are SPIRE's.
enum class AuthorityStatus : int32_t { unknown = 0, prepared = 2, active = 3, old = 4 };

struct JournalX509Ca {
  std::string slot_id;    // "A" or "B"
  int64_t issued_at = 0;  // Unix seconds
  int64_t not_after = 0;
  Bytes certificate;  // DER
  std::vector<Bytes> upstream_chain;
  AuthorityStatus status = AuthorityStatus::unknown;
  std::string authority_id;  // hex of the subject key id
  std::string upstream_authority_id;
  bool operator==(const JournalX509Ca&) const = default;
};
struct JournalJwtKey {
  std::string slot_id;
  int64_t issued_at = 0;
  int64_t not_after = 0;
  std::string key_id;
  Bytes public_key;  // DER SubjectPublicKeyInfo
  AuthorityStatus status = AuthorityStatus::unknown;
  std::string authority_id;
  bool operator==(const JournalJwtKey&) const = default;
};
struct Journal {
  std::vector<JournalX509Ca> x509_cas;
  std::vector<JournalJwtKey> jwt_keys;
  bool operator==(const Journal&) const = default;
};

// Empty when none was written yet. DATA_LOSS.
Result<Journal> read_journal(const Snapshot& snapshot);
void put_journal(ChangeSet& changes, const Journal& journal);

// The JWT keys have a record of their own: X.509 and JWT authorities rotate apart from each other.
Result<std::vector<JournalJwtKey>> read_jwt_journal(const Snapshot& snapshot);
void put_jwt_journal(ChangeSet& changes, const std::vector<JournalJwtKey>& keys);

Bytes encode_journal(const Journal& journal);
Result<Journal> decode_journal(BytesView bytes);

}  // namespace limpet
