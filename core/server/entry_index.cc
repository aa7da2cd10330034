// SPDX-License-Identifier: Apache-2.0
#include "server/entry_index.h"

#include <algorithm>
#include <cstddef>
#include <unordered_map>
#include <unordered_set>

#include "store/entries.h"

namespace limpet::server {

namespace {

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

std::string_view id_of(const Entry* entry) { return entry->id; }

// Text -> entries, sorted by entry id. The keys are copies: entries come and go. What was added is sorted in when
// somebody looks, so that filling a long list costs no move of the whole for each entry.
class EntryLists {
 public:
  void add(std::string_view key, const Entry* entry) {
    lists_.try_emplace(std::string(key)).first->second.entries.push_back(entry);
  }
  void remove(std::string_view key, const Entry* entry) {
    const auto place = lists_.find(key);
    if (place == lists_.end()) return;
    List& list = place->second;
    list.sort();
    const auto [first, last] = std::ranges::equal_range(list.entries, id_of(entry), {}, id_of);
    const auto found = std::find(first, last, entry);
    if (found == last) return;
    list.entries.erase(found);
    --list.sorted;
    if (list.entries.empty()) lists_.erase(place);
  }
  [[nodiscard]] const std::vector<const Entry*>& at(std::string_view key) const {
    static const std::vector<const Entry*> kNone;
    const auto place = lists_.find(key);
    if (place == lists_.end()) return kNone;
    place->second.sort();
    return place->second.entries;
  }

 private:
  struct List {
    std::vector<const Entry*> entries;
    size_t sorted = 0;  // so many from the start are in order
    void sort() {
      if (sorted == entries.size()) return;
      const auto middle = entries.begin() + static_cast<std::ptrdiff_t>(sorted);
      const auto before = [](const Entry* a, const Entry* b) { return a->id < b->id; };
      std::sort(middle, entries.end(), before);
      std::inplace_merge(entries.begin(), middle, entries.end(), before);
      sorted = entries.size();
    }
  };
  mutable std::unordered_map<std::string, List, TextHash, std::equal_to<>> lists_;
};

// Sets of entries that are looked up by a text of theirs: half the memory of maps, and there are 100,000 of them.
template <auto Text>
struct ByText {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  size_t operator()(const Entry* entry) const { return (*this)(Text(*entry)); }
  bool operator()(const Entry* a, const Entry* b) const { return Text(*a) == Text(*b); }
  bool operator()(std::string_view a, const Entry* b) const { return a == Text(*b); }
  bool operator()(const Entry* a, std::string_view b) const { return Text(*a) == b; }
};
constexpr auto kId = [](const Entry& entry) { return std::string_view(entry.id); };
constexpr auto kPath = [](const Entry& entry) { return std::string_view(entry.spiffe_id.path()); };

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
  std::unordered_map<uint64_t, Entry> rows;
  std::unordered_set<const Entry*, ByText<kId>, ByText<kId>> by_id;
  EntryLists by_parent;  // parent path -> children; without aliases
  std::unordered_multiset<const Entry*, ByText<kPath>, ByText<kPath>> by_spiffe_id;  // by its path
  EntryLists aliases;  // text of the first selector -> entries whose parent is the server
  std::string damage;  // why entries could not be read; empty: all were

  [[nodiscard]] static bool is_alias(const Entry& entry) { return entry.parent_id.path() == kServerPath; }
  [[nodiscard]] bool ours(const Entry& entry) const {
    return entry.spiffe_id.member_of(trust_domain) && entry.parent_id.member_of(trust_domain);
  }

  void put(uint64_t row, Entry entry) {
    drop(row);
    if (!ours(entry)) return;
    const Entry* kept = &rows.insert_or_assign(row, std::move(entry)).first->second;
    by_id.insert(kept);
    by_spiffe_id.insert(kept);
    if (!is_alias(*kept)) return by_parent.add(kept->parent_id.path(), kept);
    if (!kept->selectors.empty()) aliases.add(kept->selectors.front().text(), kept);
  }

  void drop(uint64_t row) {
    const auto place = rows.find(row);
    if (place == rows.end()) return;
    const Entry* gone = &place->second;
    if (const auto named = by_id.find(gone); named != by_id.end() && *named == gone) by_id.erase(named);
    const auto [first, last] = by_spiffe_id.equal_range(gone);
    const auto same = std::find(first, last, gone);
    if (same != last) by_spiffe_id.erase(same);
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
    std::ranges::sort(result, {}, id_of);
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
  if (place == impl_->by_id.end() || Impl::is_alias(**place)) return nullptr;
  std::unordered_set<std::string_view> roots{agent.path()};
  for (const Entry* alias : impl_->aliases_of(agent_selectors)) roots.insert(alias->spiffe_id.path());

  // Upwards from the entry: far fewer steps than crawling everything the agent may see.
  std::unordered_set<std::string_view> seen;
  std::vector<std::string_view> pending{(*place)->parent_id.path()};
  while (!pending.empty()) {
    const std::string_view path = pending.back();
    pending.pop_back();
    if (roots.contains(path)) return *place;
    if (!seen.insert(path).second) continue;
    const auto [first, last] = impl_->by_spiffe_id.equal_range(std::string_view(path));
    for (auto above = first; above != last; ++above) {
      if (!Impl::is_alias(**above)) pending.push_back((*above)->parent_id.path());
    }
  }
  return nullptr;
}

std::vector<const Entry*> EntryIndex::with_spiffe_id(const SpiffeId& id) const {
  if (!id.member_of(impl_->trust_domain)) return {};
  std::vector<const Entry*> result;
  const auto [first, last] = impl_->by_spiffe_id.equal_range(std::string_view(id.path()));
  for (auto item = first; item != last; ++item) result.push_back(*item);
  std::ranges::sort(result, {}, id_of);
  return result;
}

std::vector<const Entry*> EntryIndex::children_of(const SpiffeId& parent) const {
  return parent.member_of(impl_->trust_domain) ? impl_->by_parent.at(parent.path()) : std::vector<const Entry*>();
}

size_t EntryIndex::size() const { return impl_->rows.size(); }

const std::string& EntryIndex::damage() const { return impl_->damage; }

}  // namespace limpet::server
