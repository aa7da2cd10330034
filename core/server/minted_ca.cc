// SPDX-License-Identifier: Apache-2.0
#include "server/minted_ca.h"

#include <algorithm>

namespace limpet::server {
namespace {

std::unexpected<Error> bad(const std::string& why) {
  return fail(Code::failed_precondition, "the CA certificate that the upstream authority signed is not usable: " + why);
}

// Wire notes 11: keyCertSign, and besides it only cRLSign and digitalSignature.
Result<void> check_profile(const Certificate& ca, const PublicKey& key, const TrustDomain& trust_domain, int64_t now) {
  constexpr uint16_t kAllowed = kKeyCertSign | kCrlSign | kDigitalSignature;
  if (!(ca.key == key)) return bad("it is for another key");
  if (!ca.ca) return bad("it is not a CA");
  if ((ca.key_usage & kKeyCertSign) == 0) return bad("it has no key usage keyCertSign");
  if ((ca.key_usage & ~kAllowed) != 0) return bad("it has a key usage beside keyCertSign, cRLSign, digitalSignature");
  if (!ca.uris.empty() && ca.uris != std::vector<std::string>{trust_domain.id()})
    return bad("its URI SAN is not " + trust_domain.id());
  if (ca.subject_key_id.empty()) return bad("it has no subject key identifier");
  if (ca.not_after <= now) return bad("it has expired already");
  return {};
}

}  // namespace

Result<CheckedCa> check_minted(const MintedCa& minted, const PublicKey& key, const TrustDomain& trust_domain,
                               int64_t now) {
  CheckedCa out{{}, minted.chain, minted.roots, {}};
  TRY_ASSIGN_WITHIN("chain of the upstream authority", std::vector<Certificate> chain, parse_chain(minted.chain));
  TRY_ASSIGN_WITHIN("roots of the upstream authority", const std::vector<Certificate> roots, parse_chain(minted.roots));
  if (chain.empty() || roots.empty()) return bad("its chain or its root is missing");
  TRY(check_profile(chain.front(), key, trust_domain, now));
  for (size_t i = 0; i + 1 < chain.size(); ++i) {
    if (!chain[i].verify_signed_by(chain[i + 1]))
      return bad("certificate " + std::to_string(i + 1) + " of its chain is not signed by the next one");
    if (chain[i + 1].not_after <= now) return bad("an intermediate certificate of its chain has expired");
  }
  const Certificate& last = chain.back();
  const auto root = std::ranges::find_if(
      roots, [&](const Certificate& r) { return r.subject == last.issuer && last.verify_signed_by(r); });
  if (root == roots.end()) return bad("its chain leads to none of the upstream authority's roots");
  if (root->not_after <= now) return bad("the root above it has expired");
  out.upstream_id = hex_encode(root->subject_key_id);
  out.certificate = std::move(chain.front());
  return out;
}

}  // namespace limpet::server
