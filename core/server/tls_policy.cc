// SPDX-License-Identifier: Apache-2.0
#include "server/tls_policy.h"

namespace limpet::server {
namespace {

class ClientVerifier final : public wire::PeerVerifier {
 public:
  ClientVerifier(const Clock& clock, std::shared_ptr<const BundleSet> roots, TrustDomain trust_domain,
                 std::shared_ptr<const std::set<std::string>> admin_ids)
      : clock_(clock),
        roots_(std::move(roots)),
        trust_domain_(std::move(trust_domain)),
        admin_ids_(std::move(admin_ids)) {}

  [[nodiscard]] Result<void> verify(const std::vector<Bytes>& chain) const override {
    if (chain.empty()) return {};
    TRY_ASSIGN(std::vector<Certificate> certificates, parse_chain(chain));
    TRY_ASSIGN(SpiffeId id, verify_chain(certificates, *roots_, clock_.now()));
    if (id.member_of(trust_domain_) || admin_ids_->contains(id.text())) return {};
    return fail(Code::unauthenticated, "unexpected trust domain \"" + id.trust_domain().name() + "\"");
  }

 private:
  const Clock& clock_;
  std::shared_ptr<const BundleSet> roots_;
  TrustDomain trust_domain_;
  std::shared_ptr<const std::set<std::string>> admin_ids_;
};

}  // namespace

ServerTlsPolicy::ServerTlsPolicy(const Clock& clock, const ServerSvid& svid, const BundleCache& bundles,
                                 TrustDomain trust_domain, const std::vector<std::string>& admin_ids)
    : clock_(clock),
      svid_(svid),
      bundles_(bundles),
      trust_domain_(std::move(trust_domain)),
      admin_ids_(std::make_shared<const std::set<std::string>>(admin_ids.begin(), admin_ids.end())) {}

std::shared_ptr<const wire::PeerVerifier> ServerTlsPolicy::verifier() {
  return std::make_shared<ClientVerifier>(clock_, bundles_.roots(), trust_domain_, admin_ids_);
}

}  // namespace limpet::server
