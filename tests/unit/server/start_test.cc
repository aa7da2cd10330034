// SPDX-License-Identifier: Apache-2.0
// A server that starts while its key manager or its disk is away: it stays, says so, and comes into service by itself.
#include <fstream>
#include <sstream>

#include "proto/spire_localauthority.pb.h"
#include "server_rig.h"

namespace limpet::server::test {
namespace {

struct StartRig : ServerRig {
  [[nodiscard]] Health::Part part(const std::string& name) const {
    const auto found = health.parts().find(name);
    return found == health.parts().end() ? Health::Part{HealthState::ok, "(not reported)"} : found->second;
  }
  void expect_in_service() {
    ASSERT_TRUE(started->result);
    EXPECT_TRUE(*started->result) << (*started->result).error().message;
    for (const char* name : {"ca", "jwt_key", "svid"}) EXPECT_EQ(part(name).state, HealthState::ok) << name;
    EXPECT_NE(core->ca().active_certificate(), nullptr);
    EXPECT_NE(core->jwt()->current(), nullptr);
  }
};

TEST(ServerStart, AKeyManagerThatIsAwayIsWaitedForWhateverItSays) {
  for (const Code code : {Code::unavailable, Code::deadline_exceeded, Code::permission_denied}) {
    for (const bool lists : {true, false}) {
      StartRig rig;
      rig.keys.failure_code = code;
      (lists ? rig.keys.failure : rig.keys.list_failure) = "no such token";
      rig.start_anew();
      for (int i = 0; i < 20; ++i) rig.pass(60);
      EXPECT_FALSE(rig.started->result);
      EXPECT_EQ(rig.part("ca").state, HealthState::starting);
      EXPECT_EQ(rig.part("ca").reason,
                lists
                    ? "the server has no X.509 CA yet: prepare X.509 CA: generate key x509-CA-A: no such token"
                    : "the server has no X.509 CA yet: start the X.509 CA: list the keys of key manager fake: no such "
                      "token");
      EXPECT_FALSE(rig.health.serving());
      rig.keys.failure.clear();
      rig.keys.list_failure.clear();
      rig.pass(70);
      rig.expect_in_service();
    }
  }
}

TEST(ServerStart, APartThatIsConfiguredWronglyEndsIt) {
  for (const bool lists : {true, false}) {
    StartRig rig;
    rig.keys.failure_code = Code::invalid_argument;
    (lists ? rig.keys.failure : rig.keys.list_failure) = "2 tokens match";
    EXPECT_EQ(rig.start().error().code, Code::invalid_argument);
  }
}

TEST(ServerStart, OnceItHasWaitedNothingEndsIt) {
  StartRig rig;
  rig.keys.list_failure = "no such token";
  rig.start_anew();
  rig.core->hold_on();
  rig.keys.failure_code = Code::invalid_argument;
  rig.keys.list_failure = "2 tokens match";
  for (int i = 0; i < 5; ++i) rig.pass(60);
  EXPECT_FALSE(rig.started->result);
  EXPECT_NE(rig.part("ca").reason.find("2 tokens match"), std::string::npos);
  rig.keys.list_failure.clear();
  rig.pass(70);
  rig.expect_in_service();
}

TEST(ServerStart, TheKeysOfBeforeAreFoundAgainAfterTheWait) {
  StartRig rig;
  ASSERT_TRUE(rig.start());
  const Bytes root = rig.core->ca().active_certificate()->der;
  const std::string kid = rig.core->jwt()->current()->key_id;
  rig.keys.list_failure = "no such token";
  rig.start_anew();
  rig.pass(300);
  EXPECT_FALSE(rig.started->result);
  rig.keys.list_failure.clear();
  rig.pass(70);
  rig.expect_in_service();
  EXPECT_EQ(rig.core->ca().active_certificate()->der, root);
  EXPECT_EQ(rig.core->jwt()->current()->key_id, kid);
  EXPECT_EQ(rig.keys.generated, 2u);
}

TEST(ServerStart, TheJwtKeyAndTheSvidAreWaitedForAsWell) {
  StartRig rig;
  ASSERT_TRUE(rig.start());
  rig.keys.keys.erase("JWT-Signer-A");
  rig.keys.failure = "the TPM does not answer";
  rig.start_anew();
  rig.pass(300);
  EXPECT_FALSE(rig.started->result);
  EXPECT_EQ(rig.part("ca").state, HealthState::ok);
  EXPECT_EQ(rig.part("jwt_key").state, HealthState::starting);
  rig.keys.failure.clear();
  rig.keys.sign_failure = "the TPM does not answer";
  rig.pass(70);
  EXPECT_EQ(rig.part("jwt_key").state, HealthState::ok);
  EXPECT_FALSE(rig.started->result);
  EXPECT_EQ(rig.part("svid").state, HealthState::starting);
  EXPECT_EQ(rig.part("svid").reason,
            "the server has no X509-SVID yet: issue the server's X509-SVID: sign with the X.509 CA's key: the TPM does "
            "not answer");
  rig.keys.sign_failure.clear();
  rig.pass(70);
  rig.expect_in_service();
}

TEST(ServerStart, ACaKeyThatIsLostIsReplacedInsteadOfEndingTheStart) {
  StartRig rig;
  ASSERT_TRUE(rig.start());
  rig.clock.advance_ms(3'600'000);
  rig.keys.sign_failure = "gone";
  rig.start_anew();
  rig.keys.keys.insert_or_assign("x509-CA-A", copy_key(some_key(7)));  // after it was listed
  rig.keys.sign_failure.clear();
  for (int i = 0; i < 30; ++i) rig.pass(5);
  rig.expect_in_service();
}

TEST(ServerStart, ADiskThatIsFullIsWaitedFor) {
  StartRig rig;
  rig.disk_full = true;
  rig.start_anew();
  rig.pass(300);
  EXPECT_FALSE(rig.started->result);
  EXPECT_NE(rig.part("ca").reason.find("no space left on device"), std::string::npos) << rig.part("ca").reason;
  rig.disk_full = false;
  rig.pass(70);
  rig.expect_in_service();
}

TEST(ServerStart, TheReasonIsLoggedOnceAndAgainWhenItIsAnother) {
  StartRig rig;
  const std::string path = ::testing::TempDir() + "limpet-start-" + std::to_string(::getpid()) + ".log";
  auto logger = Logger::open({.file = path}, rig.clock);
  ASSERT_TRUE(logger);
  rig.logger = logger->get();
  rig.keys.list_failure = "no such token";
  rig.start_anew();
  for (int i = 0; i < 20; ++i) rig.pass(60);
  const auto lines = [&path] {
    std::ifstream file(path);
    std::vector<std::string> found;
    for (std::string line; std::getline(file, line);) {
      if (line.find("The server cannot sign yet") != std::string::npos) found.push_back(line);
    }
    return found;
  };
  EXPECT_EQ(lines().size(), 1u);
  rig.keys.list_failure = "its PIN is locked";
  for (int i = 0; i < 20; ++i) rig.pass(60);
  ASSERT_EQ(lines().size(), 2u);
  EXPECT_NE(lines()[1].find("its PIN is locked"), std::string::npos);
  EXPECT_NE(lines()[1].find("no restart is needed"), std::string::npos);
  rig.core.reset();
  std::filesystem::remove(path);
}

TEST(ServerStart, WhoAsksMeanwhileIsToldToTryAgainAndChangesNothing) {
  StartRig rig;
  rig.keys.list_failure = "no such token";
  rig.start_anew();
  struct {
    void on_done(Result<SignedSvid> r) { result = std::move(r); }
    Pending<SignedSvid> pending;
    std::optional<Result<SignedSvid>> result;
  } svid;
  using Svid = decltype(svid);
  rig.core->ca().sign({}, svid.pending.then<&Svid::on_done>(&svid));
  rig.run();
  ASSERT_TRUE(svid.result);
  EXPECT_EQ(svid.result->error().code, Code::unavailable);
  const auto prepared = rig.unary<spire_api_server_localauthority_v1_PrepareJWTAuthorityResponse>(
      "localauthority.v1.LocalAuthority", "PrepareJWTAuthority", ServerRig::local(),
      wire::Message<spire_api_server_localauthority_v1_PrepareJWTAuthorityRequest>());
  EXPECT_EQ(prepared.error().code, Code::unavailable) << prepared.error().message;
  EXPECT_EQ(rig.keys.generated, 0u);
}

TEST(ServerStart, MayDieAtEachStepOfTheWait) {
  size_t total = 0;
  for (size_t die_at = 0; die_at == 0 || die_at <= total; ++die_at) {
    ServerRig rig;
    rig.keys.list_failure = "no such token";
    rig.start_anew();
    rig.keys.list_failure.clear();
    rig.loop.advance(2'000);
    size_t steps = 0;
    while (steps < die_at || die_at == 0) {
      if (!rig.step()) break;
      ++steps;
    }
    if (die_at == 0) total = steps;
    rig.core.reset();
    rig.run();
  }
  EXPECT_GE(total, 4u);
}

}  // namespace
}  // namespace limpet::server::test
