// SPDX-License-Identifier: Apache-2.0
#include "server/bundle_api.h"

#include <algorithm>

#include "proto/spire_bundle.pb.h"
#include "server/bundle_drafts.h"
#include "server/federated_bundles.h"
#include "server/unimplemented.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

using CountRequest = spire_api_server_bundle_v1_CountBundlesRequest;
using CountResponse = spire_api_server_bundle_v1_CountBundlesResponse;
using GetRequest = spire_api_server_bundle_v1_GetBundleRequest;
using AppendRequest = spire_api_server_bundle_v1_AppendBundleRequest;

class CountBundlesFlow final : public wire::UnaryFlow<CountRequest, CountResponse> {
 public:
  CountBundlesFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const CountRequest&) override {
    wire::Message<CountResponse> response;
    response->count = static_cast<int32_t>(context_.bundles.count());
    reply(response);
  }
  Context& context_;
};

class GetBundleFlow final : public wire::UnaryFlow<GetRequest, spire_api_types_Bundle> {
 public:
  GetBundleFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const GetRequest& request) override {
    const Bundle* bundle = context_.bundles.own();
    if (bundle == nullptr) return refuse({Code::not_found, "bundle not found"});
    wire::Message<spire_api_types_Bundle> response;
    wire::write_bundle(*response, *bundle, wire::mask_of(request.has_output_mask, request.output_mask));
    reply(response);
  }
  Context& context_;
};

class AppendBundleFlow final : public wire::UnaryFlow<AppendRequest, spire_api_types_Bundle> {
 public:
  AppendBundleFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const AppendRequest& request) override {
    if (request.x509_authorities_count == 0 && request.jwt_authorities_count == 0) {
      return refuse({Code::invalid_argument, "no authorities to append"});
    }
    auto roots = wire::read_x509_authorities(request.x509_authorities, request.x509_authorities_count);
    if (!roots) return refuse({Code::invalid_argument, "failed to convert X.509 authority: " + roots.error().message});
    auto keys = wire::read_jwt_authorities(request.jwt_authorities, request.jwt_authorities_count);
    if (!keys) return refuse({Code::invalid_argument, "failed to convert JWT authority: " + keys.error().message});
    mask_ = wire::mask_of(request.has_output_mask, request.output_mask);
    context_.bundles.edit_own(
        [roots = std::move(*roots), keys = std::move(*keys)](Bundle& bundle, ChangeSet&) -> Result<bool> {
          const Bundle before = bundle;
          merge(bundle.x509_authorities, roots);
          merge(bundle.jwt_authorities, keys);
          TRY(check_own_growth(before, bundle));
          return true;
        },
        appended_.then<&AppendBundleFlow::on_appended>(this));
  }
  // What is not there yet; equal ones stay as they are.
  template <class T>
  static void merge(std::vector<T>& have, const std::vector<T>& more) {
    for (const T& item : more) {
      if (std::ranges::find(have, item) == have.end()) have.push_back(item);
    }
  }
  void on_appended(Result<Bundle> bundle) {
    if (!bundle) {
      const bool full = bundle.error().code == Code::resource_exhausted;
      return refuse(
          {full ? Code::resource_exhausted : Code::internal, "failed to append bundle: " + bundle.error().message});
    }
    context_.logger.info("Bundle appended to", {{"trust_domain", bundle->trust_domain.name()},
                                                {"sequence_number", std::to_string(bundle->sequence_number)}});
    wire::Message<spire_api_types_Bundle> response;
    wire::write_bundle(*response, *bundle, mask_);
    reply(response);
  }

  Context& context_;
  const spire_api_types_BundleMask* mask_ = nullptr;  // in the request, which lives as long as this flow
  Pending<Bundle> appended_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> BundleApi::open(wire::ServerCall& call, const Caller&) {
  std::string_view method = call.method();
  method.remove_prefix(method.rfind('/') + 1);
  if (method == "GetBundle") return std::make_unique<GetBundleFlow>(context_, call);
  if (method == "CountBundles") return std::make_unique<CountBundlesFlow>(context_, call);
  if (method == "AppendBundle") return std::make_unique<AppendBundleFlow>(context_, call);
  if (method == "PublishJWTAuthority") return open_publish_jwt_authority(context_, call);
  if (method == "PublishWITAuthority")
    return std::make_unique<UnimplementedFlow>(call, "publishing WIT authorities is not implemented");
  if (method == "ListFederatedBundles") return open_list_federated(context_, call);
  if (method == "GetFederatedBundle") return open_get_federated(context_, call);
  if (method == "BatchCreateFederatedBundle") return open_create_federated(context_, call);
  if (method == "BatchUpdateFederatedBundle") return open_update_federated(context_, call);
  if (method == "BatchSetFederatedBundle") return open_set_federated(context_, call);
  if (method == "BatchDeleteFederatedBundle") return open_delete_federated(context_, call);
  return nullptr;
}

}  // namespace limpet::server
