// SPDX-License-Identifier: Apache-2.0
// Chain verification by SPIFFE rules. A path is searched from the leaf upwards, by name and key identifier; a signature
// is checked only where these fit, and the number of checks is bounded, so that a made-up chain cannot burn the CPU.

#include <algorithm>

#include "base/clock.h"
#include "base/limits.h"
#include "spiffe/bundle.h"

namespace limpet {

namespace {

std::unexpected<Error> refused(std::string reason) {
  return fail(Code::unauthenticated, "x509svid: " + std::move(reason));
}
std::unexpected<Error> bad_path(const char* reason) { return fail(Code::unauthenticated, reason); }

Result<void> check_leaf(const Certificate& leaf) {
  if (leaf.ca) return refused("leaf certificate with CA flag set to true");
  if ((leaf.key_usage & kKeyCertSign) != 0) return refused("leaf certificate with KeyCertSign key usage");
  if ((leaf.key_usage & kCrlSign) != 0) return refused("leaf certificate with KeyCrlSign key usage");
  return {};
}

// What must hold for every certificate of the path.
Result<void> check_certificate(const Certificate& certificate, int64_t now) {
  if (certificate.unknown_critical) return bad_path("x509: unhandled critical extension");
  const bool early = now < certificate.not_before;
  if (!early && now <= certificate.not_after) return {};
  const TimeText current(now);
  const TimeText bound(early ? certificate.not_before : certificate.not_after);
  const std::string text = std::string("x509: certificate has expired or is not yet valid: current time ") +
                           current.rfc3339() + (early ? " is before " : " is after ") + bound.rfc3339();
  return bad_path(text.c_str());
}

// What must hold for a certificate that signed another; `below` is the number of intermediates under it.
Result<void> check_issuer(const Certificate& certificate, int below) {
  if (!certificate.has_basic_constraints || !certificate.ca)
    return bad_path("x509: certificate is not authorized to sign other certificates");
  if (certificate.has_key_usage && (certificate.key_usage & kKeyCertSign) == 0)
    return bad_path("x509: issuer lacks the key usage to sign certificates");
  if (certificate.path_len >= 0 && below > certificate.path_len)
    return bad_path("x509: too many intermediates for path length constraint");
  return {};
}

class PathFinder {
 public:
  PathFinder(const std::vector<Certificate>& chain, const std::vector<Certificate>& roots, int64_t now)
      : chain_(chain), roots_(roots), now_(now), used_(chain.size()) {}

  Result<void> find() {
    TRY(check_certificate(chain_[0], now_));
    used_[0] = true;
    if (climb(chain_[0], 0)) return {};
    // The most telling reason: why a fitting root or intermediate was not taken, or that none fitted.
    if (!reason_.empty()) return fail(Code::unauthenticated, reason_);
    return bad_path("x509: certificate signed by unknown authority");
  }

 private:
  static bool fits(const Certificate& child, const Certificate& issuer) {
    if (child.issuer != issuer.subject) return false;
    return child.authority_key_id.empty() || issuer.subject_key_id.empty() ||
           child.authority_key_id == issuer.subject_key_id;
  }

  bool signed_by(const Certificate& child, const Certificate& issuer, int below) {
    if (!fits(child, issuer)) return false;
    if (const auto checked = check_issuer(issuer, below); !checked) return note(checked.error());
    if (const auto checked = check_certificate(issuer, now_); !checked) return note(checked.error());
    if (checks_left_ == 0) {
      reason_ = "x509: signature check attempts limit reached while verifying certificate chain";
      return false;
    }
    --checks_left_;
    return child.verify_signed_by(issuer).has_value();
  }

  bool climb(const Certificate& child, int below) {
    for (const Certificate& root : roots_)
      if (signed_by(child, root, below)) return true;
    for (size_t i = 1; i < chain_.size(); ++i) {
      if (used_[i] || !signed_by(child, chain_[i], below)) continue;
      used_[i] = true;
      if (climb(chain_[i], below + 1)) return true;
      used_[i] = false;
    }
    return false;
  }

  bool note(const Error& error) {
    if (reason_.empty()) reason_ = error.message;
    return false;
  }

  const std::vector<Certificate>& chain_;
  const std::vector<Certificate>& roots_;
  int64_t now_;
  std::vector<bool> used_;
  int checks_left_ = limits::kChainSignatureChecks;
  std::string reason_;
};

}  // namespace

void BundleSet::set(const TrustDomain& trust_domain, std::vector<Certificate> roots) {
  roots_[trust_domain.name()] = std::move(roots);
}

void BundleSet::remove(const TrustDomain& trust_domain) { roots_.erase(trust_domain.name()); }

const std::vector<Certificate>* BundleSet::roots(const TrustDomain& trust_domain) const {
  const auto found = roots_.find(trust_domain.name());
  return found == roots_.end() ? nullptr : &found->second;
}

Result<SpiffeId> spiffe_id_of(const Certificate& leaf) {
  if (leaf.uris.empty()) return fail(Code::unauthenticated, "certificate contains no URI SAN");
  if (leaf.uris.size() > 1) return fail(Code::unauthenticated, "certificate contains more than one URI SAN");
  Result<SpiffeId> id = SpiffeId::parse(leaf.uris[0]);
  if (!id) return fail(Code::unauthenticated, id.error().message);
  return id;
}

Result<SpiffeId> verify_chain(const std::vector<Certificate>& chain, const BundleSet& bundles, int64_t now) {
  if (chain.empty()) return refused("empty certificates chain");
  if (chain.size() > limits::kChainCertificates) return refused("more than 16 certificates in the chain");
  TRY_ASSIGN_WITHIN("x509svid: could not get leaf SPIFFE ID", SpiffeId id, spiffe_id_of(chain[0]));
  if (id.path().empty()) return refused("could not get leaf SPIFFE ID: path is empty");
  TRY(check_leaf(chain[0]));
  const std::vector<Certificate>* roots = bundles.roots(id.trust_domain());
  if (roots == nullptr)
    return refused("could not get X509 bundle: x509bundle: no X.509 bundle for trust domain \"" +
                   id.trust_domain().name() + "\"");
  TRY_WITHIN("x509svid: could not verify leaf certificate", PathFinder(chain, *roots, now).find());
  return id;
}

}  // namespace limpet
