// SPDX-License-Identifier: Apache-2.0
#include "loop/uv_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "support/stream_ends.h"

namespace limpet {
namespace {

using Strings = std::vector<std::string>;

class Sockets : public testing::Test, public ListenerClient {
 protected:
  Sockets() {
    char name[] = "/tmp/limpet-stream-XXXXXX";
    dir_ = mkdtemp(name);
  }
  ~Sockets() override {
    accepted_.clear();
    listener_.reset();
    std::filesystem::remove_all(dir_);
  }

  void on_connection(std::unique_ptr<Stream> stream) override {
    accepted_.push_back(std::make_unique<StreamEnd>());
    StreamEnd& end = *accepted_.back();
    end.changed = [this] { check(); };
    end.reads = accepted_read_;
    end.take(std::move(stream));
    if (close_listener_on_accept_) listener_.reset();
    check();
  }

  // Runs the loop until `condition` holds; a test that waits in vain ends by its deadline.
  void run_until(std::function<bool()> condition) {
    condition_ = std::move(condition);
    Timer deadline(loop_);
    deadline.start<&Sockets::on_deadline>(20'000, this);
    if (!condition_()) loop_.run();
    condition_ = nullptr;
  }
  void on_deadline() {
    ADD_FAILURE() << "nothing happened for 20 s";
    loop_.stop();
  }
  void check() {
    if (condition_ && condition_()) loop_.stop();
  }

  struct Dialled {
    explicit Dialled(Sockets& t) : test(t) {}
    void on_dialled(Result<std::unique_ptr<Stream>> result) {
      answered = true;
      if (result) {
        end.changed = [this] { test.check(); };
        end.take(std::move(*result));
      } else {
        error = result.error().message;
        code = result.error().code;
      }
      test.check();
    }
    Done<std::unique_ptr<Stream>> done() { return pending.then<&Dialled::on_dialled>(this); }
    Sockets& test;
    bool answered = false;
    std::string error;
    Code code = Code::ok;
    Pending<std::unique_ptr<Stream>> pending;
    StreamEnd end;
  };

  // Connects over either family: client_ here, accepted_[0] there.
  void connect(bool tcp) {
    if (tcp) {
      listener_ = std::move(listen_tcp(loop_, "127.0.0.1", 0, *this).value());
      dial_tcp(loop_, "127.0.0.1", listener_->port(), 5000, client_.done());
    } else {
      path_ = dir_ + "/s.sock";
      listener_ = std::move(listen_unix(loop_, path_, 0777, *this).value());
      dial_unix(loop_, path_, client_.done());
    }
    EXPECT_FALSE(client_.answered);
    run_until([this] { return client_.answered && accepted_.size() == 1; });
    ASSERT_EQ(client_.error, "");
    ASSERT_EQ(accepted_.size(), 1u);
  }
  StreamEnd& server() { return *accepted_[0]; }
  StreamEnd& client() { return client_.end; }

  UvLoop loop_;
  std::string dir_, path_;
  std::unique_ptr<Listener> listener_;
  std::vector<std::unique_ptr<StreamEnd>> accepted_;
  Dialled client_{*this};
  bool accepted_read_ = true;
  bool close_listener_on_accept_ = false;
  std::function<bool()> condition_;
};

class BothFamilies : public Sockets, public testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Families, BothFamilies, testing::Bool(),
                         [](const auto& p) { return p.param ? "Tcp" : "Unix"; });

TEST_P(BothFamilies, CarryBytesBothWays) {
  connect(GetParam());
  client().write("ping");
  EXPECT_TRUE(client().results.empty());  // never answered before write() returned
  run_until([this] { return server().got == "ping" && client().results.size() == 1; });
  server().write("pong");
  server().write("");
  run_until([this] { return client().got == "pong" && server().results.size() == 2; });
  EXPECT_EQ(client().results, Strings{"ok"});
  EXPECT_EQ(server().results, (Strings{"ok", "ok"}));
  EXPECT_GE(client().stream->descriptor(), 0);
}

TEST_P(BothFamilies, HalfCloseAndAnswerAfterwards) {
  connect(GetParam());
  client().write("question");
  client().shutdown();
  run_until([this] { return server().end == "end"; });
  EXPECT_EQ(server().got, "question");
  EXPECT_EQ(client().end, "");
  server().write("answer");
  server().shutdown();
  run_until([this] { return client().end == "end"; });
  EXPECT_EQ(client().got, "answer");
  EXPECT_EQ(client().ends, 1);
}

TEST_P(BothFamilies, CarryMuchMoreThanTheKernelHolds) {
  accepted_read_ = false;
  connect(GetParam());
  std::string big(20u << 20, '\0');
  for (size_t i = 0; i < big.size(); i++) big[i] = static_cast<char>(i * 31 >> 7);
  client().write(big);
  client().write("tail");
  EXPECT_GT(client().stream->queued(), 1u << 20);  // the peer does not read: back-pressure shows
  client().shutdown();
  server().stream->read(server());
  run_until([this] { return server().end == "end" && client().results.size() == 3; });
  EXPECT_EQ(server().got.size(), big.size() + 4);
  EXPECT_TRUE(server().got == big + "tail");
  EXPECT_EQ(client().results, (Strings{"ok", "ok", "ok"}));
  EXPECT_EQ(client().stream->queued(), 0u);
}

TEST_P(BothFamilies, DeliverNothingWhilePaused) {
  connect(GetParam());
  server().stream->pause();
  client().write("first");
  run_until([this] { return client().results.size() == 1; });
  server().write("marker");  // a round trip of the loop: had the bytes been read, they would be here
  run_until([this] { return client().got == "marker"; });
  EXPECT_EQ(server().got, "");
  server().stream->read(server());
  run_until([this] { return server().got == "first"; });
}

TEST_P(BothFamilies, PendingWritesFailWhenTheStreamIsDestroyed) {
  accepted_read_ = false;
  connect(GetParam());
  client().write(std::string(20u << 20, 'x'));
  client().shutdown();
  client().stream.reset();
  EXPECT_TRUE(client().results.empty());
  run_until([this] { return client().results.size() == 2; });
  EXPECT_EQ(client().results, (Strings{"write: the stream was closed", "shutdown: the stream was closed"}));
}

TEST_P(BothFamilies, PendingWritesFailWhenThePeerVanishes) {
  accepted_read_ = false;
  connect(GetParam());
  client().stream->pause();
  client().write(std::string(20u << 20, 'x'));
  server().stream.reset();
  run_until([this] { return client().results.size() == 1; });
  EXPECT_TRUE(client().results[0] == "write: broken pipe" || client().results[0] == "write: connection reset by peer")
      << client().results[0];
  client().write("and again");  // SIGPIPE must not end the process
  run_until([this] { return client().results.size() == 2; });
  EXPECT_TRUE(client().results[1].starts_with("write: ")) << client().results[1];
}

TEST_P(BothFamilies, EndWhenThePeerVanishes) {
  connect(GetParam());
  server().stream.reset();
  run_until([this] { return !client().end.empty(); });
  EXPECT_EQ(client().end, "end");
  EXPECT_EQ(client().ends, 1);
}

TEST_P(BothFamilies, MayBeDestroyedByTheirReader) {
  connect(GetParam());
  server().close_after = 1;
  client().close_at_end = true;
  client().write(std::string(1u << 20, 'x'));
  run_until([this] { return server().stream == nullptr && client().stream == nullptr; });
  EXPECT_GE(server().got.size(), 1u);
  EXPECT_EQ(client().ends, 1);
}

TEST_P(BothFamilies, ListenerMayBeDestroyedByItsClient) {
  close_listener_on_accept_ = true;
  connect(GetParam());
  EXPECT_EQ(listener_, nullptr);
  client().write("x");
  run_until([this] { return server().got == "x"; });
}

TEST_P(BothFamilies, LoopDiesWithDialsAndWritesInFlight) {
  connect(GetParam());
  UvLoop other;
  Dialled late(*this);
  if (GetParam()) {
    dial_tcp(other, "127.0.0.1", listener_->port(), 1000, late.done());
    dial_tcp(other, "name.invalid", 1, 1000, Dialled(*this).done());
  } else {
    dial_unix(other, path_, late.done());
  }
  EXPECT_FALSE(late.answered);
}

TEST_F(Sockets, UnixPeersHaveTheKernelsCredentials) {
  connect(false);
  const auto peer = server().stream->credentials();
  ASSERT_TRUE(peer);
  EXPECT_EQ(peer->pid, getpid());
  EXPECT_EQ(peer->uid, getuid());
  EXPECT_EQ(peer->gid, getgid());
  EXPECT_EQ(server().stream->peer_address().text(), "unix");
}

TEST_F(Sockets, TcpPeersHaveAnAddress) {
  connect(true);
  EXPECT_FALSE(server().stream->credentials());
  EXPECT_EQ(server().stream->peer_address().ip, "127.0.0.1");
  EXPECT_EQ(client().stream->peer_address().text(), "127.0.0.1:" + std::to_string(listener_->port()));
}

TEST_F(Sockets, DialErrorsAreWordedAsGoWordsThem) {
  std::ofstream(dir_ + "/file") << "x";
  std::unique_ptr<Listener> closed = std::move(listen_tcp(loop_, "127.0.0.1", 0, *this).value());
  const uint16_t free_port = closed->port();
  closed.reset();
  struct Case {
    std::string unix_path, host, message;
  };
  const std::string long_path = dir_ + "/" + std::string(120, 'x');
  for (const Case& c : {
           Case{dir_ + "/none", "", "dial unix " + dir_ + "/none: connect: no such file or directory"},
           Case{dir_ + "/file", "", "dial unix " + dir_ + "/file: connect: connection refused"},
           Case{dir_ + "/file/x", "", "dial unix " + dir_ + "/file/x: connect: not a directory"},
           Case{long_path, "", "dial unix " + long_path + ": connect: invalid argument"},
           Case{"", "127.0.0.1", "dial tcp 127.0.0.1:" + std::to_string(free_port) + ": connect: connection refused"},
           Case{"", "name.invalid", "dial tcp: lookup name.invalid: "},
           Case{"", "", "dial tcp: lookup : no such host"},
       }) {
    Dialled dialled(*this);
    if (c.unix_path.empty()) {
      dial_tcp(loop_, c.host, free_port, 15'000, dialled.done());
    } else {
      dial_unix(loop_, c.unix_path, dialled.done());
    }
    EXPECT_FALSE(dialled.answered);
    run_until([&] { return dialled.answered; });
    EXPECT_TRUE(dialled.error.starts_with(c.message)) << dialled.error;
    EXPECT_EQ(dialled.code, Code::unavailable);
  }
}

TEST_F(Sockets, DialsANameByItsAddresses) {
  listener_ = std::move(listen_tcp(loop_, "127.0.0.1", 0, *this).value());
  dial_tcp(loop_, "localhost", listener_->port(), 15'000, client_.done());
  run_until([this] { return client_.answered; });
  EXPECT_EQ(client_.error, "");  // although ::1, which may come first, refuses
}

// A backlog that is full makes the kernel drop SYNs, so that a dial hangs.
TEST_F(Sockets, DialEndsByItsTimeout) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(fd, 0), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const uint16_t port = ntohs(address.sin_port);
  std::vector<std::unique_ptr<Dialled>> all;
  for (int i = 0; i < 8; i++) {
    all.push_back(std::make_unique<Dialled>(*this));
    dial_tcp(loop_, "127.0.0.1", port, 300, all.back()->done());
  }
  run_until([&] { return std::all_of(all.begin(), all.end(), [](const auto& d) { return d->answered; }); });
  EXPECT_EQ(all.back()->error, "dial tcp 127.0.0.1:" + std::to_string(port) + ": i/o timeout");
  close(fd);
}

TEST_F(Sockets, ListenRefusesAPortInUse) {
  listener_ = std::move(listen_tcp(loop_, "127.0.0.1", 0, *this).value());
  const auto second = listen_tcp(loop_, "127.0.0.1", listener_->port(), *this);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::unavailable);
  EXPECT_EQ(second.error().message,
            "listen on 127.0.0.1:" + std::to_string(listener_->port()) + ": address already in use");
}

TEST_F(Sockets, ListenRefusesWhatCannotBeASocketPath) {
  std::ofstream(dir_ + "/file") << "precious";
  struct Case {
    std::string path;
    Code code;
    std::string part;
  };
  for (const Case& c : {
           Case{"", Code::failed_precondition, "the path has 0 bytes"},
           Case{dir_ + "/" + std::string(120, 'x'), Code::failed_precondition, "a socket's path 1 to 107"},
           Case{dir_ + "/file", Code::failed_precondition, "is not a socket"},
           Case{dir_ + "/file/s.sock", Code::unavailable, "not a directory"},
           Case{"/proc/none/s.sock", Code::unavailable, "mkdir /proc/none: no such file or directory"},
       }) {
    const auto out = listen_unix(loop_, c.path, 0777, *this);
    ASSERT_FALSE(out) << c.path;
    EXPECT_EQ(out.error().code, c.code) << c.path;
    EXPECT_NE(out.error().message.find(c.part), std::string::npos) << out.error().message;
    EXPECT_NE(out.error().message.find(c.path), std::string::npos) << out.error().message;
  }
  std::string kept;
  std::ifstream(dir_ + "/file") >> kept;
  EXPECT_EQ(kept, "precious");
}

TEST_F(Sockets, ListenMakesDirectoriesAndSetsTheModeWhateverTheUmask) {
  const mode_t before = umask(077);
  auto out = listen_unix(loop_, dir_ + "/a/b/s.sock", 0777, *this);
  umask(before);
  ASSERT_TRUE(out) << out.error().message;
  struct stat seen{};
  ASSERT_EQ(stat((dir_ + "/a/b").c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mode & 07777, 0755u);
  ASSERT_EQ(stat((dir_ + "/a/b/s.sock").c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mode & 07777, 0777u);
  out->reset();
  EXPECT_NE(access((dir_ + "/a/b/s.sock").c_str(), F_OK), 0);
}

TEST_F(Sockets, ListenReplacesADeadSocketButNeverALiveOne) {
  const std::string path = dir_ + "/s.sock";
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  close(fd);  // what a killed process leaves behind
  listener_ = std::move(listen_unix(loop_, path, 0770, *this).value());
  const auto second = listen_unix(loop_, path, 0770, *this);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::unavailable);
  EXPECT_EQ(second.error().message, "another process is listening on " + path);
  dial_unix(loop_, path, client_.done());
  run_until([this] { return client_.answered; });
  EXPECT_EQ(client_.error, "");  // the first one still listens
}

TEST_F(Sockets, ListenerLeavesAFileAloneThatIsNoLongerItsOwn) {
  const std::string path = dir_ + "/s.sock";
  listener_ = std::move(listen_unix(loop_, path, 0770, *this).value());
  ASSERT_EQ(rename(path.c_str(), (path + ".old").c_str()), 0);
  std::ofstream(path) << "another's";
  listener_.reset();
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
}

TEST_F(Sockets, AcceptGoesOnAfterDescriptorsRanOut) {
  listener_ = std::move(listen_tcp(loop_, "127.0.0.1", 0, *this).value());
  dial_tcp(loop_, "127.0.0.1", listener_->port(), 15'000, client_.done());
  // the client's descriptor exists; take all others so that accept finds none
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = dup(0);
  ASSERT_GE(next, 0);
  rlimit low = before;
  low.rlim_cur = static_cast<rlim_t>(next);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  close(next);
  std::vector<int> taken;
  for (int fd = dup(0); fd >= 0; fd = dup(0)) taken.push_back(fd);
  run_until([this] { return client_.answered; });
  EXPECT_TRUE(accepted_.empty());
  struct Pause {
    explicit Pause(UvLoop& l) : loop(l), timer(l) {}
    void over() { loop.stop(); }
    UvLoop& loop;
    Timer timer;
  } pause(loop_);
  pause.timer.start<&Pause::over>(250, &pause);
  auto* turns = new uv_prepare_t;  // counts how often the loop goes round
  int count = 0;
  uv_prepare_init(loop_.raw(), turns);
  turns->data = &count;
  uv_prepare_start(turns, [](uv_prepare_t* h) { ++*static_cast<int*>(h->data); });
  loop_.run();
  uv_close(reinterpret_cast<uv_handle_t*>(turns), [](uv_handle_t* h) { delete reinterpret_cast<uv_prepare_t*>(h); });
  EXPECT_TRUE(accepted_.empty());
  EXPECT_LT(count, 20);  // it slept, it did not spin
  for (const int fd : taken) close(fd);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  run_until([this] { return accepted_.size() == 1; });
  client().write("late but served");
  run_until([this] { return server().got == "late but served"; });
}

}  // namespace
}  // namespace limpet
