// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a URL of a bundle endpoint must look like (SPIFFE Federation, section 5.1). Pure.

#include <string_view>

#include "base/result.h"

namespace limpet {

// https, with a host, without user information. INVALID_ARGUMENT in the words of SPIRE's server.
Result<void> check_bundle_url(std::string_view url);

}  // namespace limpet
