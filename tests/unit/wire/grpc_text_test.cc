// SPDX-License-Identifier: Apache-2.0
// Framing of messages and the text fields of gRPC.
#include <gtest/gtest.h>

#include "wire/grpc_frame.h"
#include "wire/grpc_status.h"

namespace limpet::wire {
namespace {

TEST(FrameReaderTest, RefusesWhatIsNotAPlainMessageOfPermittedSize) {
  const struct {
    Bytes bytes;
    Code code;
    const char* text;
  } cases[] = {
      {{1, 0, 0, 0, 0}, Code::internal, "grpc: compressed flag set with identity or empty encoding"},
      {{2, 0, 0, 0, 0}, Code::internal, "grpc: received unexpected payload format 2"},
      {{255, 0, 0, 0, 0}, Code::internal, "grpc: received unexpected payload format 255"},
      {{0, 0, 0x40, 0, 1}, Code::resource_exhausted, "grpc: received message larger than max (4194305 vs. 4194304)"},
      {{0, 255, 255, 255, 255},
       Code::resource_exhausted,
       "grpc: received message larger than max (4294967295 vs. 4194304)"},
  };
  for (const auto& c : cases) {
    FrameReader reader;
    reader.feed(c.bytes);
    auto got = reader.next();
    ASSERT_FALSE(got) << c.text;
    EXPECT_EQ(got.error().code, c.code);
    EXPECT_EQ(got.error().message, c.text);
  }
}

TEST(FrameReaderTest, FindsTheSameMessagesHoweverTheBytesAreCut) {
  Outbox outbox;
  const std::vector<Bytes> sent{{}, {1}, Bytes(300, 7), {}, Bytes(70'000, 9), {2, 3}};
  for (const Bytes& message : sent) outbox.push(message, true);
  Bytes wire;
  outbox.take(3, wire);  // in the middle of a prefix
  outbox.take(outbox.bytes(), wire);
  EXPECT_EQ(outbox.bytes(), 0u);
  for (size_t step : {size_t{1}, size_t{4}, size_t{5}, size_t{7}, size_t{1000}, wire.size()}) {
    FrameReader reader;
    std::vector<Bytes> got;
    for (size_t at = 0; at < wire.size(); at += step) {
      reader.feed(BytesView(wire).subspan(at, std::min(step, wire.size() - at)));
      while (auto message = *reader.next()) got.push_back(std::move(*message));
    }
    EXPECT_EQ(got, sent) << step;
    EXPECT_EQ(reader.buffered(), 0u);
  }
}

TEST(GrpcTimeoutTest, MalformedOnesAreRefused) {
  for (const char* text : {"", "S", "5", "5x", "-5S", "+5S", " 5S", "5 S", "123456789S", "0x1S", "1.5S", "5SS"}) {
    EXPECT_FALSE(parse_timeout(text)) << text;
  }
}

TEST(GrpcTimeoutTest, EveryUnitIsUnderstoodAndRoundedUp) {
  const std::pair<const char*, int64_t> cases[] = {
      {"30S", 30'000},
      {"100m", 100},
      {"1u", 1},
      {"1000u", 1},
      {"1001u", 2},
      {"1n", 1},
      {"2M", 120'000},
      {"1H", 3'600'000},
      {"0S", 0},
      {"99999999H", 99'999'999ll * 3'600'000},
      {"29999726u", 30'000},
  };
  for (const auto& [text, ms] : cases) EXPECT_EQ(parse_timeout(text), ms) << text;
  for (int64_t ms : {int64_t{0}, int64_t{1}, int64_t{30'000}, int64_t{99'999'999}}) {
    EXPECT_EQ(parse_timeout(format_timeout(ms)), ms);
  }
  EXPECT_EQ(format_timeout(100'000'000), "100000S");
  EXPECT_EQ(format_timeout(INT64_MAX / 2).size(), 9u);
}

TEST(GrpcMessageTest, PercentEncodingSurvivesAnything) {
  EXPECT_EQ(percent_encode("a%b\n\xc3\xa9~ "), "a%25b%0A%C3%A9~ ");
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  EXPECT_EQ(percent_decode(percent_encode(all)), all);
  for (const char* damaged : {"%", "%4", "%zz", "a%4", "100%", "%%%"}) EXPECT_EQ(percent_decode(damaged), damaged);
  EXPECT_EQ(percent_decode("%41%4a%4A"), "AJJ");
}

TEST(GrpcBinTest, PaddingIsOptional) {
  const std::vector<uint8_t> bytes{1, 2, 3, 4};
  EXPECT_EQ(encode_bin(bytes), "AQIDBA");
  EXPECT_EQ(decode_bin("AQIDBA"), bytes);
  EXPECT_EQ(decode_bin("AQIDBA=="), bytes);
  EXPECT_EQ(decode_bin(""), std::vector<uint8_t>());
  for (const char* damaged : {"A", "A=", "!!!!", "AQID BA", "===="}) {
    EXPECT_FALSE(decode_bin(damaged)) << damaged;
  }
}

TEST(GrpcStatusTest, CodesOfEverySource) {
  EXPECT_EQ(parse_status("7"), Code::permission_denied);
  EXPECT_EQ(parse_status("99"), Code::unknown);
  for (const char* text : {"", "x", "7x", "-1", "99999999999"}) EXPECT_FALSE(parse_status(text)) << text;
  EXPECT_EQ(error_for_reset(8).text(), "Canceled: stream terminated by RST_STREAM with error code: CANCEL");
  EXPECT_EQ(error_for_reset(7).code, Code::unavailable);
  EXPECT_EQ(error_for_reset(500).code, Code::unknown);
  EXPECT_EQ(error_for_http_status(404, "text/html").text(),
            "Unimplemented: unexpected HTTP status code received from server: 404; transport: received unexpected "
            "content-type \"text/html\"");
  EXPECT_EQ(error_for_http_status(503, "application/grpc").code, Code::unavailable);
}

}  // namespace
}  // namespace limpet::wire
