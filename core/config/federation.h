// SPDX-License-Identifier: Apache-2.0
#pragma once
// The table [server.federation]: the endpoint that serves the own bundle, and relationships that are fixed by the
// configuration. Its tables are SPIRE's: a profile is a table named https_web or https_spiffe. Plain values.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace limpet {

struct BundleEndpointConfig {
  std::string address = "0.0.0.0";
  uint16_t port = 443;
  int64_t refresh_hint_s = 300;
  std::string profile;         // "https_web" or "https_spiffe"
  std::string cert_file_path;  // the rest: of https_web
  std::string key_file_path;
  int64_t file_sync_interval_s = 3600;
};

struct FederatesWithConfig {
  std::string trust_domain;
  std::string bundle_endpoint_url;
  std::string profile;             // "https_web" or "https_spiffe"
  std::string endpoint_spiffe_id;  // of https_spiffe
};

struct FederationConfig {
  std::optional<BundleEndpointConfig> bundle_endpoint;
  std::vector<FederatesWithConfig> federates_with;
};

}  // namespace limpet
