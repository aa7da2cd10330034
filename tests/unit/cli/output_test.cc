// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "cli/json.h"
#include "cli/output.h"
#include "wire/message.h"

namespace limpet::cli {
namespace {

TEST(GoDuration, PrintsAsGoDoes) {
  EXPECT_EQ(go_duration(0), "0s");
  EXPECT_EQ(go_duration(999), "999ns");
  EXPECT_EQ(go_duration(1'500), "1.5µs");
  EXPECT_EQ(go_duration(3'341'999), "3.341999ms");
  EXPECT_EQ(go_duration(10'000'000'000), "10s");
  EXPECT_EQ(go_duration(5'876'263'265), "5.876263265s");
  EXPECT_EQ(go_duration(3'723'000'000'000), "1h2m3s");
  EXPECT_EQ(go_duration(3'600'000'000'000), "1h0m0s");
}

TEST(Counted, KnowsOneFromMany) {
  EXPECT_EQ(counted(0, "entry", "entries"), "0 entries");
  EXPECT_EQ(counted(1, "entry", "entries"), "1 entry");
  EXPECT_EQ(counted(2, "entry", "entries"), "2 entries");
}

TEST(DescribeEntry, LeavesOutWhatIsNotSet) {
  wire::Message<spire_api_types_Entry> entry;
  EXPECT_EQ(describe_entry(*entry),
            "Entry ID                : (none)\n"
            "SPIFFE ID               : \n"
            "Parent ID               : \n"
            "Revision                : 0\n"
            "X509-SVID TTL           : default\n"
            "JWT-SVID TTL            : default\n"
            "\n");
}

TEST(JsonWriter, SeparatesAndQuotes) {
  JsonWriter out;
  out.begin_object().key("a").begin_array().number(1).string("q\"\\\n\x01").end_array();
  out.key("b")
      .begin_object()
      .end_object()
      .key("c")
      .boolean(true)
      .key("d")
      .long_number(7)
      .key("e")
      .raw("null")
      .end_object();
  EXPECT_EQ(out.text(), R"({"a":[1,"q\"\\\n\u0001"],"b":{},"c":true,"d":"7","e":null})");
}

TEST(ReadFile, SaysWhichFileIsMissing) {
  const auto content = read_file("/nonexistent/file.json");
  ASSERT_FALSE(content);
  EXPECT_EQ(content.error().message, "open /nonexistent/file.json: no such file or directory");
}

}  // namespace
}  // namespace limpet::cli
