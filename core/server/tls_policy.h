// SPDX-License-Identifier: Apache-2.0
#pragma once
// Whom the TCP endpoint is and whom it accepts (wire notes 1.1): its own SVID; clients without a certificate, clients
// of its own trust domain, and foreign IDs that stand in admin_ids. Owned by Server; the verifier it hands out is an
// immutable snapshot that workers use.

#include <memory>
#include <set>
#include <string>

#include "base/clock.h"
#include "server/bundle_cache.h"
#include "server/server_svid.h"
#include "wire/tls.h"

namespace limpet::server {

class ServerTlsPolicy final : public wire::TlsPolicy {
 public:
  ServerTlsPolicy(const Clock& clock, const ServerSvid& svid, const BundleCache& bundles, TrustDomain trust_domain,
                  const std::vector<std::string>& admin_ids);
  std::shared_ptr<const wire::TlsIdentity> identity() override { return svid_.identity(); }
  std::shared_ptr<const wire::PeerVerifier> verifier() override;
  void set_admin_ids(const std::vector<std::string>& admin_ids) {  // for handshakes to come
    admin_ids_ = std::make_shared<const std::set<std::string>>(admin_ids.begin(), admin_ids.end());
  }

 private:
  const Clock& clock_;
  const ServerSvid& svid_;
  const BundleCache& bundles_;
  TrustDomain trust_domain_;
  // Owners: this policy and the verifiers of handshakes in flight; replaced, never changed.
  std::shared_ptr<const std::set<std::string>> admin_ids_;
};

}  // namespace limpet::server
