// SPDX-License-Identifier: Apache-2.0
#pragma once
// Certification paths (RFC 5280 section 6, any extended key usage) from a leaf to given roots: all of them, because
// each authority on any path is a selector. The work is bounded by signature checks. Pure; burns CPU: worker.

#include <span>
#include <vector>

#include "crypto/x509.h"

namespace limpet::kit {

using Chain = std::vector<const Certificate*>;  // the leaf first; points into what was given

// At least one chain. INVALID_ARGUMENT with Go's words otherwise.
Result<std::vector<Chain>> find_chains(const Certificate& leaf, std::span<const Certificate> intermediates,
                                       std::span<const Certificate> roots, int64_t now);

}  // namespace limpet::kit
