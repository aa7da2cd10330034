// SPDX-License-Identifier: Apache-2.0
// When and how often the own bundle is left with the publishers.
#include "server/bundle_publishers.h"

#include "server_rig.h"
#include "store/bundles.h"

namespace limpet::server::test {
namespace {

class FakePublisher final : public BundlePublisher {
 public:
  FakePublisher(Loop& loop, std::string name) : loop_(loop), name_(std::move(name)) {}
  [[nodiscard]] const std::string& name() const override { return name_; }
  void publish(Bundle bundle, Done<void> done) override {
    published.push_back(std::move(bundle));
    if (hold) {
      held = std::move(done);
      return;
    }
    loop_.post([d = std::move(done), r = failure.empty()
                                             ? Result<void>()
                                             : fail(Code::unavailable, failure)]() mutable { d(std::move(r)); });
  }
  std::vector<Bundle> published;
  std::string failure;
  bool hold = false;
  Done<void> held;

 private:
  Loop& loop_;
  std::string name_;
};

struct PublishRig : ServerRig {
  PublishRig() { publishers = {&first, &second}; }
  ~PublishRig() { core.reset(); }
  // A change of the own bundle.
  void change() {
    core->bundles().edit_own(
        [n = ++changes](Bundle& bundle, ChangeSet&) {
          bundle.refresh_hint = n;
          return true;
        },
        edited.then<&PublishRig::on_edited>(this));
    run();
  }
  void on_edited(Result<Bundle> result) { EXPECT_TRUE(result); }
  [[nodiscard]] std::string state(const std::string& part) {
    const auto place = health.parts().find(part);
    if (place == health.parts().end()) return "none";
    return place->second.state == HealthState::ok ? "ok" : place->second.reason;
  }
  FakePublisher first{loop, "first"};
  FakePublisher second{loop, "second"};
  int64_t changes = 0;
  Pending<Bundle> edited;
};

TEST(BundlePublishers, ABundleIsLeftWithEachOfThemWhenItChanges) {
  PublishRig rig;
  ASSERT_TRUE(rig.start());
  ASSERT_FALSE(rig.first.published.empty());
  EXPECT_EQ(rig.first.published.back(), *rig.core->bundles().own());  // what the start made of it, keys included
  EXPECT_EQ(rig.second.published.back(), *rig.core->bundles().own());
  const size_t before = rig.first.published.size();
  rig.change();
  ASSERT_EQ(rig.first.published.size(), before + 1);
  EXPECT_EQ(rig.first.published.back().refresh_hint, 1);
  EXPECT_EQ(rig.state("bundlepublisher:first"), "ok");
}

TEST(BundlePublishers, ARestartPublishesWhatIsThere) {
  PublishRig rig;
  ASSERT_TRUE(rig.start());
  rig.first.published.clear();
  ASSERT_TRUE(rig.start());
  ASSERT_EQ(rig.first.published.size(), 1u);
  EXPECT_EQ(rig.first.published[0], *rig.core->bundles().own());
}

TEST(BundlePublishers, AnothersBundleIsNotPublished) {
  PublishRig rig;
  ASSERT_TRUE(rig.start());
  const size_t before = rig.first.published.size();
  Bundle foreign;
  foreign.trust_domain = *TrustDomain::parse("other.org");
  foreign.jwt_authorities.push_back({"kid", some_key().public_key().spki(), 0, false});
  ChangeSet changes;
  put_bundle(changes, foreign);
  ASSERT_TRUE(rig.commit(std::move(changes)));
  EXPECT_EQ(rig.first.published.size(), before);
}

TEST(BundlePublishers, OneThatFailsIsSaidAndTriedAgainAndDisturbsNobody) {
  PublishRig rig;
  ASSERT_TRUE(rig.start());
  rig.second.failure = "bucket gone";
  const size_t first = rig.first.published.size();
  const size_t second = rig.second.published.size();
  rig.change();
  EXPECT_EQ(rig.first.published.size(), first + 1);
  EXPECT_EQ(rig.second.published.size(), second + 1);
  EXPECT_EQ(rig.state("bundlepublisher:second"), "Unavailable: bucket gone");
  EXPECT_EQ(rig.state("bundlepublisher:first"), "ok");
  EXPECT_TRUE(rig.health.serving());
  rig.pass(4);
  EXPECT_EQ(rig.second.published.size(), second + 1);  // the pause is 5 s, then 10 s
  rig.pass(1);
  EXPECT_EQ(rig.second.published.size(), second + 2);
  rig.pass(9);
  EXPECT_EQ(rig.second.published.size(), second + 2);
  rig.second.failure.clear();
  rig.pass(1);
  EXPECT_EQ(rig.second.published.size(), second + 3);
  EXPECT_EQ(rig.second.published.back(), *rig.core->bundles().own());
  EXPECT_EQ(rig.state("bundlepublisher:second"), "ok");
  rig.pass(600);
  EXPECT_EQ(rig.second.published.size(), second + 3);  // done is done
}

TEST(BundlePublishers, NoneIsGivenASecondBundleBeforeItIsDoneWithTheFirst) {
  PublishRig rig;
  ASSERT_TRUE(rig.start());
  rig.first.hold = true;
  const size_t before = rig.first.published.size();
  rig.change();
  rig.change();
  rig.change();
  ASSERT_EQ(rig.first.published.size(), before + 1);
  rig.first.hold = false;
  rig.first.held({});
  rig.run();
  ASSERT_EQ(rig.first.published.size(), before + 2);  // the two that came between are one
  EXPECT_EQ(rig.first.published.back().refresh_hint, 3);
}

TEST(BundlePublishers, MayGoWhileAPublisherIsBusy) {
  PublishRig rig;
  ASSERT_TRUE(rig.start());
  rig.first.hold = true;
  rig.change();
  rig.core.reset();
  rig.first.held({});
  rig.run();
}

}  // namespace
}  // namespace limpet::server::test
