// SPDX-License-Identifier: Apache-2.0
// The services that a plugin calls: gRPC, HTTP, the server's agents and its identity, each over a fake.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/limits.h"
#include "plugin/instance.h"
#include "scripted.h"
#include "support/fake_services.h"

namespace limpet {
namespace {

using namespace test;

// Of the kind that may use every service. Its table is never called.
constexpr limpet_component kServerSide = [] {
  limpet_component c = kScripted<0>;
  c.interface_id = LIMPET_NODE_ATTESTOR_SERVER;
  return c;
}();

limpet_str text(std::string_view s) { return {s.data(), s.size()}; }
std::string to_string(limpet_str s) { return s.len == 0 ? "" : std::string(s.ptr, s.len); }

// What came back, as text; one for all services.
struct Heard {
  std::vector<std::string> said;
  void note(const limpet_status* error, std::string good) {
    said.push_back(error == nullptr ? std::move(good)
                                    : "error " + std::to_string(error->code) + " " + to_string(error->message));
  }
};
void on_grpc(void* arg, const limpet_status* error, limpet_bytes reply) {
  static_cast<Heard*>(arg)->note(error, "reply of " + std::to_string(reply.len));
}
void on_http(void* arg, const limpet_status* error, const limpet_http_reply* reply) {
  static_cast<Heard*>(arg)->note(
      error,
      error ? "" : std::to_string(reply->status) + " " + std::string(as_text({reply->body.ptr, reply->body.len})));
}
void on_agent(void* arg, const limpet_status* error, const limpet_agent_info* agent) {
  static_cast<Heard*>(arg)->note(error, error ? ""
                                              : to_string(agent->id) + " " + to_string(agent->attestation_type) +
                                                    (agent->banned != 0 ? " banned" : ""));
}
void on_kv(void* arg, const limpet_status* error, limpet_bytes value) {
  static_cast<Heard*>(arg)->note(error, "<" + std::string(as_text({value.ptr, value.len})) + ">");
}
void on_identity(void* arg, const limpet_identity* identity) {
  const limpet_bundle& bundle = *identity->bundle;
  std::string said = to_string(identity->trust_domain) + " roots " + std::to_string(bundle.x509_roots_der.count) +
                     " svid " + std::to_string(identity->x509_svid_der.count) + " refresh " +
                     std::to_string(bundle.refresh_hint_s);
  for (size_t i = 0; i < bundle.jwt_key_count; ++i)
    said += " key " + to_string(bundle.jwt_keys[i]->id) + (bundle.jwt_keys[i]->tainted != 0 ? " tainted" : "");
  static_cast<Heard*>(arg)->note(nullptr, std::move(said));
}

class Services : public ::testing::Test {
 protected:
  void open(const HostServices& services) {
    auto made = Instance::create({loop, Logger::none(), "example.org", services}, kServerSide, "workloadattestor");
    ASSERT_TRUE(made) << made.error().text();
    instance = *made;
  }
  void open_all() {
    HostServices all{&grpc, &http, &agents, &board, &devices};
    all.state = &state;
    open(all);
  }
  template <class Table>
  const Table* service(const char* id) {
    return static_cast<const Table*>(script.host->service(script.host, id));
  }
  uint32_t ask_http(uint32_t max_body = 64, uint32_t timeout = 1000) {
    const limpet_http_call call = {sizeof call, max_body, text("http://h:80/x"), timeout, 0};
    return service<limpet_http_service>(LIMPET_SERVICE_HTTP)->start(script.host, &call, &on_http, &heard);
  }
  uint32_t ask_agent() {
    return service<limpet_agent_store_service>(LIMPET_SERVICE_AGENT_STORE)
        ->start(script.host, text("spiffe://example.org/spire/agent/x/1"), &on_agent, &heard);
  }

  Script script;
  FakeLoop loop;
  FakeGrpc grpc;
  FakeHttp http;
  FakeAgents agents;
  FakeDevices devices;
  FakeState state;
  IdentityBoard board;
  Heard heard;
  std::shared_ptr<Instance> instance;
};

TEST_F(Services, AreAbsentWhereTheHostHasNothingBehindThem) {
  open({});
  for (const char* id : {LIMPET_SERVICE_GRPC, LIMPET_SERVICE_HTTP, LIMPET_SERVICE_AGENT_STORE, LIMPET_SERVICE_IDENTITY,
                         LIMPET_SERVICE_ENROLLMENT, LIMPET_SERVICE_POLL, LIMPET_SERVICE_KV, "limpet.http/2", ""}) {
    EXPECT_EQ(script.host->service(script.host, id), nullptr) << id;
  }
  EXPECT_EQ(script.host->service(script.host, nullptr), nullptr);
  EXPECT_NE(script.host->service(script.host, LIMPET_SERVICE_TIMER), nullptr);
  instance->close();
}

TEST_F(Services, AGrpcCallGoesOutAndItsReplyComesBack) {
  open_all();
  const uint8_t message[] = {1, 2, 3};
  const limpet_grpc_call call = {sizeof call,  443,  text("h"), text("up.org"), text("/sock"), text("/p.S/M"),
                                 {message, 3}, 1000, 0};
  ASSERT_NE(service<limpet_grpc_service>(LIMPET_SERVICE_GRPC)->start(script.host, &call, &on_grpc, &heard), 0u);
  ASSERT_EQ(grpc.asked.size(), 1u);
  EXPECT_EQ(grpc.asked[0].method, "/p.S/M");
  EXPECT_EQ(grpc.asked[0].message, (Bytes{1, 2, 3}));
  grpc.waiting[0](Bytes(5));
  EXPECT_EQ(heard.said, std::vector<std::string>{"reply of 5"});
  instance->close();
}

TEST_F(Services, AnHttpReplyComesBackWithItsStatusOrItsError) {
  open_all();
  ASSERT_NE(ask_http(), 0u);
  ASSERT_NE(ask_http(), 0u);
  EXPECT_EQ(http.asked[0].url, "http://h:80/x");
  EXPECT_EQ(http.asked[0].max_body, 64u);
  EXPECT_EQ(http.asked[0].timeout_ms, 1000);
  http.waiting[0](PlainReply{404, to_bytes("no")});
  http.waiting[1](fail(Code::unavailable, "refused"));
  EXPECT_EQ(heard.said, (std::vector<std::string>{"404 no", "error 14 refused"}));
  instance->close();
}

TEST_F(Services, ACallThatIsShortOrWithoutALimitIsNotStarted) {
  open_all();
  EXPECT_EQ(ask_http(64, 0), 0u);
  EXPECT_EQ(ask_http(uint32_t{limits::kHttpReplyBytes} + 1), 0u);
  limpet_http_call call = {sizeof call, 64, text("http://h:80/x"), 1000, 0};
  call.size = offsetof(limpet_http_call, timeout_ms);
  const auto* table = service<limpet_http_service>(LIMPET_SERVICE_HTTP);
  EXPECT_EQ(table->start(script.host, &call, &on_http, &heard), 0u);
  EXPECT_TRUE(http.asked.empty());
  instance->close();
}

TEST_F(Services, ADeviceIsEnrolledForThisAttestorOrNot) {
  open_all();
  const auto tell = [](void* arg, const limpet_status* err, const limpet_enrollment* found) {
    auto* heard = static_cast<Heard*>(arg);
    if (err != nullptr) return heard->said.push_back("error " + std::to_string(err->code));
    heard->said.push_back(std::to_string(found->enrolled) + " " + std::string(found->note.ptr, found->note.len) + " " +
                          std::to_string(found->enrolled_at));
  };
  for (int i = 0; i < 3; ++i) {
    ASSERT_NE(
        service<limpet_enrollment_service>(LIMPET_SERVICE_ENROLLMENT)->start(script.host, text("ab01"), tell, &heard),
        0u);
  }
  EXPECT_EQ(devices.asked[0], std::pair(instance->name(), std::string("ab01")));
  devices.waiting[0](KnownDevice{true, "rack 7", 5});
  devices.waiting[1](KnownDevice{});
  devices.waiting[2](fail(Code::data_loss, "a damaged row"));
  EXPECT_EQ(heard.said, (std::vector<std::string>{"1 rack 7 5", "0  0", "error 15"}));
  instance->close();
}

TEST_F(Services, StateIsAskedForInTheNameOfTheComponent) {
  open_all();
  const auto* kv = service<limpet_kv_service>(LIMPET_SERVICE_KV);
  const uint8_t value[] = {'v', 'w'};
  EXPECT_NE(kv->put(script.host, text("k"), {value, 2}, &on_kv, &heard), 0u);
  EXPECT_NE(kv->get(script.host, text("k"), &on_kv, &heard), 0u);
  EXPECT_NE(kv->get(script.host, text(std::string(255, 'k')), &on_kv, &heard), 0u);
  EXPECT_NE(kv->remove(script.host, text("k"), &on_kv, &heard), 0u);
  EXPECT_EQ(state.asked,
            (std::vector<std::string>{"put workloadattestor(scripted) k 2", "get workloadattestor(scripted) k",
                                      "get workloadattestor(scripted) " + std::string(255, 'k'),
                                      "remove workloadattestor(scripted) k"}));
  state.waiting[0](Bytes());
  state.waiting[1](to_bytes("vw"));
  state.waiting[2](fail(Code::not_found, "no such key"));
  state.waiting[3](fail(Code::resource_exhausted, "the disk is full"));
  EXPECT_EQ(heard.said, (std::vector<std::string>{"<>", "<vw>", "error 5 no such key", "error 8 the disk is full"}));
  instance->close();
}

TEST_F(Services, StateBeyondTheBoundsIsAnErrorThatTheStoreDoesNotSee) {
  open_all();
  const auto* kv = service<limpet_kv_service>(LIMPET_SERVICE_KV);
  const std::vector<uint8_t> value(kPluginStateValueBytes + 1);
  const std::string long_key(256, 'k');
  EXPECT_NE(kv->get(script.host, text(""), &on_kv, &heard), 0u);
  EXPECT_NE(kv->get(script.host, {nullptr, 4}, &on_kv, &heard), 0u);
  EXPECT_NE(kv->remove(script.host, text(long_key), &on_kv, &heard), 0u);
  EXPECT_NE(kv->put(script.host, text("k"), {value.data(), value.size()}, &on_kv, &heard), 0u);
  EXPECT_EQ(kv->put(script.host, text("k"), {nullptr, 1}, &on_kv, &heard), 0u);
  EXPECT_TRUE(heard.said.empty());  // not before start has returned
  loop.run_ready();
  EXPECT_EQ(heard.said,
            (std::vector<std::string>{"error 3 a key has 1 to 255 bytes", "error 3 a key has 1 to 255 bytes",
                                      "error 3 a key has 1 to 255 bytes", "error 3 a value has at most 64 KiB"}));
  EXPECT_TRUE(state.asked.empty());
  EXPECT_NE(kv->put(script.host, text("k"), {value.data(), kPluginStateValueBytes}, &on_kv, &heard), 0u);
  EXPECT_EQ(state.asked.size(), 1u);
  instance->close();
}

TEST_F(Services, NobodyHearsOfStateAfterStopOrTheEnd) {
  open_all();
  const auto* kv = service<limpet_kv_service>(LIMPET_SERVICE_KV);
  const uint32_t stopped = kv->get(script.host, text("a"), &on_kv, &heard);
  kv->get(script.host, text("b"), &on_kv, &heard);
  kv->get(script.host, text(""), &on_kv, &heard);
  kv->stop(script.host, stopped);
  state.waiting[0](Bytes());
  instance->close();
  state.waiting[1](Bytes());
  loop.run_ready();
  EXPECT_TRUE(heard.said.empty());
}

TEST_F(Services, AnAgentIsFoundOrNot) {
  open_all();
  for (int i = 0; i < 3; ++i) ASSERT_NE(ask_agent(), 0u);
  agents.waiting[0](KnownAgent{agents.asked[0], "x", false});
  agents.waiting[1](KnownAgent{agents.asked[1], "x", true});
  agents.waiting[2](fail(Code::not_found, "agent not found"));
  EXPECT_EQ(heard.said,
            (std::vector<std::string>{"spiffe://example.org/spire/agent/x/1 x",
                                      "spiffe://example.org/spire/agent/x/1 x banned", "error 5 agent not found"}));
  instance->close();
}

TEST_F(Services, CallsInFlightAreBoundedOverAllServices) {
  open_all();
  std::vector<uint32_t> started;
  for (size_t i = 0; i < limits::kPluginCalls; ++i) started.push_back(i % 2 == 0 ? ask_http() : ask_agent());
  EXPECT_EQ(std::ranges::count(started, 0u), 0);
  EXPECT_EQ(ask_agent(), 0u);
  service<limpet_http_service>(LIMPET_SERVICE_HTTP)->stop(script.host, started[0]);
  EXPECT_NE(ask_agent(), 0u);
  instance->close();
}

TEST_F(Services, ACallThatTheHostHasNoRoomForIsNotStartedAndNotCounted) {
  open_all();
  http.full = true;
  for (size_t i = 0; i < 2 * limits::kPluginCalls; ++i) EXPECT_EQ(ask_http(), 0u);
  EXPECT_TRUE(heard.said.empty());
  http.full = false;
  EXPECT_NE(ask_http(), 0u);
  instance->close();
}

TEST_F(Services, NobodyHearsOfACallThatWasStoppedNorAfterTheEnd) {
  open_all();
  const uint32_t stopped = ask_http();
  ask_agent();
  service<limpet_http_service>(LIMPET_SERVICE_HTTP)->stop(script.host, stopped);
  service<limpet_http_service>(LIMPET_SERVICE_HTTP)->stop(script.host, stopped);  // again: a no-op
  EXPECT_FALSE(http.waiting[0].wanted());
  http.waiting[0](PlainReply{200, {}});
  instance->close();
  agents.waiting[0](KnownAgent{});
  EXPECT_TRUE(heard.said.empty());
}

TEST_F(Services, TheIdentityIsTheNewestOneOnAnyThread) {
  open_all();
  const auto* table = service<limpet_identity_service>(LIMPET_SERVICE_IDENTITY);
  EXPECT_EQ(table->get(script.host, &on_identity, &heard), LIMPET_UNAVAILABLE);
  EXPECT_TRUE(heard.said.empty());
  PublicIdentity identity;
  identity.bundle.x509_authorities = {{Bytes(3), false}, {Bytes(4), true}};
  identity.bundle.jwt_authorities = {{"a", Bytes(2), 7, false}, {"b", Bytes(2), 0, true}};
  identity.bundle.refresh_hint = 300;
  board.put(std::make_shared<PublicIdentity>(identity));
  EXPECT_EQ(table->get(script.host, &on_identity, &heard), LIMPET_OK);
  identity.svid = {Bytes(1), Bytes(1)};
  board.put(std::make_shared<PublicIdentity>(identity));
  std::thread([&] { EXPECT_EQ(table->get(script.host, &on_identity, &heard), LIMPET_OK); }).join();
  EXPECT_EQ(heard.said, (std::vector<std::string>{"example.org roots 2 svid 0 refresh 300 key a key b tainted",
                                                  "example.org roots 2 svid 2 refresh 300 key a key b tainted"}));
  instance->close();
}

}  // namespace
}  // namespace limpet
