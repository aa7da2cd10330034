// SPDX-License-Identifier: Apache-2.0
#include "report/log.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>

namespace limpet {
namespace {

class LogTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/limpet-log-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
    file_ = folder_ + "/log";
  }
  void TearDown() override {
    ::unlink(file_.c_str());
    ::unlink((file_ + ".1").c_str());
    ::rmdir(folder_.c_str());
  }
  std::unique_ptr<Logger> open(bool json = false, LogLevel level = LogLevel::info) {
    auto logger = Logger::open({.level = level, .json = json, .file = file_}, clock_);
    EXPECT_TRUE(logger);
    return std::move(*logger);
  }
  static std::string contents(const std::string& path) {
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  FakeClock clock_{1'795'314'192};  // 2026-11-22T02:23:12Z
  std::string folder_;
  std::string file_;
};

TEST_F(LogTest, ALineIsLogfmtWithStableKeys) {
  open()->error("Agent is banned", {{"agent_id", "spiffe://example.org/a"}, {"attempt", "3"}, {"path", "/run/x.sock"}});
  EXPECT_EQ(contents(file_),
            "time=\"2026-11-22T02:23:12Z\" level=error msg=\"Agent is banned\" "
            "agent_id=\"spiffe://example.org/a\" attempt=3 path=/run/x.sock\n");
}

TEST_F(LogTest, ValuesAreQuotedOnlyWhereTheyMustBe) {
  struct Case {
    std::string value;
    std::string_view printed;
  };
  const Case cases[] = {
      {"plain-._/@^+09azAZ", "k=plain-._/@^+09azAZ\n"},
      {"", "k=\n"},
      {"a b", "k=\"a b\"\n"},
      {"a=b", "k=\"a=b\"\n"},
      {"say \"x\"", "k=\"say \\\"x\\\"\"\n"},
      {"back\\slash", "k=\"back\\\\slash\"\n"},
      {"two\nlines\ttab\r", "k=\"two\\nlines\\ttab\\r\"\n"},
      {std::string("nul\0x", 5), "k=\"nul\\x00x\"\n"},
      {"\x1b[31m", "k=\"\\x1b[31m\"\n"},
      {"bad \xff utf8", "k=\"bad \\xff utf8\"\n"},
      {"caf\xc3\xa9", "k=\"caf\xc3\xa9\"\n"},
  };
  const auto logger = open();
  for (const Case& c : cases) {
    ASSERT_EQ(::truncate(file_.c_str(), 0), 0);
    logger->info("m", {{"k", c.value}});
    const std::string line = contents(file_);
    EXPECT_EQ(line.substr(line.find("k=")), c.printed);
  }
}

TEST_F(LogTest, JsonEscapesWhatJsonMust) {
  open(true)->warn("a \"b\"\n", {{"k", "\x01\xff"}});
  EXPECT_EQ(contents(file_),
            "{\"time\":\"2026-11-22T02:23:12Z\",\"level\":\"warning\",\"msg\":\"a \\\"b\\\"\\n\","
            "\"k\":\"\\u0001\xef\xbf\xbd\"}\n");
}

TEST_F(LogTest, APlaceInTheSourceIsNamedWhereThatIsAskedFor) {
  for (const bool json : {false, true}) {
    auto logger = Logger::open({.level = LogLevel::info, .json = json, .file = file_, .source_location = true}, clock_);
    ASSERT_TRUE(logger);
    const std::string place = "tests/unit/report/log_test.cc:" + std::to_string(__LINE__ + 1);
    (*logger)->warn("x", {{"key", "value"}});
    const std::string text = contents(file_);
    const std::string last =
        json ? R"(","key":"value","file":")" + place + "\"}\n" : " key=value file=\"" + place + "\"\n";
    EXPECT_TRUE(text.ends_with(last)) << text;
  }
  open()->info("none");
  EXPECT_TRUE(contents(file_).ends_with("msg=none\n"));
}

TEST_F(LogTest, LevelsCutOffWhatIsMoreVerbose) {
  const auto logger = open(false, LogLevel::warn);
  logger->info("no");
  EXPECT_FALSE(logger->enabled(LogLevel::info));
  logger->set_level(LogLevel::debug);
  logger->debug("yes");
  EXPECT_EQ(contents(file_), "time=\"2026-11-22T02:23:12Z\" level=debug msg=yes\n");
}

TEST_F(LogTest, ReopenFollowsARotation) {
  const auto logger = open();
  logger->info("one");
  ASSERT_EQ(std::rename(file_.c_str(), (file_ + ".1").c_str()), 0);
  logger->info("two");
  ASSERT_TRUE(logger->reopen());
  logger->info("three");
  EXPECT_NE(contents(file_ + ".1").find("msg=two"), std::string::npos);
  EXPECT_EQ(contents(file_), "time=\"2026-11-22T02:23:12Z\" level=info msg=three\n");
}

TEST_F(LogTest, AFileThatCannotBeOpenedIsNamed) {
  const auto logger = Logger::open({.file = folder_ + "/missing/log"}, clock_);
  ASSERT_FALSE(logger);
  EXPECT_NE(logger.error().message.find("/missing/log: No such file"), std::string::npos);
}

TEST(LogLevels, NamesAreReadInAnyCaseAndOthersRefused) {
  EXPECT_EQ(*parse_log_level("INFO"), LogLevel::info);
  EXPECT_EQ(*parse_log_level("warn"), LogLevel::warn);
  EXPECT_EQ(*parse_log_level("Warning"), LogLevel::warn);
  for (const auto* bad : {"", "verbose", "info "}) EXPECT_FALSE(parse_log_level(bad)) << bad;
}

TEST(LogNone, SwallowsEverything) {
  Logger::none().set_level(LogLevel::trace);
  Logger::none().error("x");
  EXPECT_FALSE(Logger::none().enabled(LogLevel::panic));
}

TEST_F(LogTest, StrangersGetSoManyLinesASecondAndTheRestIsCounted) {
  const auto logger = open();
  for (int i = 0; i < 100; i++) logger->from_stranger(LogLevel::warn, "refused");
  logger->warn("ours");
  const auto count = [&](const std::string& what) {
    const std::string text = contents(file_);
    size_t found = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) found++;
    return found;
  };
  EXPECT_EQ(count("msg=refused"), 20u) << contents(file_);
  EXPECT_EQ(count("msg=ours"), 1u);
  clock_.advance_ms(1000);
  logger->from_stranger(LogLevel::warn, "refused");
  EXPECT_EQ(count("msg=refused"), 21u);
  EXPECT_EQ(count("count=80"), 1u) << contents(file_);
  logger->from_stranger(LogLevel::debug, "refused");
  EXPECT_EQ(count("msg=refused"), 21u) << "nothing below the level";
}

}  // namespace
}  // namespace limpet
