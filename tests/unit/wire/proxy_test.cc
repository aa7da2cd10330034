// SPDX-License-Identifier: Apache-2.0
// The PROXY protocol: headers as bytes, and the listener on memory streams, in pieces and at every step of its life.
#include <gtest/gtest.h>

#include "base/limits.h"
#include "loop/fake_loop.h"
#include "loop/fake_stream.h"
#include "wire/proxy_header.h"
#include "wire/proxy_listener.h"

namespace limpet::wire {
namespace {

const std::string kSignature("\r\n\r\n\0\r\nQUIT\n", 12);

std::string v2(uint8_t version_command, uint8_t family, const std::string& rest) {
  std::string out = kSignature;
  for (const size_t byte : {size_t{version_command}, size_t{family}, rest.size() >> 8, rest.size() & 0xff})
    out += static_cast<char>(byte);
  return out + rest;
}
const std::string kV4("\xc0\x00\x02\x01\xc0\x00\x02\x02\xdc\x04\x01\xbb", 12);
const std::string kV6 = std::string("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 16) + std::string(15, '\0') + "\x02" +
                        std::string("\xdc\x04\x01\xbb", 4);

struct Read {
  std::string source;  // "" where there is none, "?" where more is needed, "!" where it is refused
  size_t size = 0;
  bool operator==(const Read&) const = default;
};
void PrintTo(const Read& read, std::ostream* out) { *out << read.source << " of " << read.size; }
Read read(std::string_view bytes) {
  const auto header = read_proxy_header(as_bytes(bytes));
  if (!header) return {"!", 0};
  if (!*header) return {"?", 0};
  return {(*header)->source ? (*header)->source->text() : "", (*header)->size};
}

TEST(ProxyHeader, VersionOne) {
  const auto is = [](const std::string& line, const std::string& source) {
    EXPECT_EQ(read(line + "\x16\x03"), (Read{source, line.size()})) << line;
  };
  is("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", "192.0.2.1:56324");
  is("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535");
  is("PROXY TCP6 2001:db8::1 ::2 1 0\r\n", "[2001:db8::1]:1");
  is("PROXY TCP6 ::ffff:192.0.2.1 ::2 1 2\r\n", "192.0.2.1:1");
  is("PROXY UNKNOWN\r\n", "");
  is("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "");
}

TEST(ProxyHeader, VersionOneThatIsNone) {
  for (const std::string_view line :
       {"PROXY \r\n", "PROXY TCP4\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY tcp4 1.1.1.1 1.1.1.1 1 2\r\n", "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 192.0.2.1 192.0.2.1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 x 1 2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n\r\n", "PROXY UNIX a b\r\n", "PROXY UNKNOWNX\r\n",
        "PROXY TCP4 01.1.1.1 1.1.1.1 1 2\r\n"})
    EXPECT_EQ(read(line).source, "!") << line;
  EXPECT_EQ(read("PROXY " + std::string(102, 'x')).source, "!");
  EXPECT_EQ(read("PROXY UNKNOWN " + std::string(91, 'x') + "\r\n"), (Read{"", 107}));
  EXPECT_EQ(read("PROXY UNKNOWN " + std::string(92, 'x') + "\r\n").source, "!");
}

TEST(ProxyHeader, VersionTwo) {
  EXPECT_EQ(read(v2(0x21, 0x11, kV4) + "x"), (Read{"192.0.2.1:56324", 28}));
  EXPECT_EQ(read(v2(0x21, 0x21, kV6) + "x"), (Read{"[2001:db8::1]:56324", 52}));
  EXPECT_EQ(read(v2(0x21, 0x11, kV4 + std::string(100, 't'))), (Read{"192.0.2.1:56324", 128}));
  EXPECT_EQ(read(v2(0x20, 0x00, "")), (Read{"", 16}));   // LOCAL: a health check of the proxy itself
  EXPECT_EQ(read(v2(0x20, 0x11, kV4)), (Read{"", 28}));  // its addresses count for nothing
  EXPECT_EQ(read(v2(0x21, 0x00, "abc")), (Read{"", 19}));
  EXPECT_EQ(read(v2(0x21, 0x12, kV4)), (Read{"", 28}));                     // UDP
  EXPECT_EQ(read(v2(0x21, 0x31, std::string(216, 'u'))), (Read{"", 232}));  // a Unix socket
}

TEST(ProxyHeader, VersionTwoThatIsNone) {
  EXPECT_EQ(read(v2(0x11, 0x11, kV4)).source, "!");
  EXPECT_EQ(read(v2(0x31, 0x11, kV4)).source, "!");
  EXPECT_EQ(read(v2(0x22, 0x11, kV4)).source, "!");
  EXPECT_EQ(read(v2(0x21, 0x41, kV4)).source, "!");
  EXPECT_EQ(read(v2(0x21, 0x13, kV4)).source, "!");
  EXPECT_EQ(read(v2(0x21, 0x11, kV4.substr(1))).source, "!");
  EXPECT_EQ(read(v2(0x21, 0x21, kV6.substr(1))).source, "!");
  EXPECT_EQ(read(v2(0x21, 0x11, std::string(limits::kProxyHeaderBytes + 1, 'x')).substr(0, 16)).source, "!");
}

TEST(ProxyHeader, WhatIsNoneIsLeftAlone) {
  for (const std::string_view other : {"\x16\x03\x01", "PRI * HTTP/2.0\r\n", "PROXIES", "\r\n\r\nx", "x"})
    EXPECT_EQ(read(other), (Read{"", 0})) << other;
}

TEST(ProxyHeader, EveryBeginningNeedsMore) {
  for (const std::string& whole :
       {std::string("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"), v2(0x21, 0x21, kV6 + "tlv")}) {
    for (size_t size = 0; size < whole.size(); ++size) EXPECT_EQ(read(whole.substr(0, size)).source, "?") << size;
  }
}

// ---- the listener ----
struct Next final : ListenerClient, StreamReader {
  void on_connection(std::unique_ptr<Stream> accepted) override {
    address = accepted->peer_address().text();
    stream = std::move(accepted);
    stream->read(*this);
  }
  void on_bytes(BytesView bytes) override {
    text += as_text(bytes);
    if (drop) stream.reset();
  }
  void on_end(std::optional<Error>) override { ended = true; }
  std::string address;
  std::string text;
  bool ended = false;
  bool drop = false;
  std::unique_ptr<Stream> stream;
};
struct Refused final : GrpcServerEvents {
  void on_connection_refused(const Peer&, const Error& why) override { all.push_back(why.message); }
  std::vector<std::string> all;
};
struct Silent final : StreamReader {
  void on_bytes(BytesView) override {}
  void on_end(std::optional<Error>) override { ended = true; }
  bool ended = false;
};

class ProxyListenerTest : public testing::Test {
 protected:
  std::unique_ptr<MemoryStream> connect(const std::string& from) {
    MemoryPair pair = connect_memory(loop);
    pair.b->address = {.unix_socket = false, .ip = from, .port = 9};
    pair.b->peer.reset();
    pair.b->chunk = chunk;
    pair.a->read(client);
    listener->on_connection(std::move(pair.b));
    return std::move(pair.a);
  }
  void send(MemoryStream& stream, const std::string& text) {
    stream.write(to_bytes(text), {});
    loop.advance(0);
  }

  size_t chunk = 64u << 10;
  FakeLoop loop;
  Next next;
  Refused refused;
  Silent client;
  std::unique_ptr<ProxyListener> listener = std::make_unique<ProxyListener>(
      loop, std::vector<IpRange>{*IpRange::parse("10.0.0.0/8"), *IpRange::parse("fd00::/8")}, next, &refused);
};

const std::string kHeader = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";

TEST_F(ProxyListenerTest, TheAddressIsTheHeadersAndTheRestIsThere) {
  for (const size_t size : {size_t{1}, size_t{7}, size_t{1000}}) {
    chunk = size;
    for (const std::string& header : {kHeader, v2(0x21, 0x11, kV4)}) {
      next.text.clear();
      const auto stream = connect("10.1.2.3");
      send(*stream, header + "hello");
      EXPECT_EQ(next.address, "192.0.2.1:56324");
      EXPECT_EQ(next.text, "hello");
      send(*stream, " world");
      EXPECT_EQ(next.text, "hello world");
      EXPECT_EQ(listener->waiting(), 0u);
    }
  }
}

TEST_F(ProxyListenerTest, TrustedWithoutHeaderKeepItsAddress) {
  const auto stream = connect("fd00::1");
  send(*stream, "hello");
  EXPECT_EQ(next.address, "[fd00::1]:9");
  EXPECT_EQ(next.text, "hello");
}

TEST_F(ProxyListenerTest, OthersAreHandedOnAsTheyAre) {
  const auto stream = connect("192.0.2.77");
  send(*stream, kHeader + "hello");
  EXPECT_EQ(next.address, "192.0.2.77:9");
  EXPECT_EQ(next.text, kHeader + "hello");
}

TEST_F(ProxyListenerTest, ABadHeaderEndsTheConnection) {
  const auto stream = connect("10.0.0.1");
  send(*stream, "PROXY nonsense\r\n");
  EXPECT_EQ(refused.all.size(), 1u);
  EXPECT_TRUE(client.ended);
  EXPECT_EQ(next.stream, nullptr);
  EXPECT_EQ(listener->waiting(), 0u);
}

TEST_F(ProxyListenerTest, NoHeaderInTimeEndsTheConnection) {
  const auto stream = connect("10.0.0.1");
  send(*stream, "PRO");
  loop.advance(limits::kProxyHeaderMs - 1);
  EXPECT_EQ(listener->waiting(), 1u);
  loop.advance(1);
  EXPECT_EQ(listener->waiting(), 0u);
  EXPECT_EQ(refused.all, std::vector<std::string>{"no PROXY header within its time"});
}

TEST_F(ProxyListenerTest, APeerThatLeavesIsForgotten) {
  auto stream = connect("10.0.0.1");
  stream.reset();
  loop.advance(0);
  EXPECT_EQ(listener->waiting(), 0u);
}

TEST_F(ProxyListenerTest, WaitingConnectionsAreBounded) {
  std::vector<std::unique_ptr<MemoryStream>> streams;
  for (size_t i = 0; i < limits::kProxyWaiting + 5; ++i) streams.push_back(connect("10.0.0.1"));
  EXPECT_EQ(listener->waiting(), limits::kProxyWaiting);
  EXPECT_EQ(refused.all.size(), 5u);
}

TEST_F(ProxyListenerTest, TheServerMayDropTheStreamWhileItReads) {
  next.drop = true;
  const auto stream = connect("10.0.0.1");
  send(*stream, kHeader + "hello");
  EXPECT_EQ(next.text, "hello");
  EXPECT_EQ(next.stream, nullptr);
}

TEST_F(ProxyListenerTest, TheServerMayPauseBeforeTheFirstBytes) {
  const auto stream = connect("10.0.0.1");
  stream->write(to_bytes(kHeader + "hello"), {});
  loop.run_ready();  // the timer that brings the first bytes has not fired
  ASSERT_NE(next.stream, nullptr);
  next.stream->pause();
  loop.advance(0);
  EXPECT_EQ(next.text, "");
  next.stream->read(next);
  loop.advance(0);
  EXPECT_EQ(next.text, "hello");
}

TEST_F(ProxyListenerTest, DiesAtEachStep) {
  const std::string all = v2(0x21, 0x11, kV4) + "hello";
  chunk = 1;
  for (size_t steps = 0; steps < 60; ++steps) {
    const auto stream = connect("10.0.0.1");
    stream->write(to_bytes(all), {});
    for (size_t i = 0; i < steps; ++i) loop.run_one();
    listener =
        std::make_unique<ProxyListener>(loop, std::vector<IpRange>{*IpRange::parse("10.0.0.0/8")}, next, &refused);
    next.stream.reset();
    loop.advance(0);
  }
}

}  // namespace
}  // namespace limpet::wire
