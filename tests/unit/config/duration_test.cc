// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "config/config.h"

namespace limpet {
namespace {

TEST(Duration, WhatGoTakesIsTaken) {
  struct Case {
    const char* text;
    int64_t ms;
    int64_t s;
  };
  for (const Case& c : {Case{"0", 0, 0}, Case{"0s", 0, 0}, Case{"90s", 90'000, 90}, Case{"1h30m", 5'400'000, 5400},
                        Case{"1.5h", 5'400'000, 5400}, Case{"500ms", 500, 1}, Case{"1500ms", 1500, 2},
                        Case{"1us", 1, 1}, Case{"1\xc2\xb5s", 1, 1}, Case{"720h", 2'592'000'000, 2'592'000},
                        Case{".5s", 500, 1}, Case{"1m1s", 61'000, 61}, Case{"2ns", 1, 1}}) {
    EXPECT_EQ(*parse_duration_ms(c.text), c.ms) << c.text;
    EXPECT_EQ(*parse_duration_s(c.text), c.s) << c.text;
  }
}

TEST(Duration, AnythingElseIsRefused) {
  for (const char* text : {"", "5", "s", "-5s", "+5s", "5 s", "1d", "1h30", "1..5s", ".s", "5S", "1h ", "9999999h",
                           "1e3s", "99999999999999999999999h"}) {
    const auto parsed = parse_duration_s(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_NE(parsed.error().message.find("is not a duration"), std::string::npos);
  }
}

}  // namespace
}  // namespace limpet
