// SPDX-License-Identifier: Apache-2.0
// NewDownstreamX509CA: a CA certificate for a server below this one. Of its CSR only the key counts; that the caller
// has a downstream entry was checked at the gate.
#include "proto/spire_svid.pb.h"
#include "server/csr_check.h"
#include "server/svid_api.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

using Request = spire_api_server_svid_v1_NewDownstreamX509CARequest;
using Response = spire_api_server_svid_v1_NewDownstreamX509CAResponse;

class NewDownstreamX509CaFlow final : public wire::UnaryFlow<Request, Response> {
 public:
  NewDownstreamX509CaFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  // 1. asked
  void handle(const Request& request) override {
    if (request.preferred_ttl < 0) return refuse({Code::invalid_argument, "preferred_ttl cannot be negative"});
    csr_ = wire::view(request.csr);
    ca_.ttl = request.preferred_ttl != 0 ? request.preferred_ttl : context_.config.ca_ttl_s;
    context_.limits.sign_x509.wait(call().peer().address.ip, 1, call().time_left_ms(),
                                   allowed_.then<&NewDownstreamX509CaFlow::on_allowed>(this));
  }
  // 2. its turn has come
  void on_allowed(Result<void> allowed) {
    if (!allowed) {
      return refuse(std::move(allowed).error().within("rejecting request due to downstream CA signing rate limit"));
    }
    context_.loop.work([der = to_bytes(csr_)] { return check_csr(der, "malformed CSR", "invalid CSR signature"); },
                       checked_.then<&NewDownstreamX509CaFlow::on_checked>(this));
  }
  // 3. the key is the caller's
  void on_checked(Result<CheckedCsr> checked) {
    if (!checked) return refuse(std::move(checked).error());
    ca_.spki = checked->csr.key.spki();
    authority_id_ = hex_encode(checked->key_id);
    ca_.subject_key_id = std::move(checked->key_id);
    context_.ca.sign_downstream(std::move(ca_), signed_.then<&NewDownstreamX509CaFlow::on_signed>(this));
  }
  // 4. signed: the chain without its root, and every root of the trust domain, those that are tainted too
  void on_signed(Result<SignedSvid> ca) {
    if (!ca) return refuse(not_signed("failed to sign downstream X.509 CA", ca.error()));
    const Bundle* bundle = context_.bundles.own();
    if (bundle == nullptr) return refuse({Code::not_found, "bundle not found"});
    wire::Message<Response> response;
    auto* chain = wire::set_array(response->ca_cert_chain, response->ca_cert_chain_count, ca->chain.size());
    for (size_t i = 0; i < ca->chain.size(); i++) wire::set_bytes(chain[i], ca->chain[i]);
    const auto& roots = bundle->x509_authorities;
    auto* authorities = wire::set_array(response->x509_authorities, response->x509_authorities_count, roots.size());
    for (size_t i = 0; i < roots.size(); i++) wire::set_bytes(authorities[i], roots[i].der);
    context_.logger.info("Downstream X509 CA signed", {{"caller_addr", call().peer().address.text()},
                                                       {"authority_id", authority_id_},
                                                       {"expiration", TimeText(ca->expires_at).rfc3339()}});
    reply(response);
  }

  Context& context_;
  BytesView csr_;  // in the request, which lives as long as this flow
  DownstreamCaRequest ca_;
  std::string authority_id_;
  Pending<void> allowed_;
  Pending<CheckedCsr> checked_;
  Pending<SignedSvid> signed_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_new_downstream_x509_ca(Context& context, wire::ServerCall& call) {
  return std::make_unique<NewDownstreamX509CaFlow>(context, call);
}

}  // namespace limpet::server
