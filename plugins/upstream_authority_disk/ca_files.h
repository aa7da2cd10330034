// SPDX-License-Identifier: Apache-2.0
#pragma once
// An upstream CA in PEM files: read, checked as a whole, and used to sign. A value; any thread, one at a time. All
// errors are FAILED_PRECONDITION and name the file.

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "crypto/x509.h"

namespace limpet::upstream_authority_disk {

struct Paths {
  std::string cert;    // the CA certificate, then its issuers, if any
  std::string key;     // its private key: PKCS#8, SEC1 or PKCS#1, not encrypted
  std::string bundle;  // the roots; empty: the certificate is its own root
  bool operator==(const Paths&) const = default;
};

// Tells whether a file was replaced or written.
struct Stamp {
  int64_t seconds = 0;
  int64_t nanoseconds = 0;
  uint64_t inode = 0;
  int64_t size = -1;  // -1: there is none
  bool operator==(const Stamp&) const = default;
};
using Stamps = std::array<Stamp, 3>;
Stamps stamps_of(const Paths& paths);

class UpstreamCa {
 public:
  // Checks that the key is the certificate's, that it is a CA which has not expired at `now` (Unix seconds), and that a
  // root of the bundle stands at the end of its chain.
  static Result<UpstreamCa> load(const Paths& paths, int64_t now);

  // From the CA up to, but without, the root. Empty when it is the root.
  [[nodiscard]] const std::vector<Bytes>& chain() const { return chain_; }
  [[nodiscard]] const std::vector<Bytes>& roots() const { return roots_; }
  // A CA certificate for the CSR's key and subject. INVALID_ARGUMENT: the CSR is not one of this trust domain's server.
  [[nodiscard]] Result<Bytes> sign(BytesView csr_der, const std::string& trust_domain_id, int64_t ttl,
                                   int64_t now) const;

 private:
  UpstreamCa(Paths paths, Certificate certificate, PrivateKey key)
      : paths_(std::move(paths)), certificate_(std::move(certificate)), key_(std::move(key)) {}
  Result<void> find_chain(const std::vector<Certificate>& issuers, const std::vector<Certificate>& roots, int64_t now);

  Paths paths_;
  Certificate certificate_;
  PrivateKey key_;
  std::vector<Bytes> chain_;
  std::vector<Bytes> roots_;
};

}  // namespace limpet::upstream_authority_disk
