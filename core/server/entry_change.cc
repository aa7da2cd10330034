// SPDX-License-Identifier: Apache-2.0
// BatchCreateEntry, BatchUpdateEntry and BatchDeleteEntry: each item is judged against a snapshot and what the items
// before it will do, then all of them are one change set. If another call's commit came between, the batch is judged
// anew.
#include <unordered_map>
#include <unordered_set>

#include "proto/spire_entry.pb.h"
#include "server/entry_api.h"
#include "store/bundles.h"
#include "store/codec.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

// How often a batch is judged anew before the caller is told to try again.
constexpr int kAttempts = 8;

// One item's outcome: the entry as it will be, or why not. An existing entry may come with an error.
struct Outcome {
  std::optional<Error> error;
  std::optional<Entry> entry;
  std::string id;
};

Outcome failed_item(Code code, std::string message) { return {Error{code, std::move(message)}, std::nullopt, {}}; }

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

// The shape all three share: judge every item, commit, answer.
template <class Request, class Response>
class BatchFlow : public wire::UnaryFlow<Request, Response> {
 public:
  BatchFlow(Context& context, wire::ServerCall& call) : wire::UnaryFlow<Request, Response>(call), context_(context) {}

 protected:
  // Judges the items of `request` and fills `changes`; one outcome each, in order.
  virtual std::vector<Outcome> judge(const Request& request, const Snapshot& snapshot, ChangeSet& changes) = 0;
  virtual void write(const Request& request, const std::vector<Outcome>& outcomes, Response& response) = 0;
  virtual const char* verb() const = 0;
  Context& context_;

 private:
  void handle(const Request& request) final {
    request_ = &request;
    attempt();
  }
  void attempt() {
    ++attempts_;
    ChangeSet changes;
    outcomes_ = judge(*request_, context_.store.read(), changes);
    if (changes.empty()) return answer();
    context_.store.commit(std::move(changes), committed_.template then<&BatchFlow::on_committed>(this));
  }
  void on_committed(Result<uint64_t> revision) {
    if (!revision && revision.error().code == Code::aborted && attempts_ < kAttempts) return attempt();
    if (!revision) fail_all(revision.error());
    answer();
  }
  // The commit failed: nothing was written, so no item succeeded.
  void fail_all(const Error& why) {
    for (Outcome& outcome : outcomes_) {
      if (outcome.error) continue;
      outcome.error = Error(why).within(std::string("failed to ") + verb() + " entry");
      outcome.entry.reset();
    }
  }
  void answer() {
    wire::Message<Response> response;
    write(*request_, outcomes_, *response);
    this->reply(response);
  }

  const Request* request_ = nullptr;
  std::vector<Outcome> outcomes_;
  Pending<uint64_t> committed_;
  int attempts_ = 0;
};

template <class Result_>
void write_status(const Outcome& outcome, Result_& out) {
  if (outcome.error) {
    wire::write_error(out.has_status, out.status, *outcome.error);
  } else {
    wire::write_ok(out.has_status, out.status);
  }
}

// Create and update answer alike: status and entry.
template <class Request, class Response>
void write_entries(const Request& request, const std::vector<Outcome>& outcomes, Response& response) {
  const auto* mask = wire::mask_of(request.has_output_mask, request.output_mask);
  auto* out = wire::set_array(response.results, response.results_count, outcomes.size());
  for (size_t i = 0; i < outcomes.size(); ++i) {
    write_status(outcomes[i], out[i]);
    if (!outcomes[i].entry) continue;
    out[i].has_entry = true;
    wire::write_entry(out[i].entry, *outcomes[i].entry, mask);
  }
}

// Every federated trust domain must have a bundle here, and still have it when the entry is written.
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

// ---- create ----
using CreateRequest = spire_api_server_entry_v1_BatchCreateEntryRequest;
using CreateResponse = spire_api_server_entry_v1_BatchCreateEntryResponse;

class CreateEntriesFlow final : public BatchFlow<CreateRequest, CreateResponse> {
 public:
  using BatchFlow::BatchFlow;

 private:
  const char* verb() const override { return "create"; }
  std::vector<Outcome> judge(const CreateRequest& request, const Snapshot& snapshot, ChangeSet& changes) override {
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

// ---- update ----
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

class UpdateEntriesFlow final : public BatchFlow<UpdateRequest, UpdateResponse> {
 public:
  using BatchFlow::BatchFlow;

 private:
  const char* verb() const override { return "update"; }
  std::vector<Outcome> judge(const UpdateRequest& request, const Snapshot& snapshot, ChangeSet& changes) override {
    const auto* mask = wire::mask_of(request.has_input_mask, request.input_mask);
    Planned planned;
    std::vector<Outcome> outcomes;
    for (const auto& item : wire::items(request.entries, request.entries_count)) {
      outcomes.push_back(judge_one(item, mask, snapshot, planned, changes));
    }
    return outcomes;
  }
  Outcome judge_one(const spire_api_types_Entry& item, const spire_api_types_EntryMask* mask, const Snapshot& snapshot,
                    Planned& planned, ChangeSet& changes) {
    const auto change = wire::read_entry(item, mask);
    if (!change) return {Error(change.error()).within("failed to convert entry"), std::nullopt, {}};
    const std::string id(wire::view(item.id));
    const auto old = id.empty() ? Result<EntryRow>(fail(Code::not_found, "")) : find_entry(snapshot, id);
    if (!old && old.error().code == Code::not_found) return failed_item(Code::not_found, "failed to update entry");
    if (!old) return {Error(old.error()).within("failed to update entry"), std::nullopt, {}};
    Entry entry = merged(old->entry, *change, mask);
    if (const auto good = check_entry(entry, context_.trust_domain); !good) {
      return {Error(good.error()).within("failed to convert entry"), std::nullopt, {}};
    }
    if (planned.touched(id)) {
      return failed_item(Code::invalid_argument,
                         "failed to update entry: entry ID \"" + id + "\" stands twice in the batch");
    }
    const Bytes key = entry_key(entry);
    const auto similar = find_similar_entry(snapshot, key);
    if (!similar) return {Error(similar.error()).within("failed to update entry"), std::nullopt, {}};
    if (planned.similar(key) || (*similar && (*similar)->row != old->row)) {
      return failed_item(Code::already_exists, "failed to update entry: similar entry already exists");
    }
    if (auto missing = check_federation(snapshot, entry, "update", changes))
      return {std::move(missing), std::nullopt, {}};
    EntryTable::update(changes, *old, entry);
    planned.add(key, entry.id, 0);
    return {std::nullopt, std::move(entry), {}};
  }
  void write(const UpdateRequest& request, const std::vector<Outcome>& outcomes, UpdateResponse& response) override {
    write_entries(request, outcomes, response);
  }
};

// ---- delete ----
using DeleteRequest = spire_api_server_entry_v1_BatchDeleteEntryRequest;
using DeleteResponse = spire_api_server_entry_v1_BatchDeleteEntryResponse;

class DeleteEntriesFlow final : public BatchFlow<DeleteRequest, DeleteResponse> {
 public:
  using BatchFlow::BatchFlow;

 private:
  const char* verb() const override { return "delete"; }
  std::vector<Outcome> judge(const DeleteRequest& request, const Snapshot& snapshot, ChangeSet& changes) override {
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
      write_status(outcomes[i], out[i]);
      wire::set_string(out[i].id, outcomes[i].id);
    }
  }
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_create_entries(Context& context, wire::ServerCall& call) {
  return std::make_unique<CreateEntriesFlow>(context, call);
}
std::unique_ptr<wire::ServerFlow> open_update_entries(Context& context, wire::ServerCall& call) {
  return std::make_unique<UpdateEntriesFlow>(context, call);
}
std::unique_ptr<wire::ServerFlow> open_delete_entries(Context& context, wire::ServerCall& call) {
  return std::make_unique<DeleteEntriesFlow>(context, call);
}

}  // namespace limpet::server
