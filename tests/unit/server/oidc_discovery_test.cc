// SPDX-License-Identifier: Apache-2.0
// The names a request may carry, and the document's text. What the endpoint answers is in tests/conformance.
#include "server/oidc_discovery.h"

#include <gtest/gtest.h>

namespace limpet::server {
namespace {

TEST(OidcDiscovery, HostsAreComparedWithoutCaseAndPort) {
  const std::vector<std::string> domains{"a.Example", "[::1]"};
  for (const char* host : {"a.example", "A.EXAMPLE", "a.example:1", "a.example:65535", "[::1]", "[::1]:443"})
    EXPECT_TRUE(is_host_of(host, domains)) << host;
  for (const char* host :
       {"", ":", ":1", "a.example:", "a.example:x", "a.example:123456", "a.example:1:2", "a.example.", "b.example",
        "a.example ", "[::1]:", "[::1]x", "::1", "[::2]", "[::1]]", "a.example:-1"})
    EXPECT_FALSE(is_host_of(host, domains)) << host;
  EXPECT_FALSE(is_host_of("a.example", {}));
}

TEST(OidcDiscovery, TheDocumentEscapesWhatItNames) {
  EXPECT_NE(oidc_configuration_json("a\"b", "c").find("\"issuer\": \"a\\\"b\""), std::string::npos);
  EXPECT_NE(oidc_configuration_json("a", "c").find("\"jwks_uri\": \"c\""), std::string::npos);
}

}  // namespace
}  // namespace limpet::server
