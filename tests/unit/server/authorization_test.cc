// SPDX-License-Identifier: Apache-2.0
#include "server/authorization.h"

#include "server/methods.h"
#include "server_rig.h"
#include "store/codec.h"

namespace limpet::server::test {
namespace {

constexpr const char* kAgentPath = "/spire/agent/join_token/t";
constexpr const char* kAgentUri = "spiffe://example.org/spire/agent/join_token/t";

// The reason in the trailer, -1 without one.
int64_t reason_of(const Error& error) {
  int64_t reason = -1;
  for (ProtoReader status(error.details); status.next();) {
    if (status.field() != 3) continue;
    for (ProtoReader any(status.bytes()); any.next();) {
      if (any.field() == 1) {
        EXPECT_EQ(any.text(), "type.googleapis.com/spire.api.types.PermissionDeniedDetails");
        continue;
      }
      for (ProtoReader details(any.bytes()); details.next();) reason = details.number();
    }
  }
  return reason;
}

struct Knock {
  Code code;
  std::string message;
  int64_t reason;
};
// Knocks at the gate: what it says before the method has seen a message. `unknown`: it is in.
Knock knock(ServerRig& rig, const std::string& method, wire::Peer peer) {
  auto open = rig.open(method.substr(0, method.find('/')), method.substr(method.find('/') + 1), std::move(peer));
  EXPECT_NE(open.flow, nullptr) << method;
  rig.run();
  const FakeCall& call = *open.call;
  int64_t reason = call.status && !*call.status ? reason_of(call.status->error()) : -1;
  return {call.code(), call.message(), reason};
}

TEST(Gate, LetsEachKindOfCallerIntoItsMethodsOnly) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  rig.put_agent(kAgentPath, "9");
  Entry admin = rig.entry("admin-entry", "/host", "/ops");
  admin.admin = true;
  rig.put_entry(admin);
  Entry downstream = rig.entry("down-entry", "/host", "/nested");
  downstream.downstream = true;
  rig.put_entry(downstream);
  rig.put_entry(rig.entry("plain", "/host", "/plain"));

  const wire::Peer anonymous = rig.remote();
  const wire::Peer agent = rig.remote({rig.certificate(kAgentUri)});
  const wire::Peer admin_by_config = rig.remote({rig.certificate("spiffe://example.org/admin")});
  const wire::Peer admin_by_entry = rig.remote({rig.certificate("spiffe://example.org/ops")});
  const wire::Peer nested = rig.remote({rig.certificate("spiffe://example.org/nested")});
  const wire::Peer workload = rig.remote({rig.certificate("spiffe://example.org/plain")});
  struct Case {
    const char* method;
    bool anonymous_in, agent_in, admin_in, nested_in, workload_in, local_in;
  };
  const Case cases[] = {
      {"bundle.v1.Bundle/GetBundle", true, true, true, true, true, true},
      {"agent.v1.Agent/AttestAgent", true, true, true, true, true, true},
      {"agent.v1.Agent/RenewAgent", false, true, false, false, false, false},
      {"agent.v1.Agent/PostStatus", false, true, false, false, false, false},
      {"svid.v1.SVID/BatchNewX509SVID", false, true, false, false, false, false},
      {"entry.v1.Entry/SyncAuthorizedEntries", false, true, false, false, false, false},
      {"entry.v1.Entry/GetAuthorizedEntries", false, true, false, false, false, false},
      {"bundle.v1.Bundle/AppendBundle", false, false, true, false, false, true},
      {"svid.v1.SVID/MintX509SVID", false, false, true, false, false, true},
      {"entry.v1.Entry/BatchCreateEntry", false, false, true, false, false, true},
      {"agent.v1.Agent/CreateJoinToken", false, false, true, false, false, true},
      {"agent.v1.Agent/ListAgents", false, false, true, false, false, true},
      {"debug.v1.Debug/GetInfo", false, false, false, false, false, true},
  };
  for (const Case& c : cases) {
    const std::string method = std::string("spire.api.server.") + c.method;
    const std::pair<const wire::Peer*, bool> callers[] = {{&anonymous, c.anonymous_in},   {&agent, c.agent_in},
                                                          {&admin_by_config, c.admin_in}, {&admin_by_entry, c.admin_in},
                                                          {&nested, c.nested_in},         {&workload, c.workload_in}};
    int number = 0;
    for (const auto& [peer, in] : callers) {
      Knock result = knock(rig, method, *peer);
      EXPECT_EQ(result.code, in ? Code::unknown : Code::permission_denied) << method << " caller " << number;
      EXPECT_EQ(result.message, in ? "not finished" : "authorization denied for method /" + method);
      number++;
    }
    Knock local = knock(rig, method, rig.local());
    EXPECT_EQ(local.code, c.local_in ? Code::unknown : Code::permission_denied) << method << " local";
  }
}

// A connection may be older than the SVID it was opened with.
TEST(Gate, AnExpiredSvidIsNobodysAnyMore) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  Entry admin = rig.entry("admin-entry", "/host", "/ops");
  admin.admin = true;
  rig.put_entry(admin);
  Entry downstream = rig.entry("down-entry", "/host", "/nested");
  downstream.downstream = true;
  rig.put_entry(downstream);
  struct Case {
    const char* method;
    const char* uri;
  };
  const Case cases[] = {{"entry.v1.Entry/ListEntries", "spiffe://example.org/admin"},
                        {"entry.v1.Entry/ListEntries", "spiffe://example.org/ops"},
                        {"bundle.v1.Bundle/PublishJWTAuthority", "spiffe://example.org/nested"}};
  for (const Case& c : cases) {
    const std::string method = std::string("spire.api.server.") + c.method;
    EXPECT_EQ(knock(rig, method, rig.remote({rig.certificate(c.uri, {9}, kStart + 1)})).code, Code::unknown) << c.uri;
    EXPECT_EQ(knock(rig, method, rig.remote({rig.certificate(c.uri, {9}, kStart - 1)})).code, Code::permission_denied)
        << c.uri;
  }
}

TEST(Gate, MethodsThatAreNotOfferedAreAuthorisedBeforeTheyAnswerUnimplemented) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  rig.put_agent(kAgentPath, "9");
  const wire::Peer agent = rig.remote({rig.certificate(kAgentUri)});
  struct Case {
    const char* method;
    bool for_agents;
  };
  for (const Case& c : {Case{"svid.v1.SVID/MintWITSVID", false}, Case{"svid.v1.SVID/BatchNewWITSVID", true},
                        Case{"localauthority.v1.LocalAuthority/GetWITAuthorityState", false}}) {
    const std::string method = std::string("spire.api.server.") + c.method;
    EXPECT_EQ(knock(rig, method, rig.remote()).code, Code::permission_denied) << method;
    EXPECT_EQ(knock(rig, method, c.for_agents ? agent : rig.local()).code, Code::unimplemented) << method;
    EXPECT_EQ(knock(rig, method, c.for_agents ? rig.local() : agent).code, Code::permission_denied) << method;
  }
  EXPECT_EQ(rig.open("spire.api.server.agent.v1.Agent", "Nonsense", rig.local()).flow, nullptr);
}

TEST(Gate, RefusesCertificatesWithoutExactlyOneSpiffeId) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  struct Case {
    const char* uri;
    const char* text;
  };
  for (const Case& c : {Case{"", "client certificate has no URI SAN"},
                        Case{"https://example.org/x", "client certificate has a malformed URI SAN: "}}) {
    Knock result = knock(rig, "spire.api.server.bundle.v1.Bundle/GetBundle", rig.remote({rig.certificate(c.uri)}));
    EXPECT_EQ(result.code, Code::unauthenticated);
    EXPECT_EQ(result.message.substr(0, std::string(c.text).size()), c.text);
  }
}

TEST(Gate, TellsAnAgentWhyItIsRefusedInTheTrailer) {
  struct Case {
    const char* name;
    const char* serial;  // of the record; null: no record
    const char* new_serial;
    int64_t not_after;  // of the certificate, whose serial is 9
    int64_t reason;     // -1: let in
  };
  const Case cases[] = {
      {"current serial", "9", "", kStart + 10, -1},      {"expired", "9", "", kStart - 1, 1},
      {"never attested", nullptr, "", kStart + 10, 2},   {"another serial", "10", "", kStart + 10, 3},
      {"decimal, not hex", "09", "", kStart + 10, 3},    {"banned", "", "", kStart + 10, 4},
      {"renewed, first use", "8", "9", kStart + 10, -1},
  };
  for (const Case& c : cases) {
    ServerRig rig;
    ASSERT_TRUE(rig.start());
    if (c.serial != nullptr) rig.put_agent(kAgentPath, c.serial, c.new_serial);
    Knock result = knock(rig, "spire.api.server.agent.v1.Agent/PostStatus",
                         rig.remote({rig.certificate(kAgentUri, {0x09}, c.not_after)}));
    EXPECT_EQ(result.code, c.reason < 0 ? Code::unknown : Code::permission_denied) << c.name;
    EXPECT_EQ(result.reason, c.reason) << c.name;
  }
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  EXPECT_EQ(knock(rig, "spire.api.server.agent.v1.Agent/PostStatus", rig.remote()).reason, -1);
}

TEST(Gate, FirstUseOfARenewedSvidMakesItTheCurrentOneAndEndsTheOldOne) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  rig.put_agent(kAgentPath, "9", "10");
  const wire::Peer before = rig.remote({rig.certificate(kAgentUri, {0x09})});
  const wire::Peer after = rig.remote({rig.certificate(kAgentUri, {0x0a})});
  const char* method = "spire.api.server.agent.v1.Agent/PostStatus";
  EXPECT_EQ(knock(rig, method, before).code, Code::unknown);
  EXPECT_EQ(knock(rig, method, after).code, Code::unknown);
  auto row = find_agent(rig.store->read(), kAgentUri);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->agent.serial, "10");
  EXPECT_EQ(row->agent.new_serial, "");
  EXPECT_EQ(row->agent.not_after, kStart + 7200);
  EXPECT_EQ(knock(rig, method, before).reason, 3);
  EXPECT_EQ(knock(rig, method, after).code, Code::unknown);
}

TEST(Gate, AFullDiskKeepsNoAgentOutAndShowsInHealth) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  rig.put_agent(kAgentPath, "9", "10");
  rig.disk_full = true;
  const char* method = "spire.api.server.entry.v1.Entry/GetAuthorizedEntries";
  EXPECT_EQ(knock(rig, method, rig.remote({rig.certificate(kAgentUri, {0x0a})})).code, Code::unknown);
  EXPECT_EQ(knock(rig, method, rig.remote({rig.certificate(kAgentUri, {0x09})})).code, Code::unknown);
  rig.pass(2);
  EXPECT_EQ(rig.health.parts().at("store").state, HealthState::degraded);
  EXPECT_TRUE(rig.health.serving());
  rig.disk_full = false;
  EXPECT_EQ(knock(rig, method, rig.remote({rig.certificate(kAgentUri, {0x0a})})).code, Code::unknown);
  EXPECT_EQ(knock(rig, method, rig.remote({rig.certificate(kAgentUri, {0x09})})).reason, 3);
  rig.pass(2);
  EXPECT_EQ(rig.health.parts().at("store").state, HealthState::ok);
}

TEST(Methods, KnowEachMethodByItsFullNameOnly) {
  EXPECT_EQ(allowed_callers("/spire.api.server.agent.v1.Agent/AttestAgent"), kAny);
  EXPECT_EQ(allowed_callers("/grpc.health.v1.Health/Check"), kLocal);
  EXPECT_EQ(allowed_callers("/limpet.api.enrollment.v1.Enrollment/CreateEnrollment"), kLocal | kAdmin);
  for (const char* name : {"", "/", "/spire.api.server.agent.v1.Agent/", "/spire.api.server.agent.v1.Agent/attestAgent",
                           "/spire.api.server.agent.v1.Agent/AttestAgentX",
                           "spire.api.server.agent.v1.Agent/AttestAgent", "/grpc.health.v1.Health/Other",
                           "/limpet.api.enrollment.v1.Enrollment/", "/limpet.api.enrollment.v1.Enrollment/Other"}) {
    EXPECT_EQ(allowed_callers(name), 0) << name;
  }
}

}  // namespace
}  // namespace limpet::server::test
