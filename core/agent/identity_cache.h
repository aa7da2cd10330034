// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the agent can serve: the entries the server authorized it for, an X.509-SVID with key for each, and the bundles.
// Filled from the store at start, then by sync and by the renewer. It decides nothing and does no I/O. Owned by the
// Agent; loop thread only.
//
// Glossary. Identity: one entry with its SVID. Watched: a workload waits for it or holds a stream on it. Generation: a
// number that grows whenever something a workload could see has changed.

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/secret.h"
#include "spiffe/bundle.h"
#include "spiffe/entry.h"

namespace limpet::agent {

struct CachedSvid {
  Bytes chain;      // concatenated DER, leaf first
  SecretBytes key;  // PKCS#8 DER
  int64_t not_before = 0;
  int64_t not_after = 0;
  int64_t revision_number = 0;  // of the entry it was issued for
  int64_t created_at = 0;
  Bytes root_key_id;          // of the authority that its chain ends in
  bool tainted_then = false;  // that authority was tainted already when this came: another would not be better
  int64_t rests_until = 0;    // loop milliseconds: not renewed before; 0: it came with the store
};

struct Identity {
  Entry entry;
  std::unique_ptr<const CachedSvid> svid;  // null: not signed yet
  uint64_t version = 0;                    // the generation of its last change
  size_t watchers = 0;
  int64_t used_at = 0;   // loop milliseconds; for the cache's soft limit
  int64_t retry_at = 0;  // loop milliseconds; after a refusal of this one
  int failures = 0;
  // Issued for what the entry says now.
  [[nodiscard]] bool current() const {
    return svid != nullptr && svid->revision_number == entry.revision_number && svid->created_at == entry.created_at;
  }
};

struct CachedBundle {
  Bundle bundle;
  Bytes roots;           // concatenated DER
  uint64_t version = 0;  // the generation of its last change
};

class IdentityCache {
 public:
  using Identities = std::map<std::string, Identity, std::less<>>;   // by entry id, the order workloads see
  using Bundles = std::map<std::string, CachedBundle, std::less<>>;  // by trust domain name

  // True when something changed. An SVID stays until there is a new one, unless the SPIFFE ID is another.
  bool put_entry(Entry entry);
  bool remove_entry(const std::string& id);
  void put_svid(Identity& identity, std::unique_ptr<const CachedSvid> svid);
  void drop_svid(Identity& identity);
  bool put_bundle(Bundle bundle);
  bool remove_bundle(const std::string& trust_domain);

  [[nodiscard]] Identity* find(std::string_view id);
  [[nodiscard]] Identities& identities() { return identities_; }
  [[nodiscard]] const Identities& identities() const { return identities_; }
  [[nodiscard]] const Bundles& bundles() const { return bundles_; }
  [[nodiscard]] const CachedBundle* bundle(std::string_view trust_domain) const;
  // Whether its SVID hangs under an authority that has been tainted since.
  [[nodiscard]] bool tainted(const CachedSvid& svid) const {
    return !svid.tainted_then && tainted_.contains(svid.root_key_id);
  }
  [[nodiscard]] bool tainted(const Bytes& root_key_id) const { return tainted_.contains(root_key_id); }
  [[nodiscard]] size_t svids() const { return svids_; }
  [[nodiscard]] uint64_t generation() const { return generation_; }
  [[nodiscard]] uint64_t bundles_generation() const { return bundles_generation_; }  // of the bundles' last change

  // Whose selectors are all among the workload's; by entry id; of equal hints the oldest entry only. Valid until the
  // generation changes.
  [[nodiscard]] std::vector<Identity*> match(const SelectorSet& workload);

 private:
  void index(Identity& identity);
  void unindex(const Identity& identity);
  void find_tainted();

  Identities identities_;
  Bundles bundles_;
  std::set<Bytes> tainted_;  // key identifiers of tainted X.509 authorities, of any trust domain
  std::unordered_map<std::string, std::vector<Identity*>> by_first_selector_;
  size_t svids_ = 0;
  uint64_t generation_ = 1;
  uint64_t bundles_generation_ = 1;
};

}  // namespace limpet::agent
