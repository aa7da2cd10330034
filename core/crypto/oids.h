// SPDX-License-Identifier: Apache-2.0
#pragma once
// The object identifiers of X.509 and PKCS#10 that we write or understand. For crypto's own use.

#include <optional>
#include <string_view>

#include "crypto/der.h"
#include "crypto/key.h"

namespace limpet::oids {

inline constexpr std::string_view kSubjectKeyId = "2.5.29.14";
inline constexpr std::string_view kKeyUsage = "2.5.29.15";
inline constexpr std::string_view kSubjectAltName = "2.5.29.17";
inline constexpr std::string_view kBasicConstraints = "2.5.29.19";
inline constexpr std::string_view kNameConstraints = "2.5.29.30";
inline constexpr std::string_view kCrlDistribution = "2.5.29.31";
inline constexpr std::string_view kCertificatePolicies = "2.5.29.32";
inline constexpr std::string_view kAuthorityKeyId = "2.5.29.35";
inline constexpr std::string_view kExtKeyUsage = "2.5.29.37";
inline constexpr std::string_view kAuthorityInfoAccess = "1.3.6.1.5.5.7.1.1";
inline constexpr std::string_view kServerAuth = "1.3.6.1.5.5.7.3.1";
inline constexpr std::string_view kClientAuth = "1.3.6.1.5.5.7.3.2";
inline constexpr std::string_view kExtensionRequest = "1.2.840.113549.1.9.14";

// A signature algorithm as X.509 names it.
struct SignatureAlgorithm {
  bool rsa = false;
  HashAlg hash = HashAlg::sha256;
};
Bytes encode_algorithm(SignatureAlgorithm algorithm);  // AlgorithmIdentifier
Result<std::optional<SignatureAlgorithm>> read_algorithm(
    BytesView content);  // of an AlgorithmIdentifier; nullopt: unknown

}  // namespace limpet::oids
