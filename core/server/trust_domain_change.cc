// SPDX-License-Identifier: Apache-2.0
// BatchCreateFederationRelationship, BatchUpdateFederationRelationship and BatchDeleteFederationRelationship: every
// item is judged, then all of them are one change set, the bundles that came with them included. If another commit came
// between, the batch is judged anew.
#include <map>

#include "proto/spire_trustdomain.pb.h"
#include "server/batch_flow.h"
#include "server/bundle_drafts.h"
#include "server/relationship_wire.h"
#include "server/trust_domain_api.h"

namespace limpet::server {
namespace {

struct Outcome {
  std::optional<Error> error;
  TrustDomain trust_domain;
  FederationRelationship relationship;
  std::optional<Bundle> bundle;  // what is stored of it
};

Outcome failed_item(Code code, std::string message) { return {Error{code, std::move(message)}, {}, {}, {}}; }

// What one attempt works with.
struct Draft {
  explicit Draft(const Snapshot& s) : snapshot(s), bundles(s) {}
  const Snapshot& snapshot;
  BundleDrafts bundles;
  std::map<TrustDomain, std::optional<FederationRelationship>> stored;
  std::map<TrustDomain, std::optional<FederationRelationship>> now;

  // The relationship as the items so far leave it; nullopt: none.
  Result<std::optional<FederationRelationship>> find(const TrustDomain& trust_domain) {
    if (const auto known = now.find(trust_domain); known != now.end()) return known->second;
    auto found = find_relationship(snapshot, trust_domain);
    if (!found && found.error().code != Code::not_found) return fail(std::move(found).error());
    auto value = found ? std::optional(std::move(*found)) : std::nullopt;
    stored[trust_domain] = now[trust_domain] = value;
    return value;
  }
  void write(ChangeSet& changes) const {
    for (const auto& [trust_domain, relationship] : now) {
      const auto& before = stored.at(trust_domain);
      if (relationship == before) continue;
      if (!relationship) {
        remove_relationship(changes, trust_domain);
      } else if (before) {
        update_relationship(changes, *before, *relationship);
      } else {
        create_relationship(changes, *relationship);
      }
    }
    bundles.write(changes);
  }
};

// The shape all three share.
template <class Request, class Response>
class RelationshipBatchFlow : public BatchFlow<Request, Response> {
 public:
  using BatchFlow<Request, Response>::BatchFlow;

 protected:
  virtual void judge_all(const Request& request, Draft& draft, std::vector<Outcome>& outcomes) = 0;
  virtual void write(const Request& request, const std::vector<Outcome>& outcomes, Response& response) = 0;
  virtual const char* verb() const = 0;
  [[nodiscard]] std::string failed() const { return std::string("failed to ") + verb() + " federation relationship"; }

 private:
  void judge(const Request& request, const Snapshot& snapshot, ChangeSet& changes) final {
    outcomes_.clear();
    Draft draft(snapshot);
    judge_all(request, draft, outcomes_);
    draft.write(changes);
  }
  void settle(const Result<uint64_t>& revision) final {
    for (Outcome& outcome : outcomes_) {
      if (outcome.error) continue;
      if (!revision) {
        outcome.error = Error{Code::internal, failed() + ": " + revision.error().message};
      } else {
        this->context_.logger.info(std::string("Federation relationship ") + verb() + "d",
                                   {{"trust_domain", outcome.trust_domain.name()}});
      }
    }
  }
  void write(const Request& request, Response& response) final { write(request, outcomes_, response); }

  std::vector<Outcome> outcomes_;
};

template <class Request, class Response>
void write_relationships(const Request& request, const std::vector<Outcome>& outcomes, Response& response) {
  const auto* mask = wire::mask_of(request.has_output_mask, request.output_mask);
  auto* out = wire::set_array(response.results, response.results_count, outcomes.size());
  for (size_t i = 0; i < outcomes.size(); ++i) {
    write_outcome(outcomes[i].error, out[i]);
    if (outcomes[i].error) continue;
    out[i].has_federation_relationship = true;
    write_relationship(out[i].federation_relationship, outcomes[i].relationship,
                       outcomes[i].bundle ? &*outcomes[i].bundle : nullptr, mask);
  }
}

// The bundle that came with a relationship is stored with it; the one to show is what is stored then.
std::optional<Error> settle_bundle(Draft& draft, Outcome& outcome, const std::optional<Bundle>& given) {
  const auto known = draft.bundles.find(outcome.trust_domain);
  if (!known) return known.error();
  if (given) draft.bundles.put(*given);
  if (given) {
    outcome.bundle = given;
  } else if (*known != nullptr) {
    outcome.bundle = **known;
  }
  return std::nullopt;
}

// ---- create ----
using CreateRequest = spire_api_server_trustdomain_v1_BatchCreateFederationRelationshipRequest;
using CreateResponse = spire_api_server_trustdomain_v1_BatchCreateFederationRelationshipResponse;

class CreateFlow final : public RelationshipBatchFlow<CreateRequest, CreateResponse> {
 public:
  using RelationshipBatchFlow::RelationshipBatchFlow;

 private:
  const char* verb() const override { return "create"; }
  void judge_all(const CreateRequest& request, Draft& draft, std::vector<Outcome>& outcomes) override {
    for (const auto& item : wire::items(request.federation_relationships, request.federation_relationships_count)) {
      outcomes.push_back(judge_one(item, draft));
    }
  }
  Outcome judge_one(const spire_api_types_FederationRelationship& item, Draft& draft) {
    auto input = read_relationship(item);
    if (!input) return {Error(input.error()).within("failed to convert federation relationship"), {}, {}, {}};
    const TrustDomain& trust_domain = input->relationship.trust_domain;
    if (trust_domain == context_.trust_domain) {
      return failed_item(Code::invalid_argument, "unable to create federation relationship for server trust domain");
    }
    const auto known = draft.find(trust_domain);
    if (!known) return failed_item(Code::internal, failed() + ": " + known.error().message);
    if (*known) {
      return failed_item(Code::internal,
                         failed() + ": trust domain \"" + trust_domain.name() + "\" already has one; update it");
    }
    Outcome outcome{std::nullopt, trust_domain, input->relationship, std::nullopt};
    if (auto error = settle_bundle(draft, outcome, input->bundle)) {
      return failed_item(Code::internal, failed() + ": " + error->message);
    }
    draft.now[trust_domain] = std::move(input->relationship);
    return outcome;
  }
  void write(const CreateRequest& request, const std::vector<Outcome>& outcomes, CreateResponse& response) override {
    write_relationships(request, outcomes, response);
  }
};

// ---- update ----
using UpdateRequest = spire_api_server_trustdomain_v1_BatchUpdateFederationRelationshipRequest;
using UpdateResponse = spire_api_server_trustdomain_v1_BatchUpdateFederationRelationshipResponse;

class UpdateFlow final : public RelationshipBatchFlow<UpdateRequest, UpdateResponse> {
 public:
  using RelationshipBatchFlow::RelationshipBatchFlow;

 private:
  const char* verb() const override { return "update"; }
  void judge_all(const UpdateRequest& request, Draft& draft, std::vector<Outcome>& outcomes) override {
    const auto* mask = wire::mask_of(request.has_input_mask, request.input_mask);
    for (const auto& item : wire::items(request.federation_relationships, request.federation_relationships_count)) {
      outcomes.push_back(judge_one(item, mask, draft));
    }
  }
  Outcome judge_one(const spire_api_types_FederationRelationship& item,
                    const spire_api_types_FederationRelationshipMask* mask, Draft& draft) {
    auto input = read_relationship(item);
    if (!input) return {Error(input.error()).within("failed to convert federation relationship"), {}, {}, {}};
    const FederationRelationship& change = input->relationship;
    const auto known = draft.find(change.trust_domain);
    if (!known) return failed_item(Code::internal, failed() + ": " + known.error().message);
    if (!*known) {
      return failed_item(Code::internal, failed() + ": unable to fetch federation relationship: record not found");
    }
    FederationRelationship merged = **known;
    if (mask == nullptr || mask->bundle_endpoint_url) merged.url = change.url;
    if (mask == nullptr || mask->bundle_endpoint_profile) {
      merged.profile = change.profile;
      merged.endpoint_id = change.endpoint_id;
    }
    if (mask != nullptr && !mask->trust_domain_bundle) input->bundle.reset();
    Outcome outcome{std::nullopt, merged.trust_domain, merged, std::nullopt};
    if (auto error = settle_bundle(draft, outcome, input->bundle)) {
      return failed_item(Code::internal, failed() + ": " + error->message);
    }
    draft.now[merged.trust_domain] = std::move(merged);
    return outcome;
  }
  void write(const UpdateRequest& request, const std::vector<Outcome>& outcomes, UpdateResponse& response) override {
    write_relationships(request, outcomes, response);
  }
};

// ---- delete ----
using DeleteRequest = spire_api_server_trustdomain_v1_BatchDeleteFederationRelationshipRequest;
using DeleteResponse = spire_api_server_trustdomain_v1_BatchDeleteFederationRelationshipResponse;

class DeleteFlow final : public RelationshipBatchFlow<DeleteRequest, DeleteResponse> {
 public:
  using RelationshipBatchFlow::RelationshipBatchFlow;

 private:
  const char* verb() const override { return "delete"; }
  void judge_all(const DeleteRequest& request, Draft& draft, std::vector<Outcome>& outcomes) override {
    for (const char* name : wire::items(request.trust_domains, request.trust_domains_count)) {
      outcomes.push_back(judge_one(wire::view(name), draft));
    }
  }
  Outcome judge_one(std::string_view name, Draft& draft) {
    if (name.empty()) return failed_item(Code::invalid_argument, "missing trust domain");
    const auto trust_domain = TrustDomain::parse(name);
    if (!trust_domain) {
      return failed_item(Code::invalid_argument, "failed to parse trust domain: " + trust_domain.error().message);
    }
    const auto known = draft.find(*trust_domain);
    Outcome outcome{std::nullopt, *trust_domain, {}, std::nullopt};
    if (!known) {
      outcome.error = Error{Code::internal, failed() + ": " + known.error().message};
    } else if (!*known) {
      outcome.error = Error{Code::not_found, "federation relationship not found"};
    } else {
      draft.now[*trust_domain].reset();
    }
    return outcome;
  }
  void write(const DeleteRequest& request, const std::vector<Outcome>& outcomes, DeleteResponse& response) override {
    auto* out = wire::set_array(response.results, response.results_count, outcomes.size());
    for (size_t i = 0; i < outcomes.size(); ++i) {
      write_outcome(outcomes[i].error, out[i]);
      const TrustDomain& known = outcomes[i].trust_domain;
      wire::set_string(out[i].trust_domain,
                       known.empty() ? wire::view(request.trust_domains[i]) : std::string_view(known.name()));
    }
  }
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_create_relationships(Context& context, wire::ServerCall& call) {
  return std::make_unique<CreateFlow>(context, call);
}
std::unique_ptr<wire::ServerFlow> open_update_relationships(Context& context, wire::ServerCall& call) {
  return std::make_unique<UpdateFlow>(context, call);
}
std::unique_ptr<wire::ServerFlow> open_delete_relationships(Context& context, wire::ServerCall& call) {
  return std::make_unique<DeleteFlow>(context, call);
}

}  // namespace limpet::server
