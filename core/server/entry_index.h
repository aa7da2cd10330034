// SPDX-License-Identifier: Apache-2.0
#pragma once
// Every registration entry in memory, in the form that authorisation needs, kept up to date from the store's change
// log: a new entry is visible to the next sync at once and nothing is rebuilt on a timer. Loop thread only.

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "spiffe/entry.h"
#include "store/store.h"

namespace limpet::server {

class EntryIndex final : public StoreObserver {
 public:
  // Reads all entries once, then follows the log.
  EntryIndex(Store& store, TrustDomain trust_domain);
  ~EntryIndex() override;

  // Wire notes section 9, in crawl order (children of a parent in entry-id order). The pointers die at the next commit.
  [[nodiscard]] std::vector<const Entry*> authorized(const SpiffeId& agent, const SelectorSet& agent_selectors) const;
  // The authorised entry of that id; null otherwise.
  [[nodiscard]] const Entry* find_authorized(const SpiffeId& agent, const SelectorSet& agent_selectors,
                                             std::string_view entry_id) const;
  // Entries whose SPIFFE ID is exactly this (for admin and downstream callers).
  [[nodiscard]] std::vector<const Entry*> with_spiffe_id(const SpiffeId& id) const;
  // Entries whose parent is exactly this, in entry-id order; not for the server's own ID, whose children are aliases.
  [[nodiscard]] std::vector<const Entry*> children_of(const SpiffeId& parent) const;
  [[nodiscard]] size_t size() const;
  // Why some entries could not be read at the start; empty: all were.
  [[nodiscard]] const std::string& damage() const;

  void on_commit(uint64_t revision, const std::vector<Change>& changes) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace limpet::server
