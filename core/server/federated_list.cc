// SPDX-License-Identifier: Apache-2.0
// ListFederatedBundles and GetFederatedBundle.
#include "proto/spire_bundle.pb.h"
#include "server/federated_bundles.h"
#include "server/name_pages.h"
#include "server/wire_values.h"
#include "store/bundles.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

using ListRequest = spire_api_server_bundle_v1_ListFederatedBundlesRequest;
using ListResponse = spire_api_server_bundle_v1_ListFederatedBundlesResponse;
using GetRequest = spire_api_server_bundle_v1_GetFederatedBundleRequest;

class ListFederatedFlow final : public wire::UnaryFlow<ListRequest, ListResponse> {
 public:
  ListFederatedFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const ListRequest& request) override {
    const bool paged = request.page_size > 0;
    const size_t limit = page_limit(request.page_size);
    const auto after = parse_name_token(paged ? wire::view(request.page_token) : std::string_view());
    if (!after) return refuse({Code::internal, "failed to list bundles: " + after.error().message});
    std::vector<Bundle> page;
    const auto scanned = scan_bundles(context_.store.read(), *after, [&page, limit](Bundle&& bundle) {
      page.push_back(std::move(bundle));
      return page.size() < limit;
    });
    if (!scanned) return refuse(Error(scanned.error()).within("failed to list bundles"));
    if (!paged && page.size() >= limit) return refuse(too_many_items("failed to list bundles"));
    wire::Message<ListResponse> response;
    // the own bundle counts for the page and is then left out, as SPIRE does
    if (paged && !page.empty()) wire::set_string(response->next_page_token, name_token(page.back().trust_domain));
    std::erase_if(page, [this](const Bundle& bundle) { return bundle.trust_domain == context_.trust_domain; });
    auto* out = wire::set_array(response->bundles, response->bundles_count, page.size());
    const auto* mask = wire::mask_of(request.has_output_mask, request.output_mask);
    for (size_t i = 0; i < page.size(); ++i) wire::write_bundle(out[i], page[i], mask);
    reply(response);
  }
  Context& context_;
};

class GetFederatedFlow final : public wire::UnaryFlow<GetRequest, spire_api_types_Bundle> {
 public:
  GetFederatedFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const GetRequest& request) override {
    const auto trust_domain = TrustDomain::parse(wire::view(request.trust_domain));
    if (!trust_domain) {
      return refuse({Code::invalid_argument, "trust domain argument is not valid: " + trust_domain.error().message});
    }
    if (*trust_domain == context_.trust_domain) {
      return refuse(
          {Code::invalid_argument, "getting a federated bundle for the server's own trust domain is not allowed"});
    }
    const auto bundle = find_bundle(context_.store.read(), *trust_domain);
    if (!bundle && bundle.error().code == Code::not_found) return refuse({Code::not_found, "bundle not found"});
    if (!bundle) return refuse({Code::internal, "failed to fetch bundle: " + bundle.error().message});
    wire::Message<spire_api_types_Bundle> response;
    wire::write_bundle(*response, *bundle, wire::mask_of(request.has_output_mask, request.output_mask));
    reply(response);
  }
  Context& context_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_list_federated(Context& context, wire::ServerCall& call) {
  return std::make_unique<ListFederatedFlow>(context, call);
}
std::unique_ptr<wire::ServerFlow> open_get_federated(Context& context, wire::ServerCall& call) {
  return std::make_unique<GetFederatedFlow>(context, call);
}

}  // namespace limpet::server
