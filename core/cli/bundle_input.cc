// SPDX-License-Identifier: Apache-2.0
#include "cli/bundle_input.h"

#include <cstdio>

#include "base/bytes.h"
#include "wire/api_types.h"

namespace limpet::cli {

using wire::items;
using wire::view;

Result<void> check_bundle_format(std::string_view format) {
  if (format == "pem" || format == "spiffe") return {};
  return fail(Code::invalid_argument, "invalid format: \"" + std::string(format) + "\"");
}

Result<Bundle> parse_bundle(std::string_view text, std::string_view format, const TrustDomain& trust_domain) {
  TRY(check_bundle_format(format));
  if (format == "spiffe") {
    TRY_ASSIGN_WITHIN("unable to parse to spiffe bundle", Bundle bundle, bundle_from_json(text, trust_domain));
    return bundle;
  }
  Bundle bundle;
  bundle.trust_domain = trust_domain;
  TRY_ASSIGN_WITHIN("unable to parse bundle data", const auto blocks, pem_decode(text));
  for (const PemBlock& block : blocks) {
    if (block.label != "CERTIFICATE") {
      return fail(Code::invalid_argument, "unable to parse bundle data: a block of type \"" + block.label +
                                              "\" stands there; \"CERTIFICATE\" is expected");
    }
    TRY_ASSIGN_WITHIN("unable to parse bundle data", const Certificate certificate, Certificate::parse(block.der));
    bundle.x509_authorities.push_back({certificate.der, false});
  }
  if (bundle.x509_authorities.empty()) {
    return fail(Code::invalid_argument, "unable to parse bundle data: no PEM blocks");
  }
  return bundle;
}

Result<void> print_bundle(const spire_api_types_Bundle& bundle, std::string_view format, bool head) {
  if (head) {
    constexpr const char* kStars = "****************************************";
    std::printf("%s\n* %s\n%s\n", kStars, std::string(view(bundle.trust_domain)).c_str(), kStars);
  }
  if (format == "spiffe") {
    TRY_ASSIGN(const Bundle parsed, wire::read_bundle(bundle));
    std::printf("%s\n", bundle_to_json(parsed).c_str());
    return {};
  }
  for (const auto& authority : items(bundle.x509_authorities, bundle.x509_authorities_count)) {
    std::fputs(pem_encode("CERTIFICATE", view(authority.asn1)).c_str(), stdout);
  }
  return {};
}

}  // namespace limpet::cli
