// SPDX-License-Identifier: Apache-2.0
// Upstream authorities through their table, played by a table of this file.
#include "plugin/upstream_authority.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "loop/destroy_at_every_step.h"
#include "plugin/upstream_authority_facade.h"
#include "scripted.h"

namespace limpet {
namespace {

using namespace test;
using Words = std::vector<std::string>;

limpet_str lend(std::string_view text) { return {text.data(), text.size()}; }
limpet_bytes lend_bytes(std::string_view text) { return {as_bytes(text).data(), text.size()}; }

// ---- an upstream authority that keeps its ops; the test ends them ----
struct UpScript {
  UpScript() { alive = this; }
  ~UpScript() { alive = nullptr; }
  static inline UpScript* alive = nullptr;
  void note(std::string what) {
    const std::lock_guard lock(mutex);
    log.push_back(std::move(what));
  }
  // A bundle of one root and, when `kid` is given, one key.
  void update(std::string_view root, std::string_view kid = {}) const {
    const limpet_bytes roots[] = {lend_bytes(root)};
    const limpet_jwt_key key = {sizeof key, 1, lend(kid), lend_bytes("spki"), 77};
    const limpet_jwt_key* const keys[] = {&key};
    const limpet_bundle bundle = {sizeof bundle, 9, {roots, 1}, keys, kid.empty() ? size_t{0} : size_t{1}, {}};
    tell(watch, &bundle);
  }
  void end_watch(limpet_code code = LIMPET_OK) const {
    const limpet_status status = {sizeof status, code, lend("gone"), 0, 0};
    watch_done(watch, code == LIMPET_OK ? nullptr : &status);
  }
  limpet_op* mint = nullptr;
  limpet_minted_done mint_done = nullptr;
  limpet_op* watch = nullptr;
  limpet_bundle_update tell = nullptr;
  limpet_done watch_done = nullptr;
  bool end_on_cancel = true;
  std::mutex mutex;
  Words log;
};

int any_instance = 0;
limpet_code create(const limpet_host*, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(&any_instance);
  return LIMPET_OK;
}
void destroy(limpet_instance*) { UpScript::alive->note("destroy"); }
void configure(limpet_instance*, limpet_op* op, const limpet_config*, limpet_done done) { done(op, nullptr); }
void cancel(limpet_instance*, limpet_op* op) {
  UpScript& s = *UpScript::alive;
  s.note("cancel");
  if (s.end_on_cancel && op == s.watch) s.end_watch(LIMPET_CANCELLED);
  const limpet_status status = {sizeof status, LIMPET_CANCELLED, {}, 0, 0};
  if (op == s.mint) s.mint_done(op, &status, {}, {});
}
void mint_ca(limpet_instance*, limpet_op* op, limpet_bytes csr, uint32_t ttl, limpet_minted_done done) {
  UpScript& s = *UpScript::alive;
  s.note("mint " + std::string(as_text({csr.ptr, csr.len})) + " " + std::to_string(ttl));
  s.mint = op;
  s.mint_done = done;
}
void publish(limpet_instance*, limpet_op* op, const limpet_jwt_key* key, limpet_done done) {
  UpScript::alive->note("publish " + std::string(key->id.ptr, key->id.len) + " " + std::to_string(key->expires_at));
  done(op, nullptr);
}
void watch_bundle(limpet_instance*, limpet_op* op, limpet_bundle_update update, limpet_done done) {
  UpScript& s = *UpScript::alive;
  s.note("watch");
  s.watch = op;
  s.tell = update;
  s.watch_done = done;
}
void watch_once(limpet_instance* self, limpet_op* op, limpet_bundle_update update, limpet_done done) {
  watch_bundle(self, op, update, done);
  UpScript::alive->update("from-thread");
  UpScript::alive->end_watch();
}
constexpr limpet_upstream_authority kTable = {sizeof kTable, 0, mint_ca, publish, watch_bundle};
constexpr limpet_upstream_authority kOnceTable = {sizeof kOnceTable, 0, mint_ca, publish, watch_once};
template <uint32_t Flags>
constexpr limpet_component kUpstream = {sizeof(limpet_component),
                                        Flags,
                                        LIMPET_UPSTREAM_AUTHORITY,
                                        "up",
                                        create,
                                        destroy,
                                        configure,
                                        cancel,
                                        (Flags & LIMPET_BLOCKING) != 0 ? &kOnceTable : &kTable};

template <uint32_t Flags = 0>
std::unique_ptr<UpstreamAuthority> open(Loop& loop) {
  return make_upstream_authority(
      *Instance::create({loop, Logger::none(), "example.org"}, kUpstream<Flags>, kUpstreamAuthorityPrefix));
}

struct Watcher final : UpstreamWatcher {
  void on_upstream_bundle(UpstreamBundle bundle) override {
    said.push_back(std::string(as_text(bundle.x509_roots.at(0))));
    last = std::move(bundle);
    if (leave) watch.reset();
  }
  void on_upstream_watch_end(Result<void> why) override {
    said.push_back(why ? "ended" : why.error().text());
    if (leave) watch.reset();
  }
  Words said;
  UpstreamBundle last;
  bool leave = false;
  std::unique_ptr<UpstreamWatch> watch;
};

TEST(UpstreamAuthority, RefusesWhatItCannotUseAsACa) {
  const limpet_bytes one[] = {lend_bytes("der")};
  const limpet_bytes_list good = {one, 1};
  struct Case {
    limpet_bytes_list chain;
    limpet_bytes_list roots;
    const char* why;
  };
  const Case cases[] = {
      {{}, good, "no CA certificate"},
      {good, {}, "a CA certificate without a root"},
      {{nullptr, 1}, good, "a list of more than 16 items or without an address"},
      {{one, limits::kChainCertificates + 1}, good, "a list of more than 16 items or without an address"},
      {good, {one, limits::kBundleCertificates + 1}, "a list of more than 1000 items or without an address"},
  };
  for (const Case& c : cases) {
    UpScript script;
    FakeLoop loop;
    auto upstream = open(loop);
    Waiter<MintedCa> minted;
    upstream->mint_ca(to_bytes("csr"), 60, minted.arm());
    script.mint_done(script.mint, nullptr, c.chain, c.roots);
    script.mint = nullptr;
    loop.run_ready();
    EXPECT_EQ(outcome(minted),
              std::string("Internal: upstreamauthority(up): the plugin's answer is not usable: ") + c.why);
  }
}

TEST(UpstreamAuthority, MintsAndPublishes) {
  UpScript script;
  FakeLoop loop;
  auto upstream = open(loop);
  EXPECT_EQ(upstream->name(), "up");
  Waiter<MintedCa> minted;
  upstream->mint_ca(to_bytes("csr"), 3600, minted.arm());
  const limpet_bytes chain[] = {lend_bytes("ca"), lend_bytes("intermediate")};
  const limpet_bytes roots[] = {lend_bytes("root")};
  script.mint_done(script.mint, nullptr, {chain, 2}, {roots, 1});
  Waiter<void> published;
  upstream->publish_jwt_key({"kid", to_bytes("spki"), 99, false}, published.arm());
  loop.run_ready();
  ASSERT_EQ(outcome(minted), "ok");
  EXPECT_EQ((*minted.result)->chain, (std::vector<Bytes>{to_bytes("ca"), to_bytes("intermediate")}));
  EXPECT_EQ((*minted.result)->roots, (std::vector<Bytes>{to_bytes("root")}));
  EXPECT_EQ(outcome(published), "ok");
  upstream.reset();
  EXPECT_EQ(script.log, (Words{"mint csr 3600", "publish kid 99", "destroy"}));
}

TEST(UpstreamAuthority, AWatchTellsBundlesThenItsEnd) {
  UpScript script;
  FakeLoop loop;
  auto upstream = open(loop);
  Watcher watcher;
  watcher.watch = upstream->watch_bundle(watcher);
  loop.advance(3'600'000);  // a stream has no deadline
  script.update("one", "kid");
  EXPECT_TRUE(watcher.said.empty()) << "nothing is told on the plugin's stack";
  loop.run_ready();
  ASSERT_EQ(watcher.last.jwt_keys.size(), 1u);
  EXPECT_EQ(watcher.last.jwt_keys[0].id, "kid");
  EXPECT_EQ(watcher.last.jwt_keys[0].spki, to_bytes("spki"));
  EXPECT_EQ(watcher.last.jwt_keys[0].expires_at, 77);
  EXPECT_TRUE(watcher.last.jwt_keys[0].tainted);
  EXPECT_EQ(watcher.last.refresh_hint, 9);
  script.update("two");
  script.update("three");  // each is complete: only the newest counts
  script.end_watch(LIMPET_UNAVAILABLE);
  loop.run_ready();
  EXPECT_EQ(watcher.said, (Words{"one", "three", "Unavailable: upstreamauthority(up): gone"}));
  watcher.watch.reset();
  upstream.reset();
  EXPECT_EQ(script.log, (Words{"watch", "destroy"}));
}

TEST(UpstreamAuthority, AWatchNobodyWantsIsCancelledAndSilent) {
  for (const bool from_inside : {false, true}) {
    UpScript script;
    FakeLoop loop;
    auto upstream = open(loop);
    Watcher watcher;
    watcher.leave = from_inside;
    watcher.watch = upstream->watch_bundle(watcher);
    script.update("one");
    if (!from_inside) watcher.watch.reset();
    loop.run_ready();
    EXPECT_EQ(watcher.said, from_inside ? Words{"one"} : Words{});
    EXPECT_EQ(script.log, (Words{"watch", "cancel"}));
  }
}

TEST(UpstreamAuthority, ABundleThatCannotBeUsedEndsTheWatch) {
  UpScript script;
  FakeLoop loop;
  auto upstream = open(loop);
  Watcher watcher;
  watcher.watch = upstream->watch_bundle(watcher);
  limpet_bundle bundle = {8, 0, {}, nullptr, 0, {}};
  script.tell(script.watch, &bundle);
  loop.run_ready();
  EXPECT_EQ(watcher.said, (Words{"Internal: upstreamauthority(up): the plugin's answer is not usable: no bundle, or a "
                                 "short struct"}));
  EXPECT_EQ(script.log, (Words{"watch", "cancel"}));
  bundle = {sizeof bundle, 0, {}, nullptr, 3, {}};
  watcher.watch = upstream->watch_bundle(watcher);
  script.tell(script.watch, &bundle);
  loop.run_ready();
  EXPECT_EQ(watcher.said.size(), 2u);
}

TEST(UpstreamAuthority, AnAuthorityClosedUnderItsWatchEndsIt) {
  UpScript script;
  FakeLoop loop;
  auto upstream = open(loop);
  Watcher watcher;
  watcher.watch = upstream->watch_bundle(watcher);
  upstream.reset();
  loop.run_ready();
  EXPECT_EQ(watcher.said, (Words{"Unavailable: upstreamauthority(up): the plugin is being stopped"}));
  EXPECT_EQ(script.log, (Words{"watch", "cancel", "destroy"}));
}

TEST(UpstreamAuthority, ABlockingOneUpdatesOnceFromItsThreadAndEnds) {
  UpScript script;
  FakeLoop loop;
  auto upstream = open<LIMPET_BLOCKING>(loop);
  Watcher watcher;
  watcher.watch = upstream->watch_bundle(watcher);
  ASSERT_TRUE(run_until(loop, [&] { return watcher.said.size() == 2; }));
  EXPECT_EQ(watcher.said, (Words{"from-thread", "ended"}));
}

TEST(UpstreamAuthority, ASerialOneForgetsAWatchThatHasNotBegun) {
  UpScript script;
  FakeLoop loop;
  auto upstream = open<LIMPET_SERIAL>(loop);
  Waiter<MintedCa> minted;
  upstream->mint_ca(to_bytes("csr"), 60, minted.arm());
  Watcher watcher;
  watcher.watch = upstream->watch_bundle(watcher);
  watcher.watch.reset();
  const limpet_bytes one[] = {lend_bytes("der")};
  script.mint_done(script.mint, nullptr, {one, 1}, {one, 1});
  loop.run_ready();
  EXPECT_EQ(outcome(minted), "ok");
  EXPECT_EQ(script.log, (Words{"mint csr 60"}));
}

TEST(UpstreamAuthorityDeath, AnUpdateForAnotherCallOrAfterTheEndIsAMisuse) {
  UpScript script;
  FakeLoop loop;
  auto upstream = open(loop);
  Watcher watcher;
  watcher.watch = upstream->watch_bundle(watcher);
  Waiter<MintedCa> minted;
  upstream->mint_ca(to_bytes("csr"), 60, minted.arm());
  const limpet_bundle bundle = {sizeof bundle, 0, {}, nullptr, 0, {}};
  EXPECT_DEATH(script.tell(script.mint, &bundle), "");
  script.end_watch();
  EXPECT_DEATH(script.tell(script.watch, &bundle), "");
  loop.run_ready();
}

TEST(UpstreamAuthority, MayBeDestroyedAtEachStepOfAWatch) {
  struct Scenario {
    explicit Scenario(FakeLoop& loop) {
      flow = open(loop);
      watcher.watch = flow->watch_bundle(watcher);
      script.update("one");
      flow->publish_jwt_key({"kid", to_bytes("spki"), 99, false}, published.arm());
    }
    UpScript script;
    Waiter<void> published;
    Watcher watcher;
    std::unique_ptr<UpstreamAuthority> flow;
  };
  EXPECT_GE(destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<Scenario>(loop); }), 2u);
}

}  // namespace
}  // namespace limpet
