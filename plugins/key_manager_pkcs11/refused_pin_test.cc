// SPDX-License-Identifier: Apache-2.0
// What is remembered of a PIN, with a host that fails, has no time, or is slow.
#include "key_manager_pkcs11/refused_pin.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "base/bytes.h"
#include "kit/kit.h"

namespace limpet {
namespace {

using pkcs11::PinPast;
using pkcs11::RefusedPin;

// Its loop is a thread; the test sets what is asked of it before it calls.
class SmallHost {
 public:
  SmallHost() {
    host.size = sizeof host;
    host.ctx = this;
    host.service = [](const limpet_host* h, const char*) -> const void* {
      return of(h).without_state ? nullptr : &of(h).kv_;
    };
    host.time_left_ms = [](const limpet_host* h, const limpet_op*) -> int64_t { return of(h).left_ms; };
    host.post = [](const limpet_host* h, void (*fn)(void*), void* arg) {
      const std::lock_guard lock(of(h).mutex_);
      of(h).posted_.emplace_back(fn, arg);
      of(h).wake_.notify_all();
    };
    kv_.size = sizeof kv_;
    kv_.get = [](const limpet_host* h, limpet_str key, limpet_kv_done done, void* arg) -> uint32_t {
      const auto place = of(h).kept.find(std::string(kit::view(key)));
      const Code code = of(h).get_says != Code::ok  ? of(h).get_says
                        : place == of(h).kept.end() ? Code::not_found
                                                    : Code::ok;
      const std::string value = code == Code::ok ? place->second : "";
      return answer(code, value, done, arg);
    };
    kv_.put = [](const limpet_host* h, limpet_str key, limpet_bytes value, limpet_kv_done done, void* arg) -> uint32_t {
      ++of(h).puts;
      if (of(h).put_says == Code::ok) of(h).kept[std::string(kit::view(key))] = as_text(kit::view(value));
      if (!std::exchange(of(h).put_is_late, false)) return answer(of(h).put_says, "", done, arg);
      return answer(Code::deadline_exceeded, "", done, arg);
    };
    kv_.remove = [](const limpet_host* h, limpet_str key, limpet_kv_done done, void* arg) -> uint32_t {
      of(h).kept.erase(std::string(kit::view(key)));
      return answer(Code::ok, "", done, arg);
    };
    loop_ = std::thread([this] { run(); });
  }
  ~SmallHost() { end(); }
  SmallHost(const SmallHost&) = delete;
  SmallHost& operator=(const SmallHost&) = delete;

  // What was posted has run.
  void end() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
      wake_.notify_all();
    }
    if (loop_.joinable()) loop_.join();
  }
  void hold(bool held) {
    const std::lock_guard lock(mutex_);
    held_ = held;
    wake_.notify_all();
  }

  limpet_host host = {};
  std::map<std::string, std::string> kept;
  int64_t left_ms = 60'000;
  bool without_state = false;
  Code get_says = Code::ok;
  Code put_says = Code::ok;
  bool put_is_late = false;  // the next one is done, and not answered in time
  int puts = 0;

 private:
  static SmallHost& of(const limpet_host* h) { return *static_cast<SmallHost*>(h->ctx); }
  static uint32_t answer(Code code, const std::string& value, limpet_kv_done done, void* arg) {
    const Error error = {code, "the disk is broken"};
    const limpet_status status = kit::status_of(error);
    done(arg, code == Code::ok ? nullptr : &status, kit::lend(as_bytes(value)));
    return 1;
  }
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return ended_ || (!held_ && !posted_.empty()); });
      if (posted_.empty()) return;
      const auto [fn, arg] = posted_.front();
      posted_.pop_front();
      lock.unlock();
      fn(arg);
      lock.lock();
    }
  }

  limpet_kv_service kv_ = {};
  std::mutex mutex_;  // guards down to ended_
  std::condition_variable wake_;
  std::deque<std::pair<void (*)(void*), void*>> posted_;
  bool held_ = false;
  bool ended_ = false;
  std::thread loop_;
};

const std::string kKey = "refused-pin/1/one";
const std::string kFile = "/etc/pin:123";

TEST(RefusedPin, IsKnownByItsFileAndWhenThatWasWritten) {
  const struct {
    std::string kept;
    PinPast past;
    std::string then;
  } kCases[] = {
      {"", PinPast::none, kFile + "\n1"},
      {"/etc/pin:122", PinPast::none, kFile + "\n1"},
      {"/etc/pin:122\n2", PinPast::none, kFile + "\n1"},
      {kFile, PinPast::refused, kFile},
      // what the token said is not known
      {kFile + "\n1", PinPast::none, kFile + "\n2"},
      {kFile + "\n2", PinPast::never_told_twice, kFile + "\n2"},
  };
  for (const auto& [kept, past, then] : kCases) {
    SmallHost host;
    RefusedPin pin(&host.host);
    if (!kept.empty()) host.kept[kKey] = kept;
    const auto got = pin.begin_try("1/one", kFile);
    ASSERT_TRUE(got) << kept << got.error().text();
    EXPECT_EQ(*got, past) << kept;
    EXPECT_EQ(host.kept[kKey], then) << kept;
  }
}

TEST(RefusedPin, IsNotShownWhileTheHostCannotSayOrNoteIt) {
  for (const Code code : {Code::unavailable, Code::data_loss, Code::resource_exhausted, Code::internal}) {
    SmallHost host;
    RefusedPin pin(&host.host);
    host.kept[kKey] = kFile;
    host.get_says = code;
    auto got = pin.begin_try("1/one", kFile);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().text(),
              "Unavailable: whether this PIN was refused before cannot be looked up, so it is not shown: the disk is "
              "broken");
    host.get_says = Code::ok;
    host.put_says = code;
    host.kept.clear();
    got = pin.begin_try("1/one", kFile);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().text(),
              "Unavailable: that this PIN is tried cannot be noted, so it is not shown: the disk is broken");
  }
}

TEST(RefusedPin, NorWhenTheCallHasNoTimeToAsk) {
  SmallHost host;
  host.left_ms = 0;
  host.hold(true);
  RefusedPin pin(&host.host);
  const auto got = pin.begin_try("1/one", kFile);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, Code::unavailable);
  host.end();
  EXPECT_TRUE(host.kept.empty());
}

TEST(RefusedPin, AMarkThatCameTooLateIsNoTry) {
  for (const std::string& before : {std::string(), kFile + "\n1"}) {
    SmallHost host;
    RefusedPin pin(&host.host);
    if (!before.empty()) host.kept[kKey] = before;
    host.put_is_late = true;
    const auto got = pin.begin_try("1/one", kFile);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code, Code::unavailable);
    host.end();
    EXPECT_EQ(host.puts, before.empty() ? 1 : 2);
    EXPECT_EQ(host.kept[kKey], before);
  }
}

TEST(RefusedPin, WhatTheTokenSaidIsNotedAlsoWhenTheCallsTimeIsOver) {
  for (const bool refused : {true, false}) {
    SmallHost host;
    RefusedPin pin(&host.host);
    ASSERT_TRUE(pin.begin_try("1/one", kFile));
    host.left_ms = -1;
    (void)pin.end_try("1/one", kFile, refused);
    host.end();
    EXPECT_EQ(host.kept.contains(kKey), refused);
    EXPECT_EQ(host.kept[kKey], refused ? kFile : "");
  }
}

TEST(RefusedPin, AndWhenTheHostTakesLongerThanAnybodyWaits) {
  SmallHost host;
  RefusedPin pin(&host.host);
  ASSERT_TRUE(pin.begin_try("1/one", kFile));
  host.hold(true);
  const auto noted = pin.end_try("1/one", kFile, true);
  EXPECT_EQ(noted.error().code, Code::deadline_exceeded);
  host.hold(false);
  host.end();
  EXPECT_EQ(host.kept[kKey], kFile);
}

TEST(RefusedPin, AHostWithoutStateRemembersNothing) {
  SmallHost host;
  host.without_state = true;
  RefusedPin pin(&host.host);
  EXPECT_EQ(pin.begin_try("1/one", kFile), PinPast::none);
  EXPECT_TRUE(pin.end_try("1/one", kFile, true));
  EXPECT_EQ(pin.begin_try("1/one", kFile), PinPast::none);
}

}  // namespace
}  // namespace limpet
