// SPDX-License-Identifier: Apache-2.0
#pragma once
// What an upstream authority answered, judged before it is used: a CA certificate that signs what nobody can verify
// would be worse than the old one. Pure; burns CPU: worker.

#include <string>
#include <vector>

#include "crypto/x509.h"
#include "plugin/upstream_authority.h"
#include "spiffe/id.h"

namespace limpet::server {

struct CheckedCa {
  Certificate certificate;
  std::vector<Bytes> chain;  // the certificate first, without the root
  std::vector<Bytes> roots;  // all that the upstream named
  std::string upstream_id;   // hex of the subject key id of the root above it
};

// The certificate must be for `key`, a CA that may sign certificates, name nothing but the trust domain, not have
// expired at `now`, and lead to one of the roots. FAILED_PRECONDITION says what is wrong.
Result<CheckedCa> check_minted(const MintedCa& minted, const PublicKey& key, const TrustDomain& trust_domain,
                               int64_t now);

}  // namespace limpet::server
