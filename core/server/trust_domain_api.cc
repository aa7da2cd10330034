// SPDX-License-Identifier: Apache-2.0
#include "server/trust_domain_api.h"

#include "proto/google/protobuf/empty.pb.h"
#include "proto/spire_trustdomain.pb.h"
#include "server/name_pages.h"
#include "server/relationship_wire.h"
#include "server/wire_values.h"
#include "store/bundles.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

using ListRequest = spire_api_server_trustdomain_v1_ListFederationRelationshipsRequest;
using ListResponse = spire_api_server_trustdomain_v1_ListFederationRelationshipsResponse;
using GetRequest = spire_api_server_trustdomain_v1_GetFederationRelationshipRequest;
using RefreshRequest = spire_api_server_trustdomain_v1_RefreshBundleRequest;

// Writes a relationship together with its stored bundle, if the mask asks for that.
Result<void> write_with_bundle(const Snapshot& snapshot, spire_api_types_FederationRelationship& out,
                               const FederationRelationship& relationship,
                               const spire_api_types_FederationRelationshipMask* mask) {
  if (mask != nullptr && !mask->trust_domain_bundle) {
    write_relationship(out, relationship, nullptr, mask);
    return {};
  }
  const auto bundle = find_bundle(snapshot, relationship.trust_domain);
  if (!bundle && bundle.error().code != Code::not_found) return fail(bundle.error());
  write_relationship(out, relationship, bundle ? &*bundle : nullptr, mask);
  return {};
}

class ListFlow final : public wire::UnaryFlow<ListRequest, ListResponse> {
 public:
  ListFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  static constexpr const char* kFailed = "failed to list federation relationships";
  void handle(const ListRequest& request) override {
    const bool paged = request.page_size > 0;
    const size_t limit = page_limit(request.page_size);
    const auto after = parse_name_token(paged ? wire::view(request.page_token) : std::string_view());
    if (!after) return refuse({Code::internal, std::string(kFailed) + ": " + after.error().message});
    const Snapshot snapshot = context_.store.read();
    std::vector<FederationRelationship> page;
    const auto scanned = scan_relationships(snapshot, *after, [&page, limit](FederationRelationship&& relationship) {
      page.push_back(std::move(relationship));
      return page.size() < limit;
    });
    if (!scanned) return refuse(Error(scanned.error()).within(kFailed));
    if (!paged && page.size() >= limit) return refuse(too_many_items(kFailed));
    wire::Message<ListResponse> response;
    auto* out =
        wire::set_array(response->federation_relationships, response->federation_relationships_count, page.size());
    const auto* mask = wire::mask_of(request.has_output_mask, request.output_mask);
    for (size_t i = 0; i < page.size(); ++i) {
      const auto written = write_with_bundle(snapshot, out[i], page[i], mask);
      if (!written) return refuse(Error(written.error()).within(kFailed));
    }
    if (paged && !page.empty()) wire::set_string(response->next_page_token, name_token(page.back().trust_domain));
    reply(response);
  }
  Context& context_;
};

class GetFlow final : public wire::UnaryFlow<GetRequest, spire_api_types_FederationRelationship> {
 public:
  GetFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const GetRequest& request) override {
    const auto trust_domain = TrustDomain::parse(wire::view(request.trust_domain));
    if (!trust_domain) {
      return refuse({Code::invalid_argument, "failed to parse trust domain: " + trust_domain.error().message});
    }
    const Snapshot snapshot = context_.store.read();
    const auto found = find_relationship(snapshot, *trust_domain);
    if (!found && found.error().code == Code::not_found) {
      return refuse({Code::not_found, "federation relationship does not exist"});
    }
    if (!found) return refuse({Code::internal, "failed to fetch federation relationship: " + found.error().message});
    wire::Message<spire_api_types_FederationRelationship> response;
    const auto written =
        write_with_bundle(snapshot, *response, *found, wire::mask_of(request.has_output_mask, request.output_mask));
    if (!written)
      return refuse({Code::internal, "failed to fetch federation relationship: " + written.error().message});
    reply(response);
  }
  Context& context_;
};

class RefreshFlow final : public wire::UnaryFlow<RefreshRequest, google_protobuf_Empty> {
 public:
  RefreshFlow(Context& context, BundleRefresher& refresher, wire::ServerCall& call)
      : UnaryFlow(call), context_(context), refresher_(refresher) {}

 private:
  void handle(const RefreshRequest& request) override {
    auto trust_domain = TrustDomain::parse(wire::view(request.trust_domain));
    if (!trust_domain) {
      return refuse({Code::invalid_argument, "failed to parse trust domain: " + trust_domain.error().message});
    }
    trust_domain_ = std::move(*trust_domain);
    Done<void> done = refreshed_.then<&RefreshFlow::on_refreshed>(this);
    if (refresher_.refresh(trust_domain_, done)) return;
    refreshed_.drop();
    refuse({Code::not_found, "no relationship with trust domain \"" + trust_domain_.name() + "\""});
  }
  void on_refreshed(Result<void> refreshed) {
    if (!refreshed) return refuse({Code::internal, "failed to refresh bundle: " + refreshed.error().message});
    context_.logger.info("Bundle refreshed", {{"trust_domain", trust_domain_.name()}});
    reply({});
  }

  Context& context_;
  BundleRefresher& refresher_;
  TrustDomain trust_domain_;
  Pending<void> refreshed_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> TrustDomainApi::open(wire::ServerCall& call, const Caller&) {
  std::string_view method = call.method();
  method.remove_prefix(method.rfind('/') + 1);
  if (method == "ListFederationRelationships") return std::make_unique<ListFlow>(context_, call);
  if (method == "GetFederationRelationship") return std::make_unique<GetFlow>(context_, call);
  if (method == "BatchCreateFederationRelationship") return open_create_relationships(context_, call);
  if (method == "BatchUpdateFederationRelationship") return open_update_relationships(context_, call);
  if (method == "BatchDeleteFederationRelationship") return open_delete_relationships(context_, call);
  if (method == "RefreshBundle") return std::make_unique<RefreshFlow>(context_, refresher_, call);
  return nullptr;
}

}  // namespace limpet::server
