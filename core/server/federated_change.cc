// SPDX-License-Identifier: Apache-2.0
// BatchCreateFederatedBundle, BatchUpdateFederatedBundle and BatchSetFederatedBundle: each item is judged against the
// store and what the items before it do, then all of them are one change set. If another commit came between, the batch
// is judged anew.
#include <map>

#include "proto/spire_bundle.pb.h"
#include "server/batch_flow.h"
#include "server/bundle_drafts.h"
#include "server/federated_bundles.h"

namespace limpet::server {
namespace {

enum class Verb { create, update, set };
constexpr const char* kDoing[] = {"creating", "updating", "setting"};
constexpr const char* kFailed[] = {"unable to create bundle", "failed to update bundle", "failed to set bundle"};

struct Outcome {
  std::optional<Error> error;
  Bundle bundle;
};

Outcome failed_item(Code code, std::string message) { return {Error{code, std::move(message)}, {}}; }

// The old bundle with what the mask names taken from the new one; no mask: all of it.
Bundle merged(const Bundle& old, Bundle change, const spire_api_types_BundleMask* mask) {
  if (mask == nullptr) return change;
  Bundle out = old;
  if (mask->x509_authorities) out.x509_authorities = std::move(change.x509_authorities);
  if (mask->jwt_authorities) out.jwt_authorities = std::move(change.jwt_authorities);
  if (mask->refresh_hint) out.refresh_hint = change.refresh_hint;
  if (mask->sequence_number) out.sequence_number = change.sequence_number;
  return out;
}

template <class Request, class Response, Verb kVerb>
class ChangeFlow final : public BatchFlow<Request, Response> {
 public:
  using BatchFlow<Request, Response>::BatchFlow;

 private:
  using BatchFlow<Request, Response>::context_;

  void judge(const Request& request, const Snapshot& snapshot, ChangeSet& changes) override {
    outcomes_.clear();
    BundleDrafts drafts(snapshot);
    for (const auto& item : wire::items(request.bundle, request.bundle_count)) {
      outcomes_.push_back(judge_one(item, input_mask(request), drafts));
    }
    drafts.write(changes);
  }
  Outcome judge_one(const spire_api_types_Bundle& item, const spire_api_types_BundleMask* mask, BundleDrafts& drafts) {
    const auto trust_domain = TrustDomain::parse(wire::view(item.trust_domain));
    if (!trust_domain) {
      return failed_item(Code::invalid_argument, "trust domain argument is not valid: " + trust_domain.error().message);
    }
    if (*trust_domain == context_.trust_domain) {
      return failed_item(Code::invalid_argument,
                         std::string(kDoing[static_cast<size_t>(kVerb)]) +
                             " a federated bundle for the server's own trust domain is not allowed");
    }
    auto bundle = wire::read_bundle(item);
    if (bundle) {
      if (const auto good = check_bundle_size(*bundle); !good) bundle = std::unexpected(good.error());
    }
    if (!bundle) return failed_item(Code::invalid_argument, "failed to convert bundle: " + bundle.error().message);
    auto known = drafts.find(*trust_domain);
    if (!known) return failed_item(Code::internal, failed() + ": " + known.error().message);
    if (kVerb == Verb::create && *known != nullptr) return failed_item(Code::already_exists, "bundle already exists");
    if (kVerb == Verb::update) {
      if (*known == nullptr) return failed_item(Code::not_found, "bundle not found");
      bundle = merged(**known, std::move(*bundle), mask);
    }
    drafts.put(*bundle);
    return {std::nullopt, std::move(*bundle)};
  }
  static const spire_api_types_BundleMask* input_mask(const Request& request) {
    if constexpr (kVerb == Verb::update) return wire::mask_of(request.has_input_mask, request.input_mask);
    return nullptr;
  }
  static std::string failed() { return kFailed[static_cast<size_t>(kVerb)]; }

  void settle(const Result<uint64_t>& revision) override {
    if (revision) return;
    for (Outcome& outcome : outcomes_) {
      if (!outcome.error) outcome.error = Error{Code::internal, failed() + ": " + revision.error().message};
    }
  }
  void write(const Request& request, Response& response) override {
    const auto* mask = wire::mask_of(request.has_output_mask, request.output_mask);
    auto* out = wire::set_array(response.results, response.results_count, outcomes_.size());
    for (size_t i = 0; i < outcomes_.size(); ++i) {
      write_outcome(outcomes_[i].error, out[i]);
      if (outcomes_[i].error) continue;
      out[i].has_bundle = true;
      wire::write_bundle(out[i].bundle, outcomes_[i].bundle, mask);
      context_.logger.info("Federated bundle stored", {{"trust_domain", outcomes_[i].bundle.trust_domain.name()}});
    }
  }

  std::vector<Outcome> outcomes_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_create_federated(Context& context, wire::ServerCall& call) {
  return std::make_unique<ChangeFlow<spire_api_server_bundle_v1_BatchCreateFederatedBundleRequest,
                                     spire_api_server_bundle_v1_BatchCreateFederatedBundleResponse, Verb::create>>(
      context, call);
}
std::unique_ptr<wire::ServerFlow> open_update_federated(Context& context, wire::ServerCall& call) {
  return std::make_unique<ChangeFlow<spire_api_server_bundle_v1_BatchUpdateFederatedBundleRequest,
                                     spire_api_server_bundle_v1_BatchUpdateFederatedBundleResponse, Verb::update>>(
      context, call);
}
std::unique_ptr<wire::ServerFlow> open_set_federated(Context& context, wire::ServerCall& call) {
  return std::make_unique<ChangeFlow<spire_api_server_bundle_v1_BatchSetFederatedBundleRequest,
                                     spire_api_server_bundle_v1_BatchSetFederatedBundleResponse, Verb::set>>(context,
                                                                                                             call);
}

}  // namespace limpet::server
