// SPDX-License-Identifier: Apache-2.0
#include "config/hcl.h"

#include <gtest/gtest.h>

namespace limpet {
namespace {

// One line, for comparing: {"a":"text","b":1,"c":[true]}
std::string flat(const HclValue& value) {
  if (value.kind == HclValue::Kind::text) return "\"" + value.text + "\"";
  if (value.kind == HclValue::Kind::number || value.kind == HclValue::Kind::boolean) return value.text;
  const bool list = value.kind == HclValue::Kind::list;
  std::string out = list ? "[" : "{";
  for (size_t i = 0; i < value.items.size(); ++i) {
    if (i > 0) out += ",";
    if (!list) out += value.keys[i] + ":";
    out += flat(value.items[i]);
  }
  return out + (list ? "]" : "}");
}

std::string repeated(const char* text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

struct Case {
  std::string text;
  std::string expected;
};

TEST(Hcl, HostileInputIsRefusedWithItsLine) {
  const Case cases[] = {
      {"a", "line 1: \"a\" is followed by neither a value nor a block"},
      {"a =", "line 1: a value is expected"},
      {"\n\na = b", "line 3: a value is expected"},
      {"= 1", "line 1: a key is expected"},
      {"}", "line 1: a key is expected"},
      {"a {\n b = 1\n", "line 3: a brace opened in line 1 is not closed"},
      {"a = [1,", "line 1: a list opened in line 1 is not closed"},
      {"a = [1 2]", "line 1: a comma or \"]\" is expected"},
      {"a = \"x", "line 1: a text is not closed"},
      {"a = \"x\n\"", "line 1: a text ends with its line"},
      {std::string("a = \"\0\"", 7), "line 1: a text ends with its line"},
      {std::string("\0", 1), "line 1: a key is expected"},
      {"a = \"\\", "line 1: a text is not closed"},
      {"a = \"\\q\"", "line 1: an unknown escape"},
      {"a = \"\\u12\"", "line 1: an escape with too few digits"},
      {"a = \"\\u0000\"", "line 1: no such character"},
      {"a = \"\\ud800\"", "line 1: no such character"},
      {"a = \"\\ud800\\u0041\"", "line 1: half a character"},
      {"a = \"\\UFFFFFFFF\"", "line 1: no such character"},
      {"/* a", "line 1: a comment is not closed"},
      {"a = <<", "line 1: the name of a heredoc"},
      {"a = <<EOF", "line 1: the name of a heredoc"},
      {"a = <<EOF\nx\n", "line 3: the heredoc \"EOF\" is not closed"},
      {"a \"b\" = 1", "line 1: \"a\" has a label and a value"},
      {"a \"1\" \"2\" \"3\" \"4\" \"5\" \"6\" {}", "line 1: a block has more than 4 labels"},
      {"{} x", "line 1: something stands after the last brace"},
      {"{\"a\": null}", "line 1: a value is expected"},
      {repeated("a {", 40), "line 1: values nest more than 32 deep"},
      {"a = " + repeated("[", 40), "line 1: values nest more than 32 deep"},
      {repeated("a \"b\" \"c\" {", 20), "line 1: values nest more than 32 deep"},
      {"a = [" + repeated("1,", 5000) + "]", "line 1: more than 4096 values"},
      {std::string(kHclBytes + 1, ' '), "line 1: the file is larger than 1048576 bytes"},
  };
  for (const Case& one : cases) {
    const auto parsed = parse_hcl(one.text);
    ASSERT_FALSE(parsed.has_value()) << one.text.substr(0, 60);
    EXPECT_EQ(parsed.error().code, Code::invalid_argument);
    EXPECT_TRUE(parsed.error().message.starts_with(one.expected)) << parsed.error().message << "\n" << one.expected;
  }
}

TEST(Hcl, WhatSpireFilesHoldIsRead) {
  const Case cases[] = {
      {"", "{}"},
      {"# a\n// b\n/* c\n d */\n", "{}"},
      {"a = 1\nb = \"x\" # tail\nc = true", "{a:1,b:\"x\",c:true}"},
      {"a = [\"x\", 'y']", ""},
      {"a = [\"x\", 2, ]", "{a:[\"x\",2]}"},
      {"p { A \"b\" { plugin_data { } } }", "{p:{A:{b:{plugin_data:{}}}}}"},
      {"A \"b\" {x=1}\nA \"c\" {y=2}\n", "{A:{b:{x:1},c:{y:2}}}"},
      {"A \"b\" {x=1}\nA \"b\" {y=2}\n", "{A:{b:{x:1,y:2}}}"},
      {"a = 1\na = 2\n", "{a:2}"},
      {"s = { a = 1, b = 2 }", "{s:{a:1,b:2}}"},
      {"a = \"${NAME} \\\"q\\\" \\\\ \\u00e9 \\x41\"", "{a:\"${NAME} \"q\" \\ \xc3\xa9 A\"}"},
      {"a = <<EOF\n x\n  y\nEOF\nb = 1", "{a:\" x\n  y\n\",b:1}"},
      {"a = <<-EOF\n  x\n    y\n  EOF\n", "{a:\"x\n  y\n\"}"},
      {"a = -1.5e3\nb = 0x1F", "{a:-1.5e3,b:0x1F}"},
      {"{\"server\": {\"a\": \"\\ud83d\\ude00\", \"l\": [{\"x\": 1}]}}", "{server:{a:\"\xf0\x9f\x98\x80\",l:[{x:1}]}}"},
      {" { } \n# after\n", "{}"},
      {"a = 1\r\nb = <<EOF\r\nx\r\nEOF\r\n", "{a:1,b:\"x\n\"}"},
  };
  for (const Case& one : cases) {
    const auto parsed = parse_hcl(one.text);
    if (one.expected.empty()) {
      EXPECT_FALSE(parsed.has_value()) << one.text;
      continue;
    }
    ASSERT_TRUE(parsed.has_value()) << one.text << "\n" << parsed.error().message;
    EXPECT_EQ(flat(*parsed), one.expected);
  }
}

TEST(Hcl, EachValueKnowsItsLine) {
  const auto parsed = parse_hcl("a {\n  b = 1\n\n  C \"d\" {\n  }\n}\n");
  ASSERT_TRUE(parsed.has_value());
  const HclValue* a = parsed->find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->line, 1u);
  EXPECT_EQ(a->find("b")->line, 2u);
  EXPECT_EQ(a->find("C")->find("d")->line, 4u);
  EXPECT_EQ(a->find("none"), nullptr);
}

TEST(Hcl, VariablesAreReplacedAsGoDoesIt) {
  const Case cases[] = {{"a $X b", "a 1 b"}, {"${X}y", "1y"}, {"$NONE.", "."},
                        {"$", "$"},          {"$ X", "$ X"},  {"${X", "${X"},
                        {"$X$X", "11"},      {"${NONE}", ""}, {"x = \"$X\"", "x = \"1\""}};
  for (const Case& one : cases) {
    EXPECT_EQ(expand_env(one.text, [](const char* name) { return std::string_view(name) == "X" ? "1" : nullptr; }),
              one.expected);
  }
}

}  // namespace
}  // namespace limpet
