// SPDX-License-Identifier: Apache-2.0
#pragma once
// The certificate profiles the server issues (wire notes section 11), as templates ready to be encoded and signed. Pure
// functions, any thread.

#include <cstdint>
#include <string>
#include <vector>

#include "crypto/x509.h"
#include "spiffe/id.h"

namespace limpet::server {

inline constexpr int64_t kNotBeforeSlack =
    10;  // seconds a certificate is valid before it was made: peers' clocks differ

struct SvidRequest {
  SpiffeId id;
  Bytes spki;
  Bytes subject_key_id;
  int64_t ttl = 0;                     // seconds, > 0
  Bytes subject;                       // DER Name; empty or an empty SEQUENCE: C=US, O=SPIRE
  std::vector<std::string> dns_names;  // the first becomes the common name
};
// Valid from now - 10 s to now + ttl, but not beyond the CA certificate.
CertificateTemplate svid_template(const SvidRequest& request, const Certificate& ca, int64_t now);

struct CaSubject {
  std::vector<std::string> country;
  std::vector<std::string> organization;
  std::string common_name;
};
// Self-signed; the subject's serialNumber attribute is the certificate's serial number in decimal.
CertificateTemplate ca_template(const CaSubject& subject, const TrustDomain& trust_domain, const PublicKey& key,
                                int64_t ttl, int64_t now);

struct DownstreamCaRequest {
  Bytes spki;
  Bytes subject_key_id;
  int64_t ttl = 0;  // seconds, > 0
};
// The CA certificate of a server below this one. `parents` is the number of certificates from `ca` up to, but without,
// an upstream root: 1 for a self-signed CA.
CertificateTemplate downstream_ca_template(const DownstreamCaRequest& request, const Certificate& ca, size_t parents,
                                           const TrustDomain& trust_domain, int64_t now);

// `name` (a DER Name) with its organizational unit replaced, behind country and organization, where Go puts it.
// INVALID_ARGUMENT.
Result<Bytes> with_organizational_unit(BytesView name, const std::string& unit);
// `name` (a DER Name) with its common name replaced; other attributes keep their order. INVALID_ARGUMENT.
Result<Bytes> with_common_name(BytesView name, const std::string& common_name);

}  // namespace limpet::server
