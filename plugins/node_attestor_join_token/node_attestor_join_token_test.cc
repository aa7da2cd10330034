// SPDX-License-Identifier: Apache-2.0
#include "carriers.h"
#include "plugin/node_attestor.h"

namespace limpet {
namespace {

using namespace test;

class JoinToken : public ShippedPlugin {
 protected:
  JoinToken() { instance = create("node_attestor_join_token", LIMPET_NODE_ATTESTOR_AGENT, kNodeAttestorPrefix); }
  ~JoinToken() override { instance->close(); }
  std::string payload() {
    auto agent = make_node_attestor_agent(instance);
    auto session = agent->open();
    const auto got = wait<Bytes>([&](Done<Bytes> done) { session->payload(std::move(done)); });
    return got ? std::string(as_text(*got)) : got.error().text();
  }
  std::shared_ptr<Instance> instance;
};

TEST_P(JoinToken, RefusesAConfigurationItDoesNotUnderstand) {
  EXPECT_EQ(outcome(configure(*instance, R"({"tokn":"x"})")),
            "InvalidArgument: nodeattestor(join_token): unknown key \"tokn\"; known: token, token_file");
  EXPECT_EQ(outcome(configure(*instance, R"({"token":5})")),
            "InvalidArgument: nodeattestor(join_token): token must be a string");
  EXPECT_EQ(outcome(configure(*instance, R"(["token"])")),
            "InvalidArgument: nodeattestor(join_token): the configuration must be a JSON object");
  EXPECT_TRUE(outcome(configure(*instance, "{"))
                  .starts_with("InvalidArgument: nodeattestor(join_token): the configuration is not valid JSON"));
  EXPECT_EQ(outcome(configure(*instance, R"({"token":"a","token_file":"b"})")),
            "InvalidArgument: nodeattestor(join_token): token and token_file exclude each other; keep one");
  EXPECT_EQ(outcome(configure(*instance, R"({"token":")" + std::string(1025, 'x') + "\"}")),
            "InvalidArgument: nodeattestor(join_token): token is longer than 1,024 bytes");
}

TEST_P(JoinToken, ThePayloadIsTheTokenItself) {
  ASSERT_EQ(outcome(configure(*instance, R"({"token":"fe1b3ba3-0b56"})")), "ok");
  EXPECT_EQ(payload(), "fe1b3ba3-0b56");
}

TEST_P(JoinToken, ADryRunKeepsTheTokenInUse) {
  ASSERT_EQ(outcome(configure(*instance, R"({"token":"first"})")), "ok");
  ASSERT_EQ(outcome(configure(*instance, R"({"token":"second"})", true)), "ok");
  EXPECT_EQ(payload(), "first");
}

TEST_P(JoinToken, TheTokenFileIsReadAtEachAttemptAndTrimmed) {
  const std::string file = directory + "/token";
  ASSERT_EQ(outcome(configure(*instance, R"({"token_file":")" + file + "\"}")), "ok");
  auto agent = make_node_attestor_agent(instance);
  auto session = agent->open();
  const auto ask = [&] { return wait<Bytes>([&](Done<Bytes> done) { session->payload(std::move(done)); }); };
  EXPECT_EQ(outcome(ask()), "FailedPrecondition: nodeattestor(join_token): join token file " + file +
                                " cannot be opened: No such file or directory");
  write(file, " \n");
  EXPECT_EQ(outcome(ask()), "FailedPrecondition: nodeattestor(join_token): join token file " + file + " is empty");
  write(file, std::string(2000, 'x'));
  EXPECT_EQ(outcome(ask()),
            "FailedPrecondition: nodeattestor(join_token): join token file " + file + " is longer than 1,024 bytes");
  write(file, "  abc-123\n");
  const auto token = ask();
  ASSERT_EQ(outcome(token), "ok");
  EXPECT_EQ(as_text(*token), "abc-123");
}

TEST_P(JoinToken, WithoutATokenItSaysHowToGetOne) {
  ASSERT_EQ(outcome(configure(*instance, "{}")), "ok");
  EXPECT_EQ(
      payload(),
      "FailedPrecondition: nodeattestor(join_token): no join token is configured; create one with `token generate` and "
      "set token or token_file");
}

TEST_P(JoinToken, AChallengeIsRefused) {
  ASSERT_EQ(outcome(configure(*instance, R"({"token":"x"})")), "ok");
  auto agent = make_node_attestor_agent(instance);
  auto session = agent->open();
  ASSERT_TRUE(wait<Bytes>([&](Done<Bytes> done) { session->payload(std::move(done)); }));
  EXPECT_EQ(outcome(wait<Bytes>([&](Done<Bytes> done) { session->answer(to_bytes("nonce"), std::move(done)); })),
            "FailedPrecondition: nodeattestor(join_token): the server sent a challenge, but join tokens have none");
}

BOTH_CARRIERS(JoinToken);

}  // namespace
}  // namespace limpet
