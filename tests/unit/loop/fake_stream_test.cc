// SPDX-License-Identifier: Apache-2.0
#include "loop/fake_stream.h"

#include <gtest/gtest.h>

#include "loop/destroy_at_every_step.h"
#include "support/stream_ends.h"

namespace limpet {
namespace {

using Strings = std::vector<std::string>;

struct Ends {
  Ends() {
    auto [x, y] = connect_memory(loop);
    raw_a = x.get();
    raw_b = y.get();
    a.take(std::move(x));
    b.take(std::move(y));
  }
  FakeLoop loop;
  MemoryStream* raw_a;
  MemoryStream* raw_b;
  StreamEnd a, b;
};

TEST(MemoryStream, CarriesBytesBothWays) {
  Ends e;
  e.a.write("hello ");
  e.a.write("there");
  e.b.write("and back");
  EXPECT_EQ(e.b.got, "");  // nothing before the loop runs
  EXPECT_TRUE(e.a.results.empty());
  EXPECT_EQ(e.a.stream->queued(), 11u);
  e.loop.run_ready();
  EXPECT_EQ(e.b.got, "hello there");
  EXPECT_EQ(e.a.got, "and back");
  EXPECT_EQ(e.a.results, (Strings{"ok", "ok"}));
  EXPECT_EQ(e.a.stream->queued(), 0u);
}

TEST(MemoryStream, CutsIntoChunks) {
  Ends e;
  e.raw_b->chunk = 3;
  e.a.write("0123456789");
  e.loop.run_ready();
  EXPECT_EQ(e.b.got, "0123456789");
  EXPECT_EQ(e.b.largest, 3u);
}

TEST(MemoryStream, HalfClosesAfterEverythingWritten) {
  Ends e;
  e.raw_b->chunk = 1;
  e.a.write("last");
  e.a.shutdown();
  e.a.write("too late");
  e.loop.run_ready();
  EXPECT_EQ(e.b.got, "last");
  EXPECT_EQ(e.b.end, "end");
  EXPECT_EQ(e.a.end, "");
  EXPECT_EQ(e.a.results, (Strings{"write: broken pipe", "ok", "ok"}));
  e.b.write("still open this way");
  e.loop.run_ready();
  EXPECT_EQ(e.a.got, "still open this way");
  EXPECT_EQ(e.b.ends, 1);
}

TEST(MemoryStream, HoldsBackAWriterWhoseReaderPauses) {
  Ends e;
  e.raw_b->capacity = 4;
  e.b.stream->pause();
  e.a.write("0123456789");
  e.loop.run_ready();
  EXPECT_EQ(e.b.got, "");
  EXPECT_TRUE(e.a.results.empty());
  EXPECT_EQ(e.a.stream->queued(), 6u);
  e.b.stream->read(e.b);
  e.loop.run_ready();
  EXPECT_EQ(e.b.got, "0123456789");
  EXPECT_EQ(e.a.results, Strings{"ok"});
}

TEST(MemoryStream, DestroyedLetsThePeerReadWhatWasSent) {
  Ends e;
  e.raw_b->capacity = 4;
  e.b.stream->pause();
  e.a.write("0123");
  e.a.write("lost");
  e.loop.run_ready();
  e.a.stream.reset();
  e.b.stream->read(e.b);
  e.loop.run_ready();
  EXPECT_EQ(e.b.got, "0123");
  EXPECT_EQ(e.b.end, "end");
  EXPECT_EQ(e.a.results, (Strings{"ok", "write: the stream was closed"}));
  e.b.write("to nobody");
  e.loop.run_ready();
  EXPECT_EQ(e.b.results, Strings{"write: broken pipe"});
}

TEST(MemoryStream, CutFailsEverythingOnBothEnds) {
  Ends e;
  e.a.write("on its way");
  e.raw_b->cut();
  e.loop.run_ready();
  EXPECT_EQ(e.b.got, "");
  EXPECT_EQ(e.a.end, "read: connection reset by peer");
  EXPECT_EQ(e.b.end, "read: connection reset by peer");
  EXPECT_EQ(e.a.results, Strings{"write: broken pipe"});
  e.a.write("more");
  e.b.shutdown();
  e.loop.run_ready();
  EXPECT_EQ(e.a.results.back(), "write: broken pipe");
  EXPECT_EQ(e.b.results.back(), "shutdown: broken pipe");
  EXPECT_EQ(e.a.ends, 1);
}

TEST(MemoryStream, MayBeDestroyedByItsReader) {
  Ends e;
  e.raw_b->chunk = 2;
  e.b.close_after = 4;
  e.a.close_at_end = true;
  e.a.write("0123456789");
  e.loop.run_ready();
  EXPECT_EQ(e.b.got, "0123");
  EXPECT_EQ(e.b.stream, nullptr);
  EXPECT_EQ(e.a.stream, nullptr);
}

TEST(MemoryStream, ShowsTheAddressAndCredentialsSetOnIt) {
  Ends e;
  e.raw_a->address = {.unix_socket = false, .ip = "::1", .port = 8081};
  e.raw_a->peer = std::nullopt;
  e.raw_b->peer = PeerCredentials{42, 1000, 100};
  EXPECT_EQ(e.a.stream->peer_address().text(), "[::1]:8081");
  EXPECT_FALSE(e.a.stream->credentials());
  EXPECT_EQ(e.b.stream->credentials()->pid, 42);
  EXPECT_EQ(e.b.stream->peer_address().text(), "unix");
  EXPECT_EQ((StreamAddress{.unix_socket = false, .ip = "127.0.0.1", .port = 1}.text()), "127.0.0.1:1");
}

// A flow that writes, waits for an echo and half-closes; the echo is a fake that outlives it.
struct EchoScenario {
  explicit EchoScenario(FakeLoop& loop) {
    auto [x, y] = connect_memory(loop);
    y->chunk = 2;
    echo.changed = [this] {
      if (echo.stream != nullptr && echo.results.size() < echo.got.size() / 2 && echo.end.empty()) echo.write("ok");
    };
    echo.take(std::move(y));
    flow = std::make_unique<StreamEnd>(std::move(x));
    flow->write("123456");
    flow->shutdown();
  }
  StreamEnd echo;
  std::unique_ptr<StreamEnd> flow;
};

TEST(MemoryStream, MayDieAtEveryStep) {
  EXPECT_GT(destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<EchoScenario>(loop); }), 8u);
}

}  // namespace
}  // namespace limpet
