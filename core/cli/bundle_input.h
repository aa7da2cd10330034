// SPDX-License-Identifier: Apache-2.0
#pragma once
// Trust bundles as commands read and print them: PEM certificates, or SPIFFE's JSON document. Pure but for reading.

#include <string>
#include <string_view>

#include "base/result.h"
#include "proto/spire_types.pb.h"
#include "spiffe/bundle.h"

namespace limpet::cli {

// "pem" or "spiffe". INVALID_ARGUMENT `invalid format: "x"`.
Result<void> check_bundle_format(std::string_view format);
// INVALID_ARGUMENT names what is wrong with the text.
Result<Bundle> parse_bundle(std::string_view text, std::string_view format, const TrustDomain& trust_domain);
// To standard output, in the given format; with a head that names the trust domain.
Result<void> print_bundle(const spire_api_types_Bundle& bundle, std::string_view format, bool head);

}  // namespace limpet::cli
