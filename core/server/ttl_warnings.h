// SPDX-License-Identifier: Apache-2.0
#pragma once
// Lifetimes that the CA cannot keep to: a CA certificate signs until a sixth of its life is left, at most seven days,
// so an SVID that shall live longer may be cut short. Pure.

#include <string>
#include <vector>

#include "config/config.h"

namespace limpet::server {

// One sentence for each of default_x509_svid_ttl, default_jwt_svid_ttl and agent_ttl that is too long.
std::vector<std::string> ttl_warnings(const ServerConfig& config);

}  // namespace limpet::server
