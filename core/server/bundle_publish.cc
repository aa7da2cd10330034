// SPDX-License-Identifier: Apache-2.0
// PublishJWTAuthority: the JWT key of a server below goes into the own bundle, and before that to the server above this
// one, so that the whole tree knows it before it signs.
#include <algorithm>

#include "proto/spire_bundle.pb.h"
#include "server/bundle_api.h"
#include "server/bundle_drafts.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

using Request = spire_api_server_bundle_v1_PublishJWTAuthorityRequest;
using Response = spire_api_server_bundle_v1_PublishJWTAuthorityResponse;

class PublishJwtAuthorityFlow final : public wire::UnaryFlow<Request, Response> {
 public:
  PublishJwtAuthorityFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  // 1. asked
  void handle(const Request& request) override {
    request_ = &request;
    context_.limits.publish_jwt.wait(call().peer().address.ip, 1, call().time_left_ms(),
                                     allowed_.then<&PublishJwtAuthorityFlow::on_allowed>(this));
  }
  // 2. its turn has come
  void on_allowed(Result<void> allowed) {
    if (!allowed)
      return refuse(std::move(allowed).error().within("rejecting request due to key publishing rate limiting"));
    if (!request_->has_jwt_authority) return refuse({Code::invalid_argument, "missing JWT authority"});
    auto key = wire::read_jwt_authority(request_->jwt_authority);
    if (!key) return refuse({Code::invalid_argument, "invalid JWT authority: " + key.error().message});
    key_ = std::move(*key);
    Bundle own;
    if (context_.bundles.own() != nullptr) own = *context_.bundles.own();
    if (key_.expires_at != 0 && key_.expires_at <= context_.clock.now()) {
      context_.logger.warn("Expired JWT key of a downstream server dropped",
                           {{"caller_addr", call().peer().address.text()}, {"kid", key_.key_id}});
      return answer(own);
    }
    // before the server above takes what this one has no room for
    if (auto room = add(own, key_); !room) return refuse_failed(room.error());
    if (context_.upstream == nullptr) return append();
    context_.upstream->publish_jwt_key({key_.key_id, key_.spki, key_.expires_at, key_.tainted},
                                       published_.then<&PublishJwtAuthorityFlow::on_published>(this));
  }
  // 3. known above, or the one above takes no keys
  void on_published(Result<void> published) {
    if (!published && published.error().code != Code::unimplemented)
      return refuse({Code::internal, "failed to publish JWT key: " + published.error().message});
    append();
  }
  void append() {
    context_.bundles.edit_own([key = key_](Bundle& bundle, ChangeSet&) { return add(bundle, key); },
                              appended_.then<&PublishJwtAuthorityFlow::on_appended>(this));
  }
  static Result<bool> add(Bundle& bundle, const JwtAuthority& key) {
    if (std::ranges::find(bundle.jwt_authorities, key.key_id, &JwtAuthority::key_id) != bundle.jwt_authorities.end())
      return false;
    const Bundle before = bundle;
    bundle.jwt_authorities.push_back(key);
    TRY(check_own_growth(before, bundle));
    return true;
  }
  // 4. stored: all keys of the trust domain
  void on_appended(Result<Bundle> bundle) {
    if (!bundle) return refuse_failed(bundle.error());
    context_.logger.info("JWT key of a downstream server published",
                         {{"caller_addr", call().peer().address.text()}, {"kid", key_.key_id}});
    answer(*bundle);
  }
  void refuse_failed(const Error& why) {
    const bool full = why.code == Code::resource_exhausted;
    refuse({full ? Code::resource_exhausted : Code::internal, "failed to publish JWT key: " + why.message});
  }
  void answer(const Bundle& bundle) {
    wire::Message<Response> response;
    const auto& keys = bundle.jwt_authorities;
    auto* out = wire::set_array(response->jwt_authorities, response->jwt_authorities_count, keys.size());
    for (pb_size_t i = 0; i < response->jwt_authorities_count; ++i) wire::write_jwt_authority(out[i], keys[i]);
    reply(response);
  }

  Context& context_;
  const Request* request_ = nullptr;  // lives as long as this flow
  JwtAuthority key_;
  Pending<void> allowed_;
  Pending<void> published_;
  Pending<Bundle> appended_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_publish_jwt_authority(Context& context, wire::ServerCall& call) {
  return std::make_unique<PublishJwtAuthorityFlow>(context, call);
}

}  // namespace limpet::server
