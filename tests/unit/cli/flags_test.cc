// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "cli/command.h"
#include "cli/manual.h"

namespace limpet::cli {
namespace {

const std::vector<Flag> kFlags{{"spiffeID", FlagType::text, "", ""},
                               {"ttl", FlagType::number, "600", ""},
                               {"selector", FlagType::list, "", ""},
                               {"admin", FlagType::boolean, "false", ""},
                               {"timeout", FlagType::duration, "1s", ""}};

struct BadCase {
  const char* name;
  std::vector<std::string> arguments;
  const char* says;
};

TEST(Flags, RefuseWhatSpireRefusesInGosWords) {
  const std::vector<BadCase> cases{
      {"unknown", {"-bogus"}, "flag provided but not defined: -bogus"},
      {"an abbreviation", {"-spiffe", "x"}, "flag provided but not defined: -spiffe"},
      {"two dashes, unknown", {"--bogus=1"}, "flag provided but not defined: -bogus"},
      {"no argument", {"-spiffeID"}, "flag needs an argument: -spiffeID"},
      {"not a number", {"-ttl", "x"}, "invalid value \"x\" for flag -ttl: parse error"},
      {"number too large",
       {"-ttl", "99999999999999999999"},
       "invalid value \"99999999999999999999\" for flag -ttl: parse error"},
      {"not a duration", {"-timeout", "5"}, "invalid value \"5\" for flag -timeout: parse error"},
      {"boolean word", {"-admin=yes"}, "invalid boolean value \"yes\" for -admin: parse error"},
  };
  for (const BadCase& c : cases) {
    const auto flags = Flags::parse(kFlags, c.arguments);
    ASSERT_FALSE(flags) << c.name;
    EXPECT_EQ(flags.error().message, c.says) << c.name;
  }
}

TEST(Flags, TakeOneDashOrTwoAndBothWaysToGiveAValue) {
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{"-ttl", "5"}, {"--ttl", "5"}, {"-ttl=5"}, {"--ttl=5"}}) {
    const auto flags = Flags::parse(kFlags, arguments);
    ASSERT_TRUE(flags) << arguments[0];
    EXPECT_EQ(flags->number("ttl"), 5);
    EXPECT_TRUE(flags->given("ttl"));
  }
}

TEST(Flags, HaveDefaultsThatDoNotCountAsGiven) {
  const auto flags = Flags::parse(kFlags, {});
  ASSERT_TRUE(flags);
  EXPECT_EQ(flags->number("ttl"), 600);
  EXPECT_EQ(flags->number("timeout"), 1000);
  EXPECT_FALSE(flags->on("admin"));
  EXPECT_FALSE(flags->given("ttl"));
}

TEST(Flags, CollectListsAndKeepWhatFollows) {
  const auto flags = Flags::parse(kFlags, {"-selector", "a:b", "-admin", "-selector=c:d", "rest", "-ttl"});
  ASSERT_TRUE(flags);
  EXPECT_EQ(flags->list("selector"), (std::vector<std::string>{"a:b", "c:d"}));
  EXPECT_TRUE(flags->on("admin"));
  EXPECT_EQ(flags->rest(), (std::vector<std::string>{"rest", "-ttl"}));
}

TEST(Flags, TakeNegativeNumbersAsValues) {
  const auto flags = Flags::parse(kFlags, {"-ttl", "-1"});
  ASSERT_TRUE(flags);
  EXPECT_EQ(flags->number("ttl"), -1);
}

TEST(Manual, NamesEveryCommandOnce) {
  const std::string page = manual_page();
  for (const char* words : {".SS run\n", ".SS healthcheck\n", ".SS entry create\n", ".SS api fetch x509\n"}) {
    const auto first = page.find(words);
    ASSERT_NE(first, std::string::npos) << words;
    EXPECT_EQ(page.find(words, first + 1), std::string::npos) << words;
  }
}

TEST(Usage, OfTheServersNameLeavesTheAgentsCommandsOut) {
  EXPECT_EQ(usage(kServer).find("api fetch"), std::string::npos);
  EXPECT_EQ(usage(kAgent).find("entry create"), std::string::npos);
  EXPECT_NE(usage(kLimpet).find("api fetch"), std::string::npos);
}

TEST(Flags, SecondsFitAMessageOrAreRefused) {
  const auto seconds = [](std::vector<std::string> arguments, const char* name) {
    const auto flags = Flags::parse(kFlags, std::move(arguments));
    EXPECT_TRUE(flags);
    return flags->seconds(name);
  };
  EXPECT_EQ(*seconds({}, "ttl"), 600);
  EXPECT_EQ(*seconds({"-ttl", "2147483647"}, "ttl"), 2147483647);
  EXPECT_EQ(*seconds({"-timeout", "1500ms"}, "timeout"), 2);
  EXPECT_EQ(seconds({"-ttl", "4294967297"}, "ttl").error().message,
            "invalid value for flag -ttl: 4294967297 seconds are out of range, at most 2147483647 are possible");
  EXPECT_FALSE(seconds({"-ttl", "-2147483649"}, "ttl"));
  EXPECT_FALSE(seconds({"-timeout", "2147483647001ms"}, "timeout"));
  EXPECT_FALSE(seconds({"-timeout", "1193047h"}, "timeout"));
}

}  // namespace
}  // namespace limpet::cli
