// SPDX-License-Identifier: Apache-2.0
// BatchCreateEntry and BatchDeleteEntry.
#include <unordered_map>
#include <unordered_set>

#include "proto/spire_entry.pb.h"
#include "server/entry_batch.h"
#include "store/bundles.h"
#include "store/codec.h"

namespace limpet::server {

std::optional<Error> check_federation(const Snapshot& snapshot, const Entry& entry, const char* verb,
                                      ChangeSet& changes) {
  for (const std::string& name : entry.federates_with) {
    const auto trust_domain = TrustDomain::parse(name);
    if (trust_domain && find_bundle(snapshot, *trust_domain)) {
      changes.require_present(TableId::bundles, text_key(trust_domain->name()));
      continue;
    }
    return Error{Code::internal, std::string("failed to ") + verb +
                                     " entry: unable to find federated bundle \"spiffe://" + name + "\""};
  }
  return std::nullopt;
}

namespace {

// What the items before this one in the same batch do.
class Planned {
 public:
  // The number of the item with this entry_key().
  [[nodiscard]] std::optional<size_t> similar(const Bytes& key) const {
    const auto place = by_key_.find(std::string(as_text(key)));
    return place == by_key_.end() ? std::nullopt : std::optional(place->second);
  }
  [[nodiscard]] bool touched(const std::string& id) const { return ids_.contains(id); }
  void add(const Bytes& key, const std::string& id, size_t number) {
    by_key_.emplace(as_text(key), number);
    ids_.insert(id);
  }
  void touch(const std::string& id) { ids_.insert(id); }

 private:
  std::unordered_map<std::string, size_t> by_key_;
  std::unordered_set<std::string> ids_;
};

// ---- create ----
using CreateRequest = spire_api_server_entry_v1_BatchCreateEntryRequest;
using CreateResponse = spire_api_server_entry_v1_BatchCreateEntryResponse;

class CreateEntriesFlow final : public EntryBatchFlow<CreateRequest, CreateResponse> {
 public:
  using EntryBatchFlow::EntryBatchFlow;

 private:
  const char* verb() const override { return "create"; }
  std::vector<Outcome> judge_all(const CreateRequest& request, const Snapshot& snapshot, ChangeSet& changes) override {
    Planned planned;
    std::vector<Outcome> outcomes;
    outcomes.reserve(request.entries_count);
    for (const auto& item : wire::items(request.entries, request.entries_count)) {
      outcomes.push_back(judge_one(item, snapshot, planned, outcomes, changes));
    }
    return outcomes;
  }
  Outcome judge_one(const spire_api_types_Entry& item, const Snapshot& snapshot, Planned& planned,
                    const std::vector<Outcome>& earlier, ChangeSet& changes) {
    auto entry = wire::read_entry(item);
    if (entry) {
      if (const auto good = check_entry(*entry, context_.trust_domain); !good) entry = std::unexpected(good.error());
    }
    if (!entry) return {Error(entry.error()).within("failed to convert entry"), std::nullopt, {}};
    entry->revision_number = 0;
    entry->created_at = context_.clock.now();
    const bool named = !entry->id.empty();
    if (!named) entry->id = context_.entries.new_id(context_.clock.now());

    constexpr const char* kSimilar = "similar entry already exists";
    const Bytes key = entry_key(*entry);
    if (const auto number = planned.similar(key)) {
      return {Error{Code::already_exists, kSimilar}, earlier[*number].entry, {}};
    }
    auto similar = find_similar_entry(snapshot, key);
    if (!similar) return {Error(similar.error()).within("failed to create entry"), std::nullopt, {}};
    if (*similar) return {Error{Code::already_exists, kSimilar}, std::move((*similar)->entry), {}};
    if (named && (planned.touched(entry->id) || find_entry(snapshot, entry->id))) {
      return failed_item(Code::already_exists, "failed to create entry: entry ID \"" + entry->id + "\" is taken");
    }
    if (auto missing = check_federation(snapshot, *entry, "create", changes))
      return {std::move(missing), std::nullopt, {}};
    context_.entries.create(changes, *entry, key);
    planned.add(key, entry->id, earlier.size());
    return {std::nullopt, std::move(*entry), {}};
  }
  void write(const CreateRequest& request, const std::vector<Outcome>& outcomes, CreateResponse& response) override {
    write_entries(request, outcomes, response);
  }
};

// ---- delete ----
using DeleteRequest = spire_api_server_entry_v1_BatchDeleteEntryRequest;
using DeleteResponse = spire_api_server_entry_v1_BatchDeleteEntryResponse;

class DeleteEntriesFlow final : public EntryBatchFlow<DeleteRequest, DeleteResponse> {
 public:
  using EntryBatchFlow::EntryBatchFlow;

 private:
  const char* verb() const override { return "delete"; }
  std::vector<Outcome> judge_all(const DeleteRequest& request, const Snapshot& snapshot, ChangeSet& changes) override {
    Planned planned;
    std::vector<Outcome> outcomes;
    for (const char* item : wire::items(request.ids, request.ids_count)) {
      Outcome outcome = judge_one(std::string(wire::view(item)), snapshot, planned, changes);
      outcome.id = wire::view(item);
      outcomes.push_back(std::move(outcome));
    }
    return outcomes;
  }
  static Outcome judge_one(const std::string& id, const Snapshot& snapshot, Planned& planned, ChangeSet& changes) {
    if (id.empty()) return failed_item(Code::invalid_argument, "missing entry ID");
    const auto row = find_entry(snapshot, id);
    if (planned.touched(id) || (!row && row.error().code == Code::not_found)) {
      return failed_item(Code::not_found, "entry not found");
    }
    if (!row) return {Error(row.error()).within("failed to delete entry"), std::nullopt, {}};
    EntryTable::remove(changes, *row);
    planned.touch(id);
    return {};
  }
  void write(const DeleteRequest&, const std::vector<Outcome>& outcomes, DeleteResponse& response) override {
    auto* out = wire::set_array(response.results, response.results_count, outcomes.size());
    for (size_t i = 0; i < outcomes.size(); ++i) {
      write_outcome(outcomes[i].error, out[i]);
      wire::set_string(out[i].id, outcomes[i].id);
    }
  }
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_create_entries(Context& context, wire::ServerCall& call) {
  return std::make_unique<CreateEntriesFlow>(context, call);
}
std::unique_ptr<wire::ServerFlow> open_delete_entries(Context& context, wire::ServerCall& call) {
  return std::make_unique<DeleteEntriesFlow>(context, call);
}

}  // namespace limpet::server
