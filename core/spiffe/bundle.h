// SPDX-License-Identifier: Apache-2.0
#pragma once
// Trust bundles, their JSON form (SPIFFE Trust Domain and Bundle, section 4) and chain verification by SPIFFE rules.
// Pure values and functions, any thread; verify_chain burns CPU.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "crypto/x509.h"
#include "spiffe/id.h"

namespace limpet {

struct X509Authority {
  Bytes der;
  bool tainted = false;
  bool operator==(const X509Authority&) const = default;
};
struct JwtAuthority {
  std::string key_id;
  Bytes spki;
  int64_t expires_at = 0;
  bool tainted = false;
  bool operator==(const JwtAuthority&) const = default;
};
struct Bundle {
  TrustDomain trust_domain;
  std::vector<X509Authority> x509_authorities;
  std::vector<JwtAuthority> jwt_authorities;
  int64_t refresh_hint = 0;  // seconds
  uint64_t sequence_number = 0;
  bool operator==(const Bundle&) const = default;
};

// Pretty-printed with four spaces as SPIRE's `bundle show -format spiffe` prints it, without a final newline.
std::string bundle_to_json(const Bundle& bundle);
// The JWT authorities alone as a JWKS (RFC 7517), ordered by key ID, pretty-printed in the same way, without members of
// SPIFFE's. Plain unless asked otherwise.
struct JwksMembers {
  std::string use;         // of each key; empty: none
  bool algorithm = false;  // each key names the one that it signs with here (RFC 7518 3.1)
};
std::string bundle_to_jwks(const Bundle& bundle, const JwksMembers& members = {});
// Bounds first (limits::kBundleJsonBytes). Unknown `use` values are skipped. INVALID_ARGUMENT.
Result<Bundle> bundle_from_json(std::string_view json, const TrustDomain& trust_domain);

// The roots of every trust domain a verifier knows; an immutable snapshot shared with worker threads.
class BundleSet {
 public:
  void set(const TrustDomain& trust_domain, std::vector<Certificate> roots);
  void remove(const TrustDomain& trust_domain);
  [[nodiscard]] const std::vector<Certificate>* roots(const TrustDomain& trust_domain) const;

 private:
  std::map<std::string, std::vector<Certificate>> roots_;
};

// Wire notes 1.3: leaf first; returns the leaf's SPIFFE ID. UNAUTHENTICATED with the reason; the text starts with
// "x509svid: ". Validity is checked against `now` (Unix seconds). An unknown issuer says "certificate signed by unknown
// authority".
Result<SpiffeId> verify_chain(const std::vector<Certificate>& chain, const BundleSet& bundles, int64_t now);
// The leaf's ID without verifying: exactly one URI SAN.
Result<SpiffeId> spiffe_id_of(const Certificate& leaf);

}  // namespace limpet
