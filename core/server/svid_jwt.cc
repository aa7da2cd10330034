// SPDX-License-Identifier: Apache-2.0
// MintJWTSVID for administrators, who name the identity, and NewJWTSVID for agents, whose entry names it.
#include <algorithm>

#include "proto/spire_svid.pb.h"
#include "server/svid_api.h"
#include "server/unimplemented.h"
#include "server/wire_values.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

constexpr const char* kDisabled = "JWT functionality is disabled";

// What both share: the audience, the signature, the answer.
template <class Request, class Response>
class JwtSvidFlow : public wire::UnaryFlow<Request, Response> {
 public:
  JwtSvidFlow(Context& context, wire::ServerCall& call) : wire::UnaryFlow<Request, Response>(call), context_(context) {}

 protected:
  void sign(JwtRequest jwt, const Request& request) {
    for (const char* one : wire::items(request.audience, request.audience_count))
      jwt.audience.emplace_back(wire::view(one));
    std::erase(jwt.audience, std::string());
    if (jwt.audience.empty()) return this->refuse({Code::invalid_argument, "at least one audience is required"});
    if (jwt.ttl == 0) jwt.ttl = context_.config.default_jwt_svid_ttl_s;
    id_ = jwt.id;
    context_.jwt->sign(jwt, signed_.template then<&JwtSvidFlow::on_signed>(this));
  }
  Context& context_;

 private:
  void on_signed(Result<SignedJwt> jwt) {
    if (!jwt) return this->refuse(not_signed("failed to sign JWT-SVID", jwt.error()));
    wire::Message<Response> response;
    response->has_svid = true;
    wire::set_string(response->svid.token, jwt->token);
    wire::write_id(response->svid.has_id, response->svid.id, id_);
    response->svid.expires_at = jwt->expires_at;
    response->svid.issued_at = jwt->issued_at;
    this->reply(response, true);
  }
  SpiffeId id_;
  Pending<SignedJwt> signed_;
};

class MintJwtSvidFlow final
    : public JwtSvidFlow<spire_api_server_svid_v1_MintJWTSVIDRequest, spire_api_server_svid_v1_MintJWTSVIDResponse> {
 public:
  using JwtSvidFlow::JwtSvidFlow;

 private:
  void handle(const spire_api_server_svid_v1_MintJWTSVIDRequest& request) override {
    auto id = wire::read_id(request.has_id, request.id);
    if (id) {
      if (auto good = check_workload_id(*id, context_.trust_domain); !good) id = std::unexpected(good.error());
    }
    if (!id) return refuse(Error{Code::invalid_argument, "invalid SPIFFE ID: " + id.error().message});
    if (request.ttl < 0) return refuse({Code::invalid_argument, "ttl cannot be negative"});
    sign({std::move(*id), {}, request.ttl, false}, request);
  }
};

class NewJwtSvidFlow final
    : public JwtSvidFlow<spire_api_server_svid_v1_NewJWTSVIDRequest, spire_api_server_svid_v1_NewJWTSVIDResponse> {
 public:
  NewJwtSvidFlow(Context& context, wire::ServerCall& call, const Caller& caller)
      : JwtSvidFlow(context, call), caller_(caller) {}

 private:
  // 1. asked
  void handle(const spire_api_server_svid_v1_NewJWTSVIDRequest& request) override {
    request_ = &request;
    context_.limits.sign_jwt.wait(call().peer().address.ip, 1, call().time_left_ms(),
                                  allowed_.then<&NewJwtSvidFlow::on_allowed>(this));
  }
  // 2. its turn has come
  void on_allowed(Result<void> allowed) {
    if (!allowed)
      return refuse(std::move(allowed).error().within("rejecting request due to JWT signing request rate limiting"));
    const std::string_view id = wire::view(request_->entry_id);
    if (id.empty()) return refuse({Code::invalid_argument, "missing entry ID"});
    const auto entries = context_.index.authorized(caller_.id, caller_.agent_selectors);
    const auto entry = std::ranges::find_if(entries, [id](const Entry* one) { return one->id == id; });
    if (entry == entries.end()) return refuse({Code::not_found, "entry not found or not authorized"});
    sign({(*entry)->spiffe_id, {}, (*entry)->jwt_svid_ttl, (*entry)->jwt_svid_include_jti}, *request_);
  }

  const Caller& caller_;
  const spire_api_server_svid_v1_NewJWTSVIDRequest* request_ = nullptr;  // lives as long as this flow
  Pending<void> allowed_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_mint_jwt_svid(Context& context, wire::ServerCall& call) {
  if (context.jwt == nullptr) return std::make_unique<UnimplementedFlow>(call, kDisabled);
  return std::make_unique<MintJwtSvidFlow>(context, call);
}

std::unique_ptr<wire::ServerFlow> open_new_jwt_svid(Context& context, wire::ServerCall& call, const Caller& caller) {
  if (context.jwt == nullptr) return std::make_unique<UnimplementedFlow>(call, kDisabled);
  return std::make_unique<NewJwtSvidFlow>(context, call, caller);
}

}  // namespace limpet::server
