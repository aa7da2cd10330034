// SPDX-License-Identifier: Apache-2.0
// Bundle publishers through their table, played by a table of this file.
#include "plugin/bundle_publisher.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "loop/destroy_at_every_step.h"
#include "plugin/bundle_publisher_facade.h"
#include "scripted.h"

namespace limpet {
namespace {

using namespace test;

// ---- a publisher that notes what it is lent; the test ends its op ----
struct Outlet {
  Outlet() { alive = this; }
  ~Outlet() { alive = nullptr; }
  static inline Outlet* alive = nullptr;
  void end(limpet_code code = LIMPET_OK, std::string_view why = {}) const {
    const limpet_status status = {sizeof status, code, {why.data(), why.size()}, 0, 0};
    done(op, code == LIMPET_OK ? nullptr : &status);
  }
  limpet_op* op = nullptr;
  limpet_done done = nullptr;
  std::vector<std::string> seen;
};

int any_instance = 0;
limpet_code create(const limpet_host*, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(&any_instance);
  return LIMPET_OK;
}
void destroy(limpet_instance*) {}
void configure(limpet_instance*, limpet_op* op, const limpet_config*, limpet_done done) { done(op, nullptr); }
void cancel(limpet_instance*, limpet_op* op) {
  const limpet_status status = {sizeof status, LIMPET_CANCELLED, {}, 0, 0};
  if (op == Outlet::alive->op) Outlet::alive->done(op, &status);
}
std::string text(limpet_bytes bytes) { return std::string(as_text({bytes.ptr, bytes.len})); }
void publish(limpet_instance*, limpet_op* op, const limpet_bundle* bundle, limpet_done done) {
  Outlet& o = *Outlet::alive;
  o.op = op;
  o.done = done;
  EXPECT_EQ(bundle->size, sizeof(limpet_bundle));
  o.seen.push_back("hint " + std::to_string(bundle->refresh_hint_s));
  for (size_t i = 0; i < bundle->x509_roots_der.count; ++i)
    o.seen.push_back("root " + text(bundle->x509_roots_der.items[i]));
  for (size_t i = 0; i < bundle->jwt_key_count; ++i) {
    const limpet_jwt_key& key = *bundle->jwt_keys[i];
    EXPECT_EQ(key.size, sizeof(limpet_jwt_key));
    o.seen.push_back("key " + std::string(key.id.ptr, key.id.len) + " " + text(key.spki_der) + " " +
                     std::to_string(key.expires_at) + (key.tainted != 0 ? " tainted" : ""));
  }
}
constexpr limpet_bundle_publisher kTable = {sizeof kTable, 0, publish};
constexpr limpet_component kPublisher = {
    sizeof(limpet_component), 0, LIMPET_BUNDLE_PUBLISHER, "out", create, destroy, configure, cancel, &kTable};

std::unique_ptr<BundlePublisher> open(Loop& loop) {
  return make_bundle_publisher(
      *Instance::create({loop, Logger::none(), "example.org"}, kPublisher, kBundlePublisherPrefix));
}
Bundle some_bundle() {
  Bundle bundle;
  bundle.trust_domain = *TrustDomain::parse("example.org");
  bundle.x509_authorities = {{to_bytes("r1"), false}, {to_bytes("r2"), true}};
  bundle.jwt_authorities = {{"k1", to_bytes("s1"), 77, false}, {"k2", to_bytes("s2"), 0, true}};
  bundle.refresh_hint = 300;
  return bundle;
}
struct Waiter {
  void on_done(Result<void> r) { result = std::move(r); }
  Pending<void> pending;
  std::optional<Result<void>> result;
};

TEST(BundlePublisher, IsLentTheWholeBundle) {
  Outlet outlet;
  FakeLoop loop;
  auto publisher = open(loop);
  EXPECT_EQ(publisher->name(), "out");
  Waiter waiter;
  publisher->publish(some_bundle(), waiter.pending.then<&Waiter::on_done>(&waiter));
  loop.run_ready();
  EXPECT_EQ(outlet.seen,
            (std::vector<std::string>{"hint 300", "root r1", "root r2", "key k1 s1 77", "key k2 s2 0 tainted"}));
  EXPECT_FALSE(waiter.result);
  outlet.end();
  loop.run_ready();
  ASSERT_TRUE(waiter.result);
  EXPECT_TRUE(*waiter.result);
}

TEST(BundlePublisher, AnEmptyBundleIsNoTrouble) {
  Outlet outlet;
  FakeLoop loop;
  auto publisher = open(loop);
  Waiter waiter;
  Bundle empty;
  empty.trust_domain = *TrustDomain::parse("example.org");
  publisher->publish(std::move(empty), waiter.pending.then<&Waiter::on_done>(&waiter));
  loop.run_ready();
  EXPECT_EQ(outlet.seen, (std::vector<std::string>{"hint 0"}));
  outlet.end();
  loop.run_ready();
}

TEST(BundlePublisher, ItsFailureNamesIt) {
  Outlet outlet;
  FakeLoop loop;
  auto publisher = open(loop);
  Waiter waiter;
  publisher->publish(some_bundle(), waiter.pending.then<&Waiter::on_done>(&waiter));
  loop.run_ready();
  outlet.end(LIMPET_UNAVAILABLE, "bucket gone");
  loop.run_ready();
  ASSERT_TRUE(waiter.result && !*waiter.result);
  EXPECT_EQ(waiter.result->error().code, Code::unavailable);
  EXPECT_EQ(waiter.result->error().message, "bundlepublisher(out): bucket gone");
}

TEST(BundlePublisher, OneThatNeverAnswersIsGivenUp) {
  Outlet outlet;
  FakeLoop loop;
  auto publisher = open(loop);
  Waiter waiter;
  publisher->publish(some_bundle(), waiter.pending.then<&Waiter::on_done>(&waiter));
  loop.run_ready();
  loop.advance(limits::kUpstreamMintMs + 1);
  loop.run_ready();
  ASSERT_TRUE(waiter.result && !*waiter.result);
  EXPECT_EQ(waiter.result->error().code, Code::deadline_exceeded);
}

}  // namespace
}  // namespace limpet
