// SPDX-License-Identifier: Apache-2.0
#pragma once
// Reads and prints [server.federation], whose tables are deeper than the table of keys goes. Internal to config/. Pure.

#include <string>
#include <string_view>

#include "config/federation.h"
#include "config/keys.h"

namespace limpet {

// `json`: the table as JSON text; `places` has every key of it, from "server.federation.bundle_endpoint" on.
void read_federation(std::string_view json, const std::string& own_trust_domain, const Places& places,
                     Problems& problems, FederationConfig& out);
// "[server.federation.bundle_endpoint]\n..."; empty when there is nothing.
std::string federation_to_toml(const FederationConfig& config);

}  // namespace limpet
