// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"

#include <gtest/gtest.h>

#include "base/cut.h"

namespace limpet {
namespace {

using namespace std::string_view_literals;

TEST(Hex, RefusesWhatIsNotHex) {
  for (const char* text : {"a", "abc", "0g", "g0", "0 ", "0x", "--"}) {
    const auto out = hex_decode(text);
    ASSERT_FALSE(out) << text;
    EXPECT_EQ(out.error().code, Code::invalid_argument) << text;
  }
}

TEST(Hex, ReadsEitherCaseAndWritesLower) {
  EXPECT_EQ(hex_decode("00fFAb9").has_value(), false);
  EXPECT_EQ(hex_decode("00fFAb").value(), (Bytes{0, 0xff, 0xab}));
  EXPECT_EQ(hex_encode(Bytes{0, 0xff, 0xab}), "00ffab");
  EXPECT_EQ(hex_decode("").value(), Bytes{});
}

TEST(Base64, RefusesWhatIsNotCanonical) {
  for (const char* text : {"Zg", "Zg=", "Zg===", "Z", "Z===", "====", "=", "Zh==", "Zm9=", "Zm9vYg", "Zg==Zg==", "Zm-_",
                           "Zm9v\n", " Zm9v", "Zm 9", "Z=9v", "Zm9vY==="}) {
    const auto out = base64_decode(text);
    ASSERT_FALSE(out) << text;
    EXPECT_EQ(out.error().code, Code::invalid_argument) << text;
  }
}

TEST(Base64Url, RefusesWhatIsNotCanonical) {
  for (const char* text : {"Zg==", "Z", "Zh", "Zm9", "Zm+/", "Zm9vY", "Zg\n"})
    EXPECT_FALSE(base64url_decode(text)) << text;
}

TEST(Base64, AgreesWithRfc4648) {
  struct Case {
    const char* plain;
    const char* standard;
    const char* url;
  };
  for (const Case& c : {Case{"", "", ""},
                        {"f", "Zg==", "Zg"},
                        {"fo", "Zm8=", "Zm8"},
                        {"foo", "Zm9v", "Zm9v"},
                        {"foob", "Zm9vYg==", "Zm9vYg"},
                        {"fooba", "Zm9vYmE=", "Zm9vYmE"},
                        {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
                        {"\xfb\xff\xbf", "+/+/", "-_-_"}}) {
    EXPECT_EQ(base64_encode(as_bytes(c.plain)), c.standard);
    EXPECT_EQ(base64url_encode(as_bytes(c.plain)), c.url);
    EXPECT_EQ(base64_decode(c.standard).value(), to_bytes(std::string_view(c.plain)));
    EXPECT_EQ(base64url_decode(c.url).value(), to_bytes(std::string_view(c.plain)));
  }
}

TEST(Base64, GivesBackEveryByteAtEveryLength) {
  Bytes bytes;
  for (int i = 0; i < 600; i++) {
    EXPECT_EQ(base64_decode(base64_encode(bytes)).value(), bytes);
    EXPECT_EQ(base64url_decode(base64url_encode(bytes)).value(), bytes);
    bytes.push_back(static_cast<uint8_t>(i * 7));
  }
}

TEST(Utf8, RefusesOverlongSurrogatesAndTruncation) {
  for (const std::string_view text :
       {"\x80"sv, "\xbf"sv, "\xc0\x80"sv, "\xc1\xbf"sv, "\xe0\x80\x80"sv, "\xe0\x9f\xbf"sv, "\xed\xa0\x80"sv,
        "\xed\xbf\xbf"sv, "\xf0\x80\x80\x80"sv, "\xf0\x8f\xbf\xbf"sv, "\xf4\x90\x80\x80"sv, "\xf5\x80\x80\x80"sv,
        "\xff"sv, "\xc3"sv, "\xe2\x82"sv, "\xf0\x9f\x98"sv, "a\xc3("sv, "\xe2(\xac"sv, "\xe2\x82("sv}) {
    EXPECT_FALSE(is_utf8(text)) << hex_encode(as_bytes(text));
  }
}

TEST(Utf8, AcceptsEveryLengthOfCharacter) {
  for (const std::string_view text :
       {""sv, "abc"sv, "\0"sv, "\x7f"sv, "\xc2\x80"sv, "\xdf\xbf"sv, "\xe0\xa0\x80"sv, "\xed\x9f\xbf"sv,
        "\xee\x80\x80"sv, "\xef\xbf\xbf"sv, "\xf0\x90\x80\x80"sv, "\xf4\x8f\xbf\xbf"sv, "d\xc3\xa9j\xc3\xa0 vu"sv}) {
    EXPECT_TRUE(is_utf8(text)) << hex_encode(as_bytes(text));
  }
}

TEST(Utf8, IsCutAndCleanedByWholeCharacters) {
  const std::tuple<std::string_view, std::string_view> cleaned[] = {
      {"", ""},
      {"\xff", "?"},
      {"a\xc3", "a?"},
      {"\xe2\x82z", "??z"},
      {"\xc3\xa4\x80\xc3\xa4", "\xc3\xa4?\xc3\xa4"},
      {"\xed\xa0\x80", "???"},
      {"\xf0\x9f\x90\x9a\xe2\x82\xac", "\xf0\x9f\x90\x9a\xe2\x82\xac"}};
  for (const auto& [text, expected] : cleaned) EXPECT_EQ(clean_text(text), expected) << hex_encode(as_bytes(text));
  EXPECT_EQ(cut_text("abcdef", 6), "abcdef");
  EXPECT_EQ(cut_text("a\xc3\xa4\xc3\xa4", 5), "a\xc3\xa4\xc3\xa4");
  EXPECT_EQ(cut_text("a\xc3\xa4\xc3\xa4\xc3\xa4", 6), "a\xc3\xa4...");
  EXPECT_EQ(cut_text("\xc3\xa4\xc3\xa4\xc3\xa4", 4), "...");
}

TEST(Pem, RefusesADamagedBlock) {
  for (const char* text : {
           "-----BEGIN A-----\n",
           "-----BEGIN A-----\nZg==\n",
           "-----BEGIN A-----\nZg==\n-----END B-----\n",
           "-----BEGIN A-----\nZg==\n-----END A\n",
           "-----BEGIN A-----\nZg=\n-----END A-----\n",
           "-----BEGIN A-----\nZ!==\n-----END A-----\n",
           "-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\nZg==\n-----END A-----\n",
           "-----BEGIN A-----\n-----BEGIN A-----\nZg==\n-----END A-----\n",
           "-----BEGIN A-----\nZg==\n-----END A-----\n-----BEGIN A-----\n",
       }) {
    const auto out = pem_decode(text);
    ASSERT_FALSE(out) << text;
    EXPECT_EQ(out.error().code, Code::invalid_argument);
    EXPECT_TRUE(out.error().message.starts_with("PEM block \"A\": ")) << out.error().message;
  }
}

TEST(Pem, IgnoresTextAroundBlocks) {
  const auto out = pem_decode(
      "subject=/CN=x\n-----BEGIN CERTIFICATE-----\r\nZm9v\r\nYmFy  \r\n-----END CERTIFICATE-----\r\n"
      "between\n-----BEGIN X-----\n-----END X-----");
  ASSERT_TRUE(out) << out.error().message;
  ASSERT_EQ(out->size(), 2u);
  EXPECT_EQ((*out)[0].label, "CERTIFICATE");
  EXPECT_EQ(as_text((*out)[0].der), "foobar");
  EXPECT_EQ((*out)[1].label, "X");
  EXPECT_TRUE((*out)[1].der.empty());
  EXPECT_TRUE(pem_decode("").value().empty());
  EXPECT_TRUE(pem_decode("no block here\n").value().empty());
}

TEST(Pem, WritesSixtyFourColumns) {
  EXPECT_EQ(pem_encode("A", Bytes(49, 0)), "-----BEGIN A-----\n" + std::string(64, 'A') + "\nAA==\n-----END A-----\n");
  EXPECT_EQ(pem_encode("A", {}), "-----BEGIN A-----\n-----END A-----\n");
  for (size_t size : {0u, 1u, 47u, 48u, 49u, 1000u}) {
    const Bytes der(size, 0x5a);
    const auto out = pem_decode(pem_encode("EC PRIVATE KEY", der));
    ASSERT_TRUE(out);
    EXPECT_EQ((*out)[0].der, der);
  }
}

}  // namespace
}  // namespace limpet
