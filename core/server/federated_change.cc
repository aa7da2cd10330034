// SPDX-License-Identifier: Apache-2.0
// BatchCreateFederatedBundle, BatchUpdateFederatedBundle and BatchSetFederatedBundle: each item is judged against the
// store and what the items before it do, then all of them are one change set. If another commit came between, the batch
// is judged anew.
#include <map>

#include "proto/spire_bundle.pb.h"
#include "server/bundle_drafts.h"
#include "server/federated_bundles.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

constexpr int kAttempts = 8;  // how often a batch is judged anew

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
class ChangeFlow final : public wire::UnaryFlow<Request, Response> {
 public:
  ChangeFlow(Context& context, wire::ServerCall& call) : wire::UnaryFlow<Request, Response>(call), context_(context) {}

 private:
  void handle(const Request& request) override {
    request_ = &request;
    attempt();
  }
  // 1. judge every item, write what they add up to
  void attempt() {
    ++attempts_;
    outcomes_.clear();
    ChangeSet changes;
    {
      const Snapshot snapshot = context_.store.read();
      BundleDrafts drafts(snapshot);
      for (const auto& item : wire::items(request_->bundle, request_->bundle_count)) {
        outcomes_.push_back(judge(item, drafts));
      }
      drafts.write(changes);
    }
    if (changes.empty()) return answer();
    context_.store.commit(std::move(changes), committed_.template then<&ChangeFlow::on_committed>(this));
  }
  Outcome judge(const spire_api_types_Bundle& item, BundleDrafts& drafts) {
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
      bundle = merged(**known, std::move(*bundle), input_mask());
    }
    drafts.put(*bundle);
    return {std::nullopt, std::move(*bundle)};
  }
  const spire_api_types_BundleMask* input_mask() const {
    if constexpr (kVerb == Verb::update) return wire::mask_of(request_->has_input_mask, request_->input_mask);
    return nullptr;
  }
  static std::string failed() { return kFailed[static_cast<size_t>(kVerb)]; }

  // 2. written, or somebody else was faster
  void on_committed(Result<uint64_t> revision) {
    if (!revision && revision.error().code == Code::aborted && attempts_ < kAttempts) return attempt();
    if (!revision) {
      for (Outcome& outcome : outcomes_) {
        if (!outcome.error) outcome.error = Error{Code::internal, failed() + ": " + revision.error().message};
      }
    }
    answer();
  }
  void answer() {
    wire::Message<Response> response;
    const auto* mask = wire::mask_of(request_->has_output_mask, request_->output_mask);
    auto* out = wire::set_array(response->results, response->results_count, outcomes_.size());
    for (size_t i = 0; i < outcomes_.size(); ++i) {
      if (outcomes_[i].error) {
        wire::write_error(out[i].has_status, out[i].status, *outcomes_[i].error);
        continue;
      }
      wire::write_ok(out[i].has_status, out[i].status);
      out[i].has_bundle = true;
      wire::write_bundle(out[i].bundle, outcomes_[i].bundle, mask);
      context_.logger.info("Federated bundle stored", {{"trust_domain", outcomes_[i].bundle.trust_domain.name()}});
    }
    this->reply(response);
  }

  Context& context_;
  const Request* request_ = nullptr;
  std::vector<Outcome> outcomes_;
  Pending<uint64_t> committed_;
  int attempts_ = 0;
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
