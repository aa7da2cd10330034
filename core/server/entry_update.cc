// SPDX-License-Identifier: Apache-2.0
// BatchUpdateEntry.
#include <unordered_map>

#include "proto/spire_entry.pb.h"
#include "server/entry_batch.h"
#include "store/codec.h"

namespace limpet::server {
namespace {

using UpdateRequest = spire_api_server_entry_v1_BatchUpdateEntryRequest;
using UpdateResponse = spire_api_server_entry_v1_BatchUpdateEntryResponse;

// The old entry with the fields the mask names taken from the new one; no mask: all of them.
Entry merged(const Entry& old, const Entry& change, const spire_api_types_EntryMask* mask) {
  Entry out = old;
  const auto takes = [mask](bool spire_api_types_EntryMask::* field) { return mask == nullptr || mask->*field; };
  using Mask = spire_api_types_EntryMask;
  if (takes(&Mask::spiffe_id)) out.spiffe_id = change.spiffe_id;
  if (takes(&Mask::parent_id)) out.parent_id = change.parent_id;
  if (takes(&Mask::selectors)) out.selectors = change.selectors;
  if (takes(&Mask::x509_svid_ttl)) out.x509_svid_ttl = change.x509_svid_ttl;
  if (takes(&Mask::jwt_svid_ttl)) out.jwt_svid_ttl = change.jwt_svid_ttl;
  if (takes(&Mask::federates_with)) out.federates_with = change.federates_with;
  if (takes(&Mask::admin)) out.admin = change.admin;
  if (takes(&Mask::downstream)) out.downstream = change.downstream;
  if (takes(&Mask::expires_at)) out.expires_at = change.expires_at;
  if (takes(&Mask::dns_names)) out.dns_names = change.dns_names;
  if (takes(&Mask::store_svid)) out.store_svid = change.store_svid;
  if (takes(&Mask::hint)) out.hint = change.hint;
  if (takes(&Mask::additional_attributes)) {
    out.has_additional_attributes = change.has_additional_attributes;
    out.disable_x509_svid_prefetch = change.disable_x509_svid_prefetch;
    out.jwt_svid_include_jti = change.jwt_svid_include_jti;
  }
  out.revision_number = old.revision_number + 1;
  return out;
}

// What the items before this one in a batch of updates do. Two items may name one entry: the second changes what the
// first made of it, and the entry is written once.
class PlannedUpdates {
 public:
  // The entry as the items before left it; null: they did not touch it.
  [[nodiscard]] const Entry* current(const std::string& id) const {
    const auto place = by_id_.find(id);
    return place == by_id_.end() ? nullptr : &updates_[place->second].now;
  }
  // Whether another entry will have this entry_key().
  [[nodiscard]] bool taken(const Bytes& key, const std::string& id) const {
    const auto place = owners_.find(std::string(as_text(key)));
    return place != owners_.end() && place->second != id;
  }
  void add(const EntryRow& stored, const Entry& entry, const Bytes& key) {
    const auto [place, is_new] = by_id_.try_emplace(entry.id, updates_.size());
    if (is_new) {
      updates_.push_back({stored, entry, key});
    } else {
      Update& earlier = updates_[place->second];
      owners_.erase(std::string(as_text(earlier.key)));
      earlier.now = entry;
      earlier.key = key;
    }
    owners_.insert_or_assign(std::string(as_text(key)), entry.id);
  }
  void write(ChangeSet& changes) const {
    for (const Update& update : updates_) EntryTable::update(changes, update.stored, update.now);
  }

 private:
  struct Update {
    EntryRow stored;
    Entry now;
    Bytes key;
  };
  std::vector<Update> updates_;
  std::unordered_map<std::string, size_t> by_id_;
  std::unordered_map<std::string, std::string> owners_;  // entry_key() -> entry id
};

class UpdateEntriesFlow final : public EntryBatchFlow<UpdateRequest, UpdateResponse> {
 public:
  using EntryBatchFlow::EntryBatchFlow;

 private:
  const char* verb() const override { return "update"; }
  std::vector<Outcome> judge_all(const UpdateRequest& request, const Snapshot& snapshot, ChangeSet& changes) override {
    const auto* mask = wire::mask_of(request.has_input_mask, request.input_mask);
    PlannedUpdates planned;
    std::vector<Outcome> outcomes;
    for (const auto& item : wire::items(request.entries, request.entries_count)) {
      outcomes.push_back(judge_one(item, mask, snapshot, planned, changes));
    }
    planned.write(changes);
    return outcomes;
  }
  Outcome judge_one(const spire_api_types_Entry& item, const spire_api_types_EntryMask* mask, const Snapshot& snapshot,
                    PlannedUpdates& planned, ChangeSet& changes) {
    const auto change = wire::read_entry(item, mask);
    if (!change) return {Error(change.error()).within("failed to convert entry"), std::nullopt, {}};
    const std::string id(wire::view(item.id));
    const auto old = id.empty() ? Result<EntryRow>(fail(Code::not_found, "")) : find_entry(snapshot, id);
    if (!old && old.error().code == Code::not_found) return failed_item(Code::not_found, "failed to update entry");
    if (!old) return {Error(old.error()).within("failed to update entry"), std::nullopt, {}};
    const Entry* earlier = planned.current(id);
    Entry entry = merged(earlier != nullptr ? *earlier : old->entry, *change, mask);
    if (const auto good = check_entry(entry, context_.trust_domain); !good) {
      return {Error(good.error()).within("failed to convert entry"), std::nullopt, {}};
    }
    const Bytes key = entry_key(entry);
    const auto similar = find_similar_entry(snapshot, key);
    if (!similar) return {Error(similar.error()).within("failed to update entry"), std::nullopt, {}};
    if (planned.taken(key, id) || (*similar && (*similar)->row != old->row)) {
      return failed_item(Code::already_exists, "failed to update entry: similar entry already exists");
    }
    if (auto missing = check_federation(snapshot, entry, "update", changes))
      return {std::move(missing), std::nullopt, {}};
    planned.add(*old, entry, key);
    return {std::nullopt, std::move(entry), {}};
  }
  void write(const UpdateRequest& request, const std::vector<Outcome>& outcomes, UpdateResponse& response) override {
    write_entries(request, outcomes, response);
  }
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_update_entries(Context& context, wire::ServerCall& call) {
  return std::make_unique<UpdateEntriesFlow>(context, call);
}

}  // namespace limpet::server
