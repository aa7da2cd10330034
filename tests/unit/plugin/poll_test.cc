// SPDX-License-Identifier: Apache-2.0
// limpet.poll/1 over the real loop and pairs of sockets.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>

#include "loop/uv_loop.h"
#include "plugin/instance.h"
#include "scripted.h"
#include "support/open_descriptors.h"

namespace limpet {
namespace {

using namespace test;

struct Pair {
  Pair() { EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, end), 0); }
  ~Pair() {
    for (const int fd : end) {
      if (fd >= 0) ::close(fd);
    }
  }
  void say(std::string_view text) { EXPECT_EQ(::write(end[1], text.data(), text.size()), ssize_t(text.size())); }
  int end[2] = {-1, -1};
};

class Poll : public ::testing::Test {
 protected:
  void SetUp() override {
    HostServices services;
    services.poll = &loop;
    auto made = Instance::create({loop, Logger::none(), "example.org", services}, kScripted<0>, "workloadattestor");
    ASSERT_TRUE(made) << made.error().text();
    instance = *made;
    poll = static_cast<const limpet_poll_service*>(script.host->service(script.host, LIMPET_SERVICE_POLL));
    ASSERT_NE(poll, nullptr);
  }
  void TearDown() override {
    if (instance != nullptr) instance->close();
  }
  int32_t watch(int fd, uint32_t events) {
    return poll->watch(
        script.host, fd, events,
        [](void* arg, int32_t on, uint32_t what) { static_cast<Poll*>(arg)->on_event(on, what); }, this);
  }
  void unwatch(int fd) { poll->unwatch(script.host, fd); }
  void on_event(int fd, uint32_t what) {
    events.push_back({fd, what});
    if (on_each) on_each(fd);
    if (events.size() >= enough) loop.stop();
  }
  // Runs the loop until `count` events came; 0: until it has nothing more to tell.
  void wait_for(size_t count) {
    enough = count == 0 ? SIZE_MAX : events.size() + count;
    Stop stop{loop};
    Timer quiet(loop);
    if (count == 0) quiet.start<&Stop::now>(20, &stop);
    loop.run();
  }
  struct Stop {
    UvLoop& loop;
    void now() { loop.stop(); }
  };

  Script script;
  UvLoop loop;
  std::shared_ptr<Instance> instance;
  const limpet_poll_service* poll = nullptr;
  std::vector<std::pair<int, uint32_t>> events;
  std::function<void(int)> on_each;
  size_t enough = SIZE_MAX;
};

TEST_F(Poll, TellsOfWhatIsReadableForAsLongAsItIs) {
  Pair pair;
  ASSERT_EQ(watch(pair.end[0], LIMPET_POLL_READ), LIMPET_OK);
  wait_for(0);
  EXPECT_TRUE(events.empty());
  pair.say("x");
  wait_for(2);  // nobody read it: level-triggered
  EXPECT_EQ(events[0], std::pair(pair.end[0], LIMPET_POLL_READ));
  EXPECT_EQ(events[1], events[0]);
  char byte = 0;
  ASSERT_EQ(::read(pair.end[0], &byte, 1), 1);
  events.clear();
  wait_for(0);
  EXPECT_TRUE(events.empty());
}

TEST_F(Poll, TellsOnlyOfWhatWasAskedFor) {
  Pair pair;
  pair.say("x");
  ASSERT_EQ(watch(pair.end[0], LIMPET_POLL_WRITE), LIMPET_OK);
  wait_for(1);
  EXPECT_EQ(events[0].second, LIMPET_POLL_WRITE);
  ASSERT_EQ(watch(pair.end[0], LIMPET_POLL_READ | LIMPET_POLL_WRITE), LIMPET_OK);  // replaces
  wait_for(1);
  EXPECT_EQ(events.back().second, LIMPET_POLL_READ | LIMPET_POLL_WRITE);
}

TEST_F(Poll, ThePeersEndIsReadable) {
  Pair pair;
  ASSERT_EQ(watch(pair.end[0], LIMPET_POLL_READ), LIMPET_OK);
  ::close(std::exchange(pair.end[1], -1));
  wait_for(1);
  EXPECT_EQ(events[0].second, LIMPET_POLL_READ);
}

TEST_F(Poll, NothingIsToldAfterUnwatch) {
  Pair pair;
  ASSERT_EQ(watch(pair.end[0], LIMPET_POLL_READ), LIMPET_OK);
  pair.say("x");
  unwatch(pair.end[0]);
  unwatch(pair.end[0]);  // again: a no-op
  unwatch(-1);
  wait_for(0);
  EXPECT_TRUE(events.empty());
}

TEST_F(Poll, AWatchMayEndReplaceOrCloseFromItsCallback) {
  Pair pair, other;
  pair.say("x");
  other.say("x");
  on_each = [&](int fd) { unwatch(fd); };
  ASSERT_EQ(watch(pair.end[0], LIMPET_POLL_READ), LIMPET_OK);
  wait_for(1);
  wait_for(0);
  EXPECT_EQ(events.size(), 1u);
  on_each = [&](int fd) {
    on_each = nullptr;
    EXPECT_EQ(watch(fd, LIMPET_POLL_WRITE), LIMPET_OK);
  };
  ASSERT_EQ(watch(pair.end[0], LIMPET_POLL_READ), LIMPET_OK);
  wait_for(2);
  EXPECT_EQ(events[2].second, LIMPET_POLL_WRITE);
  // both are ready; the first to be told ends the other, and then the instance
  unwatch(pair.end[0]);
  events.clear();
  on_each = [&](int) {
    unwatch(pair.end[0]);
    unwatch(other.end[0]);
    instance->close();
    instance.reset();
  };
  ASSERT_EQ(watch(pair.end[0], LIMPET_POLL_READ), LIMPET_OK);
  ASSERT_EQ(watch(other.end[0], LIMPET_POLL_READ), LIMPET_OK);
  wait_for(1);
  wait_for(0);
  EXPECT_EQ(events.size(), 1u);
}

TEST_F(Poll, EverythingIsUnwatchedWhenTheInstanceEnds) {
  Pair pair;
  const int64_t before = open_descriptors();
  pair.say("x");
  ASSERT_EQ(watch(pair.end[0], LIMPET_POLL_READ), LIMPET_OK);
  instance->close();
  EXPECT_EQ(open_descriptors(), before);
  wait_for(0);
  EXPECT_TRUE(events.empty());
}

TEST_F(Poll, ADescriptorClosedTooEarlyHarmsNobodyElse) {
  Pair other;
  int number = -1;
  {
    Pair pair;
    number = pair.end[0];
    ASSERT_EQ(watch(number, LIMPET_POLL_READ), LIMPET_OK);
  }  // the peer's end is closed too: the watch tells of that
  wait_for(1);
  const int reused = ::fcntl(other.end[0], F_DUPFD_CLOEXEC, number);
  ASSERT_EQ(reused, number);
  ASSERT_EQ(watch(number, LIMPET_POLL_READ), LIMPET_OK);  // the new file of that number
  events.clear();
  wait_for(0);
  EXPECT_TRUE(events.empty());
  other.say("x");
  wait_for(1);
  unwatch(number);
  ::close(reused);
}

TEST_F(Poll, RefusesWhatCannotBeWatched) {
  Pair pair;
  const int64_t before = open_descriptors();
  EXPECT_EQ(watch(-1, LIMPET_POLL_READ), LIMPET_INVALID_ARGUMENT);
  EXPECT_EQ(watch(pair.end[0], 0), LIMPET_INVALID_ARGUMENT);
  EXPECT_EQ(watch(pair.end[0], 4), LIMPET_INVALID_ARGUMENT);
  EXPECT_EQ(poll->watch(script.host, pair.end[0], LIMPET_POLL_READ, nullptr, nullptr), LIMPET_INVALID_ARGUMENT);
  const int plain = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);  // a plain file is always ready
  EXPECT_EQ(watch(plain, LIMPET_POLL_READ), LIMPET_INVALID_ARGUMENT);
  ::close(plain);
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(Poll, WatchesAreBounded) {
  std::vector<std::unique_ptr<Pair>> pairs;
  for (int i = 0; i < 64; ++i) {
    pairs.push_back(std::make_unique<Pair>());
    ASSERT_EQ(watch(pairs.back()->end[0], LIMPET_POLL_READ), LIMPET_OK) << i;
  }
  EXPECT_EQ(watch(pairs[0]->end[1], LIMPET_POLL_READ), LIMPET_RESOURCE_EXHAUSTED);
  EXPECT_EQ(watch(pairs[0]->end[0], LIMPET_POLL_READ), LIMPET_OK);  // replaced: not one more
  unwatch(pairs[1]->end[0]);
  EXPECT_EQ(watch(pairs[0]->end[1], LIMPET_POLL_READ), LIMPET_OK);
}

}  // namespace
}  // namespace limpet
