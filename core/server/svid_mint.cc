// SPDX-License-Identifier: Apache-2.0
// MintX509SVID: an administrator's CSR decides ID, subject and DNS names.
#include <algorithm>
#include <set>

#include "proto/spire_svid.pb.h"
#include "server/csr_check.h"
#include "server/svid_api.h"
#include "server/wire_values.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

Error invalid(std::string message) { return {Code::invalid_argument, std::move(message)}; }

// Each name once and well-formed; no wildcard beside a name that it covers.
Result<void> check_dns_names(const std::vector<std::string>& names) {
  std::set<std::string> seen;
  for (const std::string& name : names) {
    if (auto good = check_dns_name(name); !good)
      return fail(invalid("CSR DNS name is not valid: " + good.error().message));
    if (!seen.insert(name).second) return fail(invalid("CSR DNS name is not unique: " + name));
  }
  for (const std::string& name : names) {
    size_t dot = name.find('.');
    if (name.starts_with("*.") || dot == std::string::npos) continue;
    if (seen.contains("*" + name.substr(dot))) {
      return fail(invalid("CSR DNS name contains a wildcard that covers another non-wildcard name: " + name));
    }
  }
  return {};
}

class MintX509SvidFlow final : public wire::UnaryFlow<spire_api_server_svid_v1_MintX509SVIDRequest,
                                                      spire_api_server_svid_v1_MintX509SVIDResponse> {
 public:
  MintX509SvidFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  // 1. asked
  void handle(const spire_api_server_svid_v1_MintX509SVIDRequest& request) override {
    BytesView csr = wire::view(request.csr);
    if (csr.empty()) return refuse(invalid("missing CSR"));
    if (request.ttl < 0) return refuse(invalid("ttl cannot be negative"));
    ttl_ = request.ttl != 0 ? request.ttl : context_.config.default_x509_svid_ttl_s;
    context_.loop.work(
        [der = to_bytes(csr)] { return check_csr(der, "malformed CSR", "failed to verify CSR signature"); },
        checked_.then<&MintX509SvidFlow::on_checked>(this));
  }
  // 2. the CSR is sound: what does it ask for?
  void on_checked(Result<CheckedCsr> checked) {
    if (!checked) return refuse(std::move(checked).error());
    Csr& csr = checked->csr;
    if (csr.uris.empty()) return refuse(invalid("CSR URI SAN is required"));
    if (csr.uris.size() > 1) return refuse(invalid("only one URI SAN is expected"));
    auto id = SpiffeId::parse(csr.uris.front());
    if (!id) return refuse(invalid("CSR URI SAN is invalid: " + id.error().message));
    if (auto good = check_workload_id(*id, context_.trust_domain); !good) {
      return refuse(invalid("CSR URI SAN is invalid: " + good.error().message));
    }
    if (auto good = check_dns_names(csr.dns_names); !good) return refuse(std::move(good).error());
    id_ = std::move(*id);
    SvidRequest svid;
    svid.id = id_;
    svid.spki = csr.key.spki();
    svid.subject_key_id = std::move(checked->key_id);
    svid.ttl = ttl_;
    svid.subject = std::move(csr.subject);
    svid.dns_names = std::move(csr.dns_names);
    context_.ca.sign(std::move(svid), signed_.then<&MintX509SvidFlow::on_signed>(this));
  }
  // 3. signed
  void on_signed(Result<SignedSvid> svid) {
    if (!svid) return refuse(not_signed("failed to sign X509-SVID", svid.error()));
    wire::Message<spire_api_server_svid_v1_MintX509SVIDResponse> response;
    response->has_svid = true;
    write_svid(response->svid, *svid, id_);
    reply(response);
  }

  Context& context_;
  int64_t ttl_ = 0;
  SpiffeId id_;
  Pending<CheckedCsr> checked_;
  Pending<SignedSvid> signed_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_mint_x509_svid(Context& context, wire::ServerCall& call) {
  return std::make_unique<MintX509SvidFlow>(context, call);
}

}  // namespace limpet::server
