// SPDX-License-Identifier: Apache-2.0
#include "base/secret.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

#include "base/clock.h"

namespace limpet {
namespace {

bool all_zero(BytesView bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; });
}

TEST(SecretBytes, StartZeroEvenInMemoryUsedBefore) {
  for (const size_t size : {1u, 31u, 32u, 33u, 64u, 100u, 4095u, 4096u, 4097u, 100'000u}) {
    for (int round = 0; round < 3; round++) {
      SecretBytes secret(size);
      ASSERT_EQ(secret.size(), size);
      EXPECT_TRUE(all_zero(secret.view())) << size;
      std::fill_n(secret.data(), size, uint8_t{0xaa});
    }
  }
}

TEST(SecretBytes, AreZeroedOnRelease) {
  uint8_t* where = nullptr;
  {
    SecretBytes secret(as_bytes("0123456789abcdef0123456789abcdef"));
    where = secret.data();
  }
  // the block is on a free list now: all but the list's own pointer must be zero
  EXPECT_TRUE(all_zero({where + sizeof(void*), 32 - sizeof(void*)}));
}

TEST(SecretBytes, MoveAndLeaveTheSourceEmpty) {
  SecretBytes a(as_bytes("key"));
  SecretBytes b = std::move(a);
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(as_text(b.view()), "key");
  SecretBytes c(as_bytes("other"));
  c = std::move(b);
  EXPECT_EQ(as_text(c.view()), "key");
  SecretBytes& alias = c;
  c = std::move(alias);
  EXPECT_EQ(as_text(c.view()), "key");
  EXPECT_EQ(as_text(c.clone().view()), "key");
}

TEST(SecretBytes, TruncateZeroesWhatIsCutOff) {
  SecretBytes secret(as_bytes("0123456789"));
  secret.truncate(20);
  EXPECT_EQ(secret.size(), 10u);
  secret.truncate(4);
  EXPECT_EQ(as_text(secret.view()), "0123");
  EXPECT_TRUE(all_zero({secret.data() + 4, 6}));
}

TEST(SecretBytes, NeverOverlap) {
  std::vector<SecretBytes> all;
  for (size_t i = 0; i < 2000; i++) {
    all.emplace_back(1 + i * 37 % 5000);
    std::fill_n(all.back().data(), all.back().size(), static_cast<uint8_t>(i));
    if (i % 3 == 0) all[i / 2] = SecretBytes();
  }
  for (size_t i = 0; i < all.size(); i++) {
    for (const uint8_t byte : all[i].view()) ASSERT_EQ(byte, static_cast<uint8_t>(i));
  }
}

TEST(SecretBytes, AreKeptOutOfCoreFiles) {
  SecretBytes secret(16);
  const auto address = reinterpret_cast<uintptr_t>(secret.data());
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  std::string flags;
  for (std::string line; std::getline(maps, line);) {
    unsigned long long from = 0, to = 0;
    if (std::sscanf(line.c_str(), "%llx-%llx ", &from, &to) == 2) inside = address >= from && address < to;
    if (inside && line.starts_with("VmFlags:")) flags = line;
  }
  if (flags.empty()) GTEST_SKIP() << "this kernel shows no VmFlags";
  EXPECT_NE(flags.find(" dd"), std::string::npos) << flags;
}

TEST(SecretBytes, ServeManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([t] {
      for (size_t i = 1; i < 3000; i++) {
        SecretBytes secret(i % 500 + 1);
        ASSERT_TRUE(all_zero(secret.view()));
        std::fill_n(secret.data(), secret.size(), static_cast<uint8_t>(t + 1));
        ASSERT_EQ(secret.data()[secret.size() - 1], t + 1);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(TimeText, PrintsAsGoDoes) {
  EXPECT_STREQ(TimeText(1795316429).go(), "2026-11-22 03:00:29 +0000 UTC");
  EXPECT_STREQ(TimeText(1795316429).rfc3339(), "2026-11-22T03:00:29Z");
  EXPECT_STREQ(TimeText(0).go(), "1970-01-01 00:00:00 +0000 UTC");
  EXPECT_STREQ(TimeText(-1).rfc3339(), "1969-12-31T23:59:59Z");
  EXPECT_STREQ(TimeText(4102444800).rfc3339(), "2100-01-01T00:00:00Z");
  EXPECT_STREQ(TimeText(INT64_MAX).go(), "(time 9223372036854775807)");
}

TEST(FakeClock, StandsStillUntilTold) {
  FakeClock clock(100);
  EXPECT_EQ(clock.now(), 100);
  clock.advance_ms(1999);
  EXPECT_EQ(clock.now(), 101);
  EXPECT_EQ(clock.now_ms(), 101'999);
  clock.set(5);
  EXPECT_EQ(clock.now(), 5);
}

}  // namespace
}  // namespace limpet
