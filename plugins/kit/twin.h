// SPDX-License-Identifier: Apache-2.0
#pragma once
// ECDSA takes (r, n - s) wherever it takes (r, s). So whoever has a certificate can make a second one of it that is as
// valid and has another fingerprint: its twin. There is just one, because a signature is taken in one encoding only.
// Attestors that name agents by the fingerprint ask whether the twin has attested; else a banned agent would come back.

#include <string>

#include "crypto/x509.h"
#include "kit/host_wait.h"

namespace limpet::kit {

// n - s on the curve with this many bits. INVALID_ARGUMENT: s is larger than n, or there is no such curve.
Result<Bytes> negate_mod_order(BytesView s, uint32_t curve_bits);

// The twin as DER, of a certificate that `issuer` has signed; empty where there is none (RSA). INVALID_ARGUMENT: the
// signature is not written as DER wants it, so there would be more of them.
Result<Bytes> certificate_twin(const Certificate& certificate, const PublicKey& issuer);

// Asks limpet.agent-store/1 from a BLOCKING plugin's own thread. Member of the instance.
class TwinCheck : public HostWait {
 public:
  explicit TwinCheck(const limpet_host* host);
  [[nodiscard]] bool offered() const { return service_ != nullptr; }
  // Plugin's thread. `twin_path`: as an agent's path; empty: there is no twin. PERMISSION_DENIED: an agent of this ID
  // is known, banned or not: two IDs for one certificate would outlive the ban of one. INTERNAL: the store failed. Else
  // as HostWait.
  Result<void> refuse_known(const std::string& trust_domain, const std::string& twin_path);

 private:
  const limpet_agent_store_service* service_;
};

}  // namespace limpet::kit
