// SPDX-License-Identifier: Apache-2.0
#include "wire/url.h"

#include <gtest/gtest.h>

#include "base/limits.h"

namespace limpet::wire {
namespace {

TEST(Url, WhatIsNotAPlainHttpUrlIsRefused) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "must start with https://"},
      {"example.org", "must start with https://"},
      {"ftp://example.org/", "must start with https://"},
      {"https:/example.org", "must start with https://"},
      {"https", "must start with https://"},
      {"HTTP", "must start with https://"},
      {"https:", "must start with https://"},
      {"https://", "host is not valid"},
      {"https:///keys", "host is not valid"},
      {"https://:443/", "host is not valid"},
      {"https://-a/", "host is not valid"},
      {"https://a%2fb/", "host is not valid"},
      {"https://a,b/", "host is not valid"},
      {"https://[::1/", "lacks a \"]\""},
      {"https://[::1]x/", "host is not valid"},
      {"https://[zz]/", "host is not valid"},
      {"https://[]/", "host is not valid"},
      {"https://::1/", "host is not valid"},
      {"https://a:0/", "port is not a number"},
      {"https://a:65536/", "port is not a number"},
      {"https://a:/", "port is not a number"},
      {"https://a:+1/", "port is not a number"},
      {"https://a:1:2/", "port is not a number"},
      {"https://user@a/", "user information"},
      {"https://user:secret@a/", "user information"},
      {"https://a/#part", "fragment"},
      {"https://a/b c", "percent-encoded"},
      {"https://a/b\r\nx: y", "percent-encoded"},
      {"https://a/\xc3\xa9", "percent-encoded"},
      {"https://" + std::string(254, 'a') + "/", "host is not valid"},
      {"https://a/" + std::string(limits::kUrlBytes, 'a'), "longer than"},
  };
  for (const auto& [text, why] : cases) {
    const auto url = Url::parse(text);
    ASSERT_FALSE(url) << text;
    EXPECT_EQ(url.error().code, Code::invalid_argument);
    EXPECT_NE(url.error().message.find(why), std::string::npos) << text << ": " << url.error().message;
  }
}

TEST(Url, TheRestIsTakenApart) {
  const struct {
    const char* text;
    bool https;
    const char* host;
    uint16_t port;
    const char* target;
    const char* authority;
  } cases[] = {
      {"https://Example.ORG", true, "example.org", 443, "/", "example.org"},
      {"HTTPS://example.org/", true, "example.org", 443, "/", "example.org"},
      {"https://example.org:8443/a/b?c=d&e", true, "example.org", 8443, "/a/b?c=d&e", "example.org:8443"},
      {"https://example.org?x", true, "example.org", 443, "/?x", "example.org"},
      {"https://example.org:443/", true, "example.org", 443, "/", "example.org"},
      {"http://127.0.0.1/x", false, "127.0.0.1", 80, "/x", "127.0.0.1"},
      {"http://127.0.0.1:443/x", false, "127.0.0.1", 443, "/x", "127.0.0.1:443"},
      {"https://[FE80::1]:8443/", true, "fe80::1", 8443, "/", "[fe80::1]:8443"},
      {"https://[::1]", true, "::1", 443, "/", "[::1]"},
      {"https://my_host-1/%20", true, "my_host-1", 443, "/%20", "my_host-1"},
  };
  for (const auto& c : cases) {
    const auto url = Url::parse(c.text);
    ASSERT_TRUE(url) << c.text << ": " << url.error().message;
    EXPECT_EQ(url->https, c.https);
    EXPECT_EQ(url->host, c.host);
    EXPECT_EQ(url->port, c.port);
    EXPECT_EQ(url->target, c.target);
    EXPECT_EQ(url->authority(), c.authority);
  }
}

}  // namespace
}  // namespace limpet::wire
