// SPDX-License-Identifier: Apache-2.0
#pragma once
// The few requests the load client makes, encoded by hand. Pure functions.

#include <cstdint>
#include <string>

namespace limpet::bench {

struct EntryKind {
  std::string trust_domain = "example.org";
  std::string parent_path = "/elsewhere";
  std::string prefix = "bench";
  int64_t uid = -1;  // -1: a different one for each entry
  int parents = 1;   // above 1: so many agents take turns as parents
};

// entry.v1 BatchCreateEntryRequest with `count` entries that no earlier number had.
std::string batch_create(const EntryKind& kind, int64_t first_number, int count);
// svid.v1 MintX509SVIDRequest.
std::string mint_x509(const std::string& csr_der);
// svid.v1 MintJWTSVIDRequest.
std::string mint_jwt(const std::string& trust_domain, const std::string& path, const std::string& audience);
// The Workload API's JWTSVIDRequest and ValidateJWTSVIDRequest.
std::string fetch_jwt(const std::string& audience);
std::string validate_jwt(const std::string& audience, const std::string& token);
// trustdomain.v1 RefreshBundleRequest.
std::string refresh_bundle(const std::string& trust_domain);
// entry.v1 ListEntriesRequest: a page of 1,000 after `token`.
std::string list_entries(const std::string& token);
// The field next_page_token of a ListEntriesResponse; empty: the list is at its end.
std::string next_page_token(const std::string& response);
// How many results of a BatchCreateEntryResponse carry an entry and not an error alone.
int created_entries(const std::string& response);

}  // namespace limpet::bench
