// SPDX-License-Identifier: Apache-2.0
#include "server/audit.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "server_rig.h"
#include "store/codec.h"

namespace limpet::server::test {
namespace {

// Answers like a batch method would: reads the request, sends what it was given, finishes.
class Answering final : public wire::ServerFlow {
 public:
  Answering(wire::ServerCall& call, std::optional<Bytes> answer, Result<void> status)
      : call_(call), answer_(std::move(answer)), status_(std::move(status)) {}
  void start() override { call_.receive(received_.then<&Answering::on_request>(this)); }

 private:
  void on_request(Result<std::optional<Bytes>>) {
    if (!answer_) return call_.finish(std::move(status_));
    call_.send(std::move(*answer_), sent_.then<&Answering::on_sent>(this));
  }
  void on_sent(Result<void>) { call_.finish(std::move(status_)); }
  wire::ServerCall& call_;
  std::optional<Bytes> answer_;
  Result<void> status_;
  Pending<std::optional<Bytes>> received_;
  Pending<void> sent_;
};

class AuditTest : public testing::Test {
 protected:
  AuditTest() {
    logger_ = std::move(*Logger::open({.file = path_}, clock_));
    peer_.address.ip = "192.0.2.1";
    peer_.address.port = 7;
  }
  ~AuditTest() override { std::remove(path_.c_str()); }

  void call(const std::string& method, Bytes request, std::optional<Bytes> answer, Result<void> status = {}) {
    FakeCall fake(loop_, "/spire.api.server." + method, peer_);
    AuditedCall audited(*logger_, fake);
    audited.set_flow(std::make_unique<Answering>(audited, std::move(answer), std::move(status)));
    audited.start();
    fake.say(std::move(request));
    loop_.run_ready();
  }
  std::vector<std::string> lines() {
    std::ifstream in(path_);
    std::vector<std::string> out;
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
  }
  static bool has(const std::string& line, const std::string& field) {
    return (line + " ").find(" " + field + " ") != std::string::npos;
  }
  static Bytes id(std::string_view path) {
    ProtoWriter out;
    out.text(1, "example.org");
    out.text(2, path);
    return out.take();
  }

  FakeLoop loop_;
  FakeClock clock_{1'700'000'000};
  std::string path_ = testing::TempDir() + "audit-" + std::to_string(::getpid()) + ".log";
  std::unique_ptr<Logger> logger_;
  wire::Peer peer_;
};

TEST_F(AuditTest, OneRecordForACallWithItsFields) {
  ProtoWriter request;
  request.item(1, id("/agent"));
  call("agent.v1.Agent/BanAgent", request.take(), Bytes());
  const auto told = lines();
  ASSERT_EQ(told.size(), 1u);
  for (const char* field :
       {"level=info", "msg=\"API accessed\"", "type=audit", "status=success", "method=BanAgent",
        "service=agent.v1.Agent", "caller_addr=\"192.0.2.1:7\"", "spiffe_id=\"spiffe://example.org/agent\""}) {
    EXPECT_TRUE(has(told[0], field)) << field << "\n" << told[0];
  }
}

TEST_F(AuditTest, AnErrorTellsItsCodeAndMessage) {
  call("agent.v1.Agent/BanAgent", {}, std::nullopt, fail(Code::not_found, "agent not found"));
  ASSERT_EQ(lines().size(), 1u);
  EXPECT_TRUE(has(lines()[0], "status=error"));
  EXPECT_TRUE(has(lines()[0], "status_code=NotFound"));
  EXPECT_TRUE(has(lines()[0], "status_message=\"agent not found\""));
}

TEST_F(AuditTest, ABatchHasARecordForEachItem) {
  ProtoWriter request;
  request.text(1, "one");
  request.text(1, "two");
  ProtoWriter ok;
  ok.item(1, {});
  ProtoWriter status;
  status.number(1, static_cast<int64_t>(Code::internal));
  status.text(2, "no");
  ProtoWriter bad;
  bad.item(1, status.view());
  ProtoWriter answer;
  answer.item(1, ok.view());
  answer.item(1, bad.view());
  call("entry.v1.Entry/BatchDeleteEntry", request.take(), answer.take());
  const auto told = lines();
  ASSERT_EQ(told.size(), 2u);
  EXPECT_TRUE(has(told[0], "entry_id=one") && has(told[0], "status=success")) << told[0];
  EXPECT_TRUE(has(told[1], "entry_id=two") && has(told[1], "status_code=Internal")) << told[1];
}

TEST_F(AuditTest, AnEmptyBatchAndAFailedOneHaveOneRecord) {
  call("entry.v1.Entry/BatchDeleteEntry", {}, Bytes());
  call("entry.v1.Entry/BatchDeleteEntry", {}, std::nullopt, fail(Code::unavailable, "later"));
  ASSERT_EQ(lines().size(), 2u);
  EXPECT_TRUE(has(lines()[0], "status=success"));
  EXPECT_TRUE(has(lines()[1], "status_code=Unavailable"));
}

TEST_F(AuditTest, MoreResultsThanItemsAndRubbishAreNoHarm) {
  ProtoWriter answer;
  for (int i = 0; i < 3; ++i) answer.item(1, {});
  call("entry.v1.Entry/BatchCreateEntry", {0xff, 0xff, 0xff}, answer.take());
  call("agent.v1.Agent/AttestAgent", {0x0a, 0x7f, 0x01}, Bytes{0x0a, 0x7f});
  EXPECT_EQ(lines().size(), 4u);
}

TEST_F(AuditTest, ACallThatGoesAwayIsTold) {
  FakeCall fake(loop_, "/spire.api.server.agent.v1.Agent/AttestAgent", peer_);
  {
    AuditedCall audited(*logger_, fake);
    audited.set_flow(std::make_unique<Answering>(audited, std::nullopt, Result<void>()));
    audited.start();
    loop_.run_ready();
  }
  ASSERT_EQ(lines().size(), 1u);
  EXPECT_TRUE(has(lines()[0], "status_code=Canceled"));
}

TEST_F(AuditTest, LongValuesAreCutAndLinesStayLines) {
  ProtoWriter request;
  request.text(1, std::string(100'000, 'x') + "\nlevel=info msg=forged");
  call("entry.v1.Entry/GetEntry", request.take(), Bytes());
  request = ProtoWriter();
  request.text(1, "a\nlevel=info msg=forged");
  call("entry.v1.Entry/GetEntry", request.take(), Bytes());
  ASSERT_EQ(lines().size(), 2u);
  EXPECT_LT(lines()[0].size(), 5'000u);
}

TEST_F(AuditTest, MethodsThatTheTableHasNotAreToldWithoutFields) {
  call("entry.v1.Entry/SyncAuthorizedEntries", {}, Bytes());
  ASSERT_EQ(lines().size(), 1u);
  EXPECT_TRUE(has(lines()[0], "method=SyncAuthorizedEntries"));
}

}  // namespace
}  // namespace limpet::server::test
