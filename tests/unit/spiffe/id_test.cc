// SPDX-License-Identifier: Apache-2.0
#include "spiffe/id.h"

#include <gtest/gtest.h>

namespace limpet {
namespace {

constexpr const char* kBadTrustDomain =
    "trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores";
constexpr const char* kBadPath =
    "path segment characters are limited to letters, numbers, dots, dashes, and underscores";

TEST(SpiffeId, RefusesWhatTheStandardForbids) {
  const std::string long_domain(256, 'a');
  const struct {
    std::string text;
    const char* says;
  } kCases[] = {
      {"", "cannot be empty"},
      {"example.org", "scheme is missing or invalid"},
      {"/example.org/x", "scheme is missing or invalid"},
      {"http://example.org/x", "scheme is missing or invalid"},
      {"spiffe:/example.org", "scheme is missing or invalid"},
      {"spiffe:example.org", "scheme is missing or invalid"},
      {"SPIFFE://example.org/x", "scheme is missing or invalid"},
      {" spiffe://example.org/x", "scheme is missing or invalid"},
      {"spiffe://", "trust domain is missing"},
      {"spiffe:///", "trust domain is missing"},
      {"spiffe:///path", "trust domain is missing"},
      {"spiffe://Example.org/x", kBadTrustDomain},
      {"spiffe://example.org:8080/x", kBadTrustDomain},
      {"spiffe://user@example.org/x", kBadTrustDomain},
      {"spiffe://user:password@example.org/x", kBadTrustDomain},
      {"spiffe://ex%41mple.org/x", kBadTrustDomain},
      {"spiffe://exämple.org/x", kBadTrustDomain},
      {"spiffe://[::1]/x", kBadTrustDomain},
      {"spiffe://example.org?query", kBadTrustDomain},
      {"spiffe://example.org#fragment", kBadTrustDomain},
      {"spiffe://exa mple.org/x", kBadTrustDomain},
      {std::string("spiffe://a\0b/x", 14), kBadTrustDomain},
      {"spiffe://" + long_domain + "/x", "trust domain is longer than 255 bytes"},
      {"spiffe://example.org/", "path cannot have a trailing slash"},
      {"spiffe://example.org/a/", "path cannot have a trailing slash"},
      {"spiffe://example.org//", "path cannot contain empty segments"},
      {"spiffe://example.org//a", "path cannot contain empty segments"},
      {"spiffe://example.org/a//b", "path cannot contain empty segments"},
      {"spiffe://example.org/.", "path cannot contain dot segments"},
      {"spiffe://example.org/..", "path cannot contain dot segments"},
      {"spiffe://example.org/./a", "path cannot contain dot segments"},
      {"spiffe://example.org/a/../b", "path cannot contain dot segments"},
      {"spiffe://example.org/a/b/..", "path cannot contain dot segments"},
      {"spiffe://example.org/a b", kBadPath},
      {"spiffe://example.org/a?q", kBadPath},
      {"spiffe://example.org/a#f", kBadPath},
      {"spiffe://example.org/%61", kBadPath},
      {"spiffe://example.org/a*", kBadPath},
      {"spiffe://example.org/ä", kBadPath},
      {"spiffe://example.org/a\n", kBadPath},
      {std::string("spiffe://example.org/a\0b", 24), kBadPath},
      {"spiffe://example.org/" + std::string(2028, 'a'), "SPIFFE ID is longer than 2048 bytes"},
  };
  for (const auto& c : kCases) {
    const auto id = SpiffeId::parse(c.text);
    ASSERT_FALSE(id.has_value()) << c.text;
    EXPECT_EQ(id.error().message, c.says) << c.text;
    EXPECT_EQ(id.error().code, Code::invalid_argument) << c.text;
  }
}

TEST(SpiffeId, TakesWhatTheStandardAllows) {
  const struct {
    std::string text;
    std::string trust_domain;
    std::string path;
  } kCases[] = {
      {"spiffe://example.org", "example.org", ""},
      {"spiffe://example.org/web", "example.org", "/web"},
      {"spiffe://staging.example.com/payments/mysql", "staging.example.com", "/payments/mysql"},
      {"spiffe://k8s-west.example.com/ns/staging/sa/default", "k8s-west.example.com", "/ns/staging/sa/default"},
      {"spiffe://example.com/9eebccd2-12bf-40a6-b262-65fe0487d453", "example.com",
       "/9eebccd2-12bf-40a6-b262-65fe0487d453"},
      {"spiffe://a_b-c.0/A_b-C.9", "a_b-c.0", "/A_b-C.9"},
      {"spiffe://1.2.3.4/x", "1.2.3.4", "/x"},
      {"spiffe://example.org/...", "example.org", "/..."},
      {"spiffe://example.org/.a/b.", "example.org", "/.a/b."},
      {"spiffe://" + std::string(255, 'a') + "/x", std::string(255, 'a'), "/x"},
      {"spiffe://example.org/" + std::string(2027, 'a'), "example.org", "/" + std::string(2027, 'a')},
  };
  for (const auto& c : kCases) {
    const auto id = SpiffeId::parse(c.text);
    ASSERT_TRUE(id.has_value()) << c.text << ": " << id.error().message;
    EXPECT_EQ(id->trust_domain().name(), c.trust_domain);
    EXPECT_EQ(id->path(), c.path);
    EXPECT_EQ(id->text(), c.text);
    EXPECT_FALSE(id->empty());
  }
}

TEST(SpiffeId, IsMadeFromItsPartsByTheSameRules) {
  const TrustDomain td = *TrustDomain::parse("example.org");
  EXPECT_EQ(SpiffeId::make(td, "/a/b")->text(), "spiffe://example.org/a/b");
  EXPECT_EQ(SpiffeId::make(td, "")->text(), "spiffe://example.org");
  EXPECT_EQ(SpiffeId::make(td, "a").error().message, "path must have a leading slash");
  EXPECT_EQ(SpiffeId::make(td, "/a/").error().message, "path cannot have a trailing slash");
  EXPECT_EQ(SpiffeId::make({}, "/a").error().message, "trust domain is missing");
  EXPECT_EQ(SpiffeId::make(td, "/" + std::string(2028, 'a')).error().message, "SPIFFE ID is longer than 2048 bytes");
}

TEST(SpiffeId, ComparesWholeSegmentsAndDomains) {
  const TrustDomain td = *TrustDomain::parse("example.org");
  EXPECT_TRUE(SpiffeId::parse("spiffe://example.org/a")->member_of(td));
  EXPECT_FALSE(SpiffeId::parse("spiffe://example.org.evil/a")->member_of(td));
  EXPECT_FALSE(SpiffeId::parse("spiffe://sub.example.org/a")->member_of(td));
  EXPECT_NE(*SpiffeId::parse("spiffe://a/b"), *SpiffeId::parse("spiffe://a/B"));
  EXPECT_TRUE(SpiffeId().empty());
  EXPECT_EQ(SpiffeId().text(), "");
}

TEST(TrustDomain, IsANameOrAnIdWithoutPath) {
  EXPECT_EQ(TrustDomain::parse("example.org")->name(), "example.org");
  EXPECT_EQ(TrustDomain::parse("spiffe://example.org")->name(), "example.org");
  EXPECT_EQ(TrustDomain::parse("example.org")->id(), "spiffe://example.org");
  EXPECT_EQ(TrustDomain::parse("").error().message, "trust domain is missing");
  EXPECT_EQ(TrustDomain::parse("Example.org").error().message, kBadTrustDomain);
  EXPECT_EQ(TrustDomain::parse("example.org/x").error().message, kBadTrustDomain);
  EXPECT_EQ(TrustDomain::parse("spiffe:/example.org").error().message, "scheme is missing or invalid");
  EXPECT_EQ(TrustDomain::parse("spiffe://").error().message, "trust domain is missing");
  EXPECT_EQ(TrustDomain::parse("spiffe://example.org/x").error().message, "trust domain must not have a path");
  EXPECT_EQ(TrustDomain::parse(std::string(256, 'a')).error().message, "trust domain is longer than 255 bytes");
}

}  // namespace
}  // namespace limpet
