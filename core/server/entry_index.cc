// SPDX-License-Identifier: Apache-2.0
#include "server/entry_index.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "store/entries.h"

namespace limpet::server {

namespace {

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

// Text -> entries, sorted by entry id. The keys are copies: entries come and go.
class EntryLists {
 public:
  void add(std::string_view key, const Entry* entry) {
    auto& list = lists_.try_emplace(std::string(key)).first->second;
    list.insert(std::ranges::lower_bound(list, std::string_view(entry->id), {}, id_of), entry);
  }
  void remove(std::string_view key, const Entry* entry) {
    const auto place = lists_.find(key);
    if (place == lists_.end()) return;
    std::erase(place->second, entry);
    if (place->second.empty()) lists_.erase(place);
  }
  [[nodiscard]] const std::vector<const Entry*>& at(std::string_view key) const {
    static const std::vector<const Entry*> kNone;
    const auto place = lists_.find(key);
    return place == lists_.end() ? kNone : place->second;
  }

 private:
  static std::string_view id_of(const Entry* entry) { return entry->id; }
  std::unordered_map<std::string, std::vector<const Entry*>, TextHash, std::equal_to<>> lists_;
};

uint64_t row_of(BytesView key) {
  uint64_t row = 0;
  for (const uint8_t byte : key) row = (row << 8) | byte;
  return row;
}

}  // namespace

struct EntryIndex::Impl {
  Impl(Store& s, TrustDomain td) : store(s), trust_domain(std::move(td)) {}

  Store& store;
  TrustDomain trust_domain;
  std::unordered_map<uint64_t, std::unique_ptr<Entry>> rows;
  std::unordered_map<std::string_view, const Entry*> by_id;
  EntryLists by_parent;     // parent path -> children; without aliases
  EntryLists by_spiffe_id;  // path -> entries
  std::string damage;       // why entries could not be read; empty: all were
  EntryLists aliases;       // text of the first selector -> entries whose parent is the server

  [[nodiscard]] static bool is_alias(const Entry& entry) { return entry.parent_id.path() == kServerPath; }
  [[nodiscard]] bool ours(const Entry& entry) const {
    return entry.spiffe_id.member_of(trust_domain) && entry.parent_id.member_of(trust_domain);
  }

  void put(uint64_t row, Entry entry) {
    drop(row);
    if (!ours(entry)) return;
    const Entry* kept = (rows[row] = std::make_unique<Entry>(std::move(entry))).get();
    by_id[kept->id] = kept;
    by_spiffe_id.add(kept->spiffe_id.path(), kept);
    if (!is_alias(*kept)) return by_parent.add(kept->parent_id.path(), kept);
    if (!kept->selectors.empty()) aliases.add(kept->selectors.front().text(), kept);
  }

  void drop(uint64_t row) {
    const auto place = rows.find(row);
    if (place == rows.end()) return;
    const Entry* gone = place->second.get();
    by_id.erase(gone->id);
    by_spiffe_id.remove(gone->spiffe_id.path(), gone);
    if (!is_alias(*gone)) {
      by_parent.remove(gone->parent_id.path(), gone);
    } else if (!gone->selectors.empty()) {
      aliases.remove(gone->selectors.front().text(), gone);
    }
    rows.erase(place);
  }

  // The aliases an agent answers to: those whose selectors it has, all of them.
  [[nodiscard]] std::vector<const Entry*> aliases_of(const SelectorSet& agent_selectors) const {
    std::vector<const Entry*> result;
    for (const Selector& selector : agent_selectors) {
      for (const Entry* alias : aliases.at(selector.text())) {
        if (is_subset(alias->selectors, agent_selectors)) result.push_back(alias);
      }
    }
    std::ranges::sort(result, {}, [](const Entry* e) { return std::string_view(e->id); });
    return result;
  }
};

EntryIndex::EntryIndex(Store& store, TrustDomain trust_domain)
    : impl_(std::make_unique<Impl>(store, std::move(trust_domain))) {
  {
    const Snapshot snapshot = store.read();
    const auto scanned = scan_entries(snapshot, 0, [this](EntryRow&& row) {
      impl_->put(row.row, std::move(row.entry));
      return true;
    });
    if (!scanned) impl_->damage = scanned.error().message;
  }
  store.subscribe(*this);
}

EntryIndex::~EntryIndex() { impl_->store.unsubscribe(*this); }

void EntryIndex::on_commit(uint64_t, const std::vector<Change>& changes) {
  const Snapshot snapshot = impl_->store.read();
  for (const Change& change : changes) {
    if (change.table != TableId::entries) continue;
    const uint64_t row = row_of(change.key);
    // The snapshot may be newer than this commit; the row's present value is what counts either way.
    if (auto now = entry_at(snapshot, row)) {
      impl_->put(row, std::move(now->entry));
    } else {
      impl_->drop(row);
    }
  }
}

std::vector<const Entry*> EntryIndex::authorized(const SpiffeId& agent, const SelectorSet& agent_selectors) const {
  std::vector<const Entry*> result;
  std::unordered_set<std::string_view> seen;
  std::vector<std::string_view> pending;  // paths still to crawl, last first: depth first in entry-id order

  const auto crawl = [&](std::string_view start) {
    pending.push_back(start);
    while (!pending.empty()) {
      const std::string_view path = pending.back();
      pending.pop_back();
      if (!seen.insert(path).second) continue;
      const auto& children = impl_->by_parent.at(path);
      result.insert(result.end(), children.begin(), children.end());
      for (auto child = children.rbegin(); child != children.rend(); ++child) {
        pending.push_back((*child)->spiffe_id.path());
      }
    }
  };
  crawl(agent.path());
  for (const Entry* alias : impl_->aliases_of(agent_selectors)) crawl(alias->spiffe_id.path());
  return result;
}

const Entry* EntryIndex::find_authorized(const SpiffeId& agent, const SelectorSet& agent_selectors,
                                         std::string_view entry_id) const {
  const auto place = impl_->by_id.find(entry_id);
  if (place == impl_->by_id.end() || Impl::is_alias(*place->second)) return nullptr;
  std::unordered_set<std::string_view> roots{agent.path()};
  for (const Entry* alias : impl_->aliases_of(agent_selectors)) roots.insert(alias->spiffe_id.path());

  // Upwards from the entry: far fewer steps than crawling everything the agent may see.
  std::unordered_set<std::string_view> seen;
  std::vector<std::string_view> pending{place->second->parent_id.path()};
  while (!pending.empty()) {
    const std::string_view path = pending.back();
    pending.pop_back();
    if (roots.contains(path)) return place->second;
    if (!seen.insert(path).second) continue;
    for (const Entry* above : impl_->by_spiffe_id.at(path)) {
      if (!Impl::is_alias(*above)) pending.push_back(above->parent_id.path());
    }
  }
  return nullptr;
}

std::vector<const Entry*> EntryIndex::with_spiffe_id(const SpiffeId& id) const {
  if (!id.member_of(impl_->trust_domain)) return {};
  return impl_->by_spiffe_id.at(id.path());
}

size_t EntryIndex::size() const { return impl_->rows.size(); }

const std::string& EntryIndex::damage() const { return impl_->damage; }

}  // namespace limpet::server
