// SPDX-License-Identifier: Apache-2.0
// Beginning with a trust bundle from outside, and beginning anew when the server's authorities are others by now.
#include <gtest/gtest.h>

#include "agent/bootstrap.h"
#include "fakes.h"
#include "loop/destroy_at_every_step.h"

namespace limpet::test {
namespace {

const Error kUnknown{Code::unauthenticated, "x509svid: could not verify: certificate signed by unknown authority"};

class FakeSource final : public agent::BundleSource {
 public:
  explicit FakeSource(FakeLoop& loop) : loop_(loop) {}
  void get(int attempts, bool again, Done<Bundle> done) override {
    asked.emplace_back(attempts, again);
    loop_.post([this, d = std::move(done)]() mutable {
      if (missing-- > 0) return d(fail(Code::unavailable, "not there"));
      d(Bundle{*TrustDomain::parse("example.org"), {}, {}, 0, 7});
    });
  }
  int missing = 0;
  std::vector<std::pair<int, bool>> asked;

 private:
  FakeLoop& loop_;
};

struct BootstrapScenario : agent::BootstrapClient {
  explicit BootstrapScenario(FakeLoop& loop, agent::Rebootstrap mode = agent::Rebootstrap::always)
      : source(loop),
        flow(std::make_unique<agent::Bootstrap>(loop, Logger::none(), health, source, mode, 10'000, *this)) {}
  void on_bootstrap_bundle(const Bundle& bundle, bool again) override {
    EXPECT_EQ(bundle.sequence_number, 7u);
    bundles.push_back(again);
  }
  Health health;
  FakeSource source;
  std::vector<bool> bundles;
  std::unique_ptr<agent::Bootstrap> flow;
};

TEST(Bootstrap, TriesUntilThereIsABundleAndSaysSoInItsHealth) {
  FakeLoop loop;
  BootstrapScenario s(loop);
  s.source.missing = 3;
  s.flow->start();
  loop.run_ready();
  EXPECT_TRUE(s.bundles.empty());
  EXPECT_EQ(s.health.parts().find("bootstrap")->second.state, HealthState::starting);
  loop.advance(60'000);
  EXPECT_EQ(s.bundles, std::vector<bool>{false});
  EXPECT_EQ(s.source.asked.size(), 4u);
  EXPECT_EQ(s.source.asked.back(), (std::pair(3, false)));
  EXPECT_EQ(s.health.parts().find("bootstrap")->second.state, HealthState::ok);
}

TEST(Bootstrap, BeginsAnewOnlyWhenTheUnknownAuthorityLasts) {
  FakeLoop loop;
  BootstrapScenario s(loop);
  loop.advance(5);
  s.flow->on_failure(kUnknown, true);
  loop.advance(9'999);
  s.flow->on_failure(kUnknown, true);
  loop.run_ready();
  EXPECT_TRUE(s.source.asked.empty());
  s.flow->on_trusted();  // it was passing
  loop.advance(10'000);
  s.flow->on_failure(kUnknown, true);
  loop.run_ready();
  EXPECT_TRUE(s.source.asked.empty());
  loop.advance(10'000);
  s.flow->on_failure({Code::unavailable, "connection refused"}, true);
  loop.run_ready();
  EXPECT_TRUE(s.source.asked.empty()) << "nobody was there: that says nothing";
  s.flow->on_failure(kUnknown, true);
  loop.run_ready();
  EXPECT_EQ(s.bundles, std::vector<bool>{true});
}

TEST(Bootstrap, TheModeDecides) {
  struct Case {
    agent::Rebootstrap mode;
    bool reattestable;
    size_t asked;
  };
  for (const Case& c : {Case{agent::Rebootstrap::never, true, 0}, Case{agent::Rebootstrap::reattestable, false, 0},
                        Case{agent::Rebootstrap::reattestable, true, 1}, Case{agent::Rebootstrap::always, false, 1}}) {
    FakeLoop loop;
    BootstrapScenario s(loop, c.mode);
    s.flow->on_failure(kUnknown, c.reattestable);
    loop.advance(10'000);
    s.flow->on_failure(kUnknown, c.reattestable);
    loop.run_ready();
    EXPECT_EQ(s.source.asked.size(), c.asked);
  }
}

TEST(Bootstrap, MayDieAtEachOfItsSteps) {
  EXPECT_GT(destroy_at_every_step([](FakeLoop& loop) {
              auto s = std::make_unique<BootstrapScenario>(loop);
              s->source.missing = 2;
              s->flow->start();
              return s;
            }),
            3u);
}

}  // namespace
}  // namespace limpet::test
