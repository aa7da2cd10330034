// SPDX-License-Identifier: Apache-2.0
// dial() on a real loop: what it says when it fails, and that one who stops asking leaves nothing behind.
#include <gtest/gtest.h>
#include <unistd.h>

#include "loop/uv_loop.h"
#include "loop/uv_stream.h"
#include "test_identity.h"
#include "wire/grpc_client.h"

namespace limpet::wire {
namespace {

// Accepts and says nothing.
struct Silent final : ListenerClient {
  void on_connection(std::unique_ptr<Stream> stream) override { streams.push_back(std::move(stream)); }
  std::vector<std::unique_ptr<Stream>> streams;
};

struct Asker {
  explicit Asker(UvLoop& l) : loop(l) {}
  void on_done(Result<std::unique_ptr<Channel>> result) {
    if (!result) error = result.error();
    loop.stop();
  }
  UvLoop& loop;
  std::optional<Error> error;
  Pending<std::unique_ptr<Channel>> pending;
};

class DialTest : public testing::Test {
 protected:
  std::string path = testing::TempDir() + "/limpet-dial-" + std::to_string(getpid());
  TestPolicy policy;
};

TEST_F(DialTest, FailuresSpeakLikeGrpcGo) {
  UvLoop loop;
  Silent silent;
  auto unix_listener = listen_unix(loop, path, 0700, silent);
  auto tcp_listener = listen_tcp(loop, "127.0.0.1", 0, silent);
  ASSERT_TRUE(unix_listener && tcp_listener);
  const uint16_t port = (*tcp_listener)->port();
  const std::pair<DialOptions, std::string> cases[] = {
      {{.unix_path = path + ".none"},
       "connection error: desc = \"transport: Error while dialing: dial unix " + path +
           ".none: connect: no such file or directory\""},
      {{.unix_path = path, .timeout_ms = 3'000},
       "connection error: desc = \"transport: error reading server preface: context deadline exceeded\""},
      {{.host = "127.0.0.1", .port = port, .tls = &policy, .timeout_ms = 3'000},
       "connection error: desc = \"transport: authentication handshake failed: context deadline exceeded\""},
  };
  for (const auto& [options, text] : cases) {
    Asker asker(loop);
    dial(loop, options, asker.pending.then<&Asker::on_done>(&asker));
    loop.run();
    ASSERT_TRUE(asker.error);
    EXPECT_EQ(asker.error->code, Code::unavailable);
    EXPECT_EQ(asker.error->message, text);
  }
}

// The leak checker is the judge.
TEST_F(DialTest, AnAskerOrALoopThatDiesLeavesNothing) {
  for (const bool tls : {false, true}) {
    for (const bool asker_first : {false, true}) {
      for (const int turns : {0, 1, 5}) {
        auto loop = std::make_unique<UvLoop>();
        Silent silent;
        auto unix_listener = listen_unix(*loop, path, 0700, silent);
        auto tcp_listener = listen_tcp(*loop, "127.0.0.1", 0, silent);
        ASSERT_TRUE(unix_listener && tcp_listener);
        auto asker = std::make_unique<Asker>(*loop);
        DialOptions options{.unix_path = path};
        if (tls) options = {.host = "127.0.0.1", .port = (*tcp_listener)->port(), .tls = &policy};
        dial(*loop, options, asker->pending.then<&Asker::on_done>(asker.get()));
        for (int i = 0; i < turns; ++i) {
          loop->post([&loop] { loop->stop(); });
          loop->run();
        }
        if (asker_first) asker.reset();
        silent.streams.clear();
        unix_listener->reset();
        tcp_listener->reset();
        loop.reset();
      }
    }
  }
}

}  // namespace
}  // namespace limpet::wire
