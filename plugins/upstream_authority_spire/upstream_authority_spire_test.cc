// SPDX-License-Identifier: Apache-2.0
// The plugin against a server that the test plays behind limpet.grpc/1.
#include "carriers.h"
#include "plugin/grpc_caller.h"
#include "plugin/upstream_authority_facade.h"
#include "proto/spire_bundle.pb.h"
#include "proto/spire_svid.pb.h"
#include "wire/message.h"

namespace limpet {
namespace {

using namespace test;
using Words = std::vector<std::string>;

// Keeps what is asked; the test answers.
struct FakeServer final : GrpcCaller {
  void call(GrpcRequest request, Done<Bytes> done) override {
    asked.push_back(std::move(request));
    answers.push_back(std::move(done));
  }
  void reply(Result<Bytes> bytes) {
    Done<Bytes> done = std::move(answers.front());
    answers.erase(answers.begin());
    done(std::move(bytes));
  }
  std::vector<GrpcRequest> asked;
  std::vector<Done<Bytes>> answers;
};

struct Watcher final : UpstreamWatcher {
  void on_upstream_bundle(UpstreamBundle b) override { bundle = std::move(b); }
  void on_upstream_watch_end(Result<void> why) override { end = outcome(why); }
  std::optional<UpstreamBundle> bundle;
  std::string end;
};

class SpireUpstream : public ShippedPlugin {
 protected:
  ~SpireUpstream() override { upstream.reset(); }
  std::string open(const std::string& json, bool dry_run = false, bool with_service = true) {
    upstream.reset();
    const limpet_plugin* plugin = open_shipped(GetParam(), "upstream_authority_spire");
    const limpet_component* component = find_component(*plugin, LIMPET_UPSTREAM_AUTHORITY, "spire");
    auto instance = *Instance::create({loop, Logger::none(), "example.org", with_service ? &server : nullptr},
                                      *component, kUpstreamAuthorityPrefix);
    const std::string result = outcome(configure(*instance, json, dry_run));
    if (result == "ok" && !dry_run)
      upstream = make_upstream_authority(instance);
    else
      instance->close();
    return result;
  }
  static std::string config() {
    return R"({"server_address":"up.test","server_port":8443,"workload_api_socket":"unix:///run/up.sock"})";
  }
  static Bytes bundle_of(const std::string& trust_domain) {
    wire::Message<spire_api_types_Bundle> bundle;
    wire::set_string(bundle->trust_domain, trust_domain);
    auto* roots = wire::set_array(bundle->x509_authorities, bundle->x509_authorities_count, 2);
    wire::set_bytes(roots[0].asn1, as_bytes("one"));
    wire::set_bytes(roots[1].asn1, as_bytes("two"));
    auto* keys = wire::set_array(bundle->jwt_authorities, bundle->jwt_authorities_count, 1);
    wire::set_string(keys[0].key_id, "kid");
    wire::set_bytes(keys[0].public_key, as_bytes("spki"));
    keys[0].expires_at = 77;
    keys[0].tainted = true;
    return *bundle.encode();
  }
  FakeServer server;
  std::unique_ptr<UpstreamAuthority> upstream;
};

TEST_P(SpireUpstream, RefusesAConfigurationItCannotUse) {
  const std::string prefix = "InvalidArgument: upstreamauthority(spire): ";
  struct Case {
    const char* json;
    const char* why;
  };
  const Case cases[] = {
      {"{}", "set server_address, the host of the server above"},
      {R"({"server_address":"a","server_port":0})", "server_port must be between 1 and 65535"},
      {R"({"server_address":"a","server_port":65536})", "server_port must be between 1 and 65535"},
      {R"({"server_address":"a"})",
       "set workload_api_socket, the path of the Workload API socket of an agent of the server above"},
      {R"({"server_address":"a","workload_api_socket":"relative"})",
       "set workload_api_socket, the path of the Workload API socket of an agent of the server above"},
      {R"({"server":"a"})", "unknown key \"server\"; known: server_address, server_port, workload_api_socket"},
  };
  for (const Case& c : cases) EXPECT_EQ(open(c.json), prefix + c.why);
  EXPECT_EQ(open(config(), true, false), "ok") << "a dry run needs no service";
  EXPECT_EQ(open(config(), false, false),
            "FailedPrecondition: upstreamauthority(spire): the host has no limpet.grpc/1");
}

TEST_P(SpireUpstream, MintsWithNewDownstreamX509Ca) {
  ASSERT_EQ(open(config()), "ok");
  Waiter<MintedCa> minted;
  upstream->mint_ca(to_bytes("csr"), 3600, minted.arm());
  ASSERT_EQ(server.asked.size(), 1u);
  const GrpcRequest& asked = server.asked[0];
  EXPECT_EQ(asked.host, "up.test");
  EXPECT_EQ(asked.port, 8443);
  EXPECT_EQ(asked.trust_domain, "example.org");
  EXPECT_EQ(asked.socket_path, "/run/up.sock");
  EXPECT_EQ(asked.method, "/spire.api.server.svid.v1.SVID/NewDownstreamX509CA");
  const auto request = wire::Message<spire_api_server_svid_v1_NewDownstreamX509CARequest>::decode(asked.message);
  ASSERT_TRUE(request);
  EXPECT_EQ(as_text(wire::view((*request)->csr)), "csr");
  EXPECT_EQ((*request)->preferred_ttl, 3600);
  wire::Message<spire_api_server_svid_v1_NewDownstreamX509CAResponse> response;
  wire::set_bytes(wire::set_array(response->ca_cert_chain, response->ca_cert_chain_count, 1)[0], as_bytes("ca"));
  wire::set_bytes(wire::set_array(response->x509_authorities, response->x509_authorities_count, 1)[0],
                  as_bytes("root"));
  server.reply(*response.encode());
  loop.run_ready();
  ASSERT_TRUE(minted.result && *minted.result);
  EXPECT_EQ((*minted.result)->chain, (std::vector<Bytes>{to_bytes("ca")}));
  EXPECT_EQ((*minted.result)->roots, (std::vector<Bytes>{to_bytes("root")}));
}

TEST_P(SpireUpstream, ErrorsOfTheServerAndRepliesThatAreNoMessagesEndTheCall) {
  ASSERT_EQ(open(config()), "ok");
  for (const bool garbage : {false, true}) {
    Waiter<MintedCa> minted;
    upstream->mint_ca(to_bytes("csr"), 3600, minted.arm());
    if (garbage) {
      server.reply(Bytes{0xff, 0xff, 0xff});
    } else {
      server.reply(fail(Code::permission_denied, "server up.test:8443: authorization denied"));
    }
    loop.run_ready();
    ASSERT_TRUE(minted.result);
    const std::string said = outcome(*minted.result);
    if (garbage) {
      EXPECT_TRUE(said.starts_with("InvalidArgument: upstreamauthority(spire): ")) << said;
    } else {
      EXPECT_EQ(said, "PermissionDenied: upstreamauthority(spire): server up.test:8443: authorization denied");
    }
  }
}

TEST_P(SpireUpstream, AWatchAsksForTheBundleOnceAndEnds) {
  ASSERT_EQ(open(config()), "ok");
  Watcher watcher;
  auto watch = upstream->watch_bundle(watcher);
  EXPECT_EQ(server.asked.at(0).method, "/spire.api.server.bundle.v1.Bundle/GetBundle");
  server.reply(bundle_of("example.org"));
  loop.run_ready();
  EXPECT_EQ(watcher.end, "ok");
  ASSERT_TRUE(watcher.bundle);
  EXPECT_EQ(watcher.bundle->x509_roots, (std::vector<Bytes>{to_bytes("one"), to_bytes("two")}));
  ASSERT_EQ(watcher.bundle->jwt_keys.size(), 1u);
  EXPECT_EQ(watcher.bundle->jwt_keys[0].id, "kid");
  EXPECT_EQ(watcher.bundle->jwt_keys[0].expires_at, 77);
  EXPECT_TRUE(watcher.bundle->jwt_keys[0].tainted);

  Watcher other;
  watch = upstream->watch_bundle(other);
  server.reply(bundle_of("other.org"));
  loop.run_ready();
  EXPECT_FALSE(other.bundle);
  EXPECT_EQ(other.end,
            "InvalidArgument: upstreamauthority(spire): the server above serves trust domain \"other.org\", not "
            "\"example.org\"");
}

TEST_P(SpireUpstream, PublishesAJwtKey) {
  ASSERT_EQ(open(config()), "ok");
  Waiter<void> published;
  upstream->publish_jwt_key({"kid", to_bytes("spki"), 99, false}, published.arm());
  EXPECT_EQ(server.asked.at(0).method, "/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority");
  const auto request =
      wire::Message<spire_api_server_bundle_v1_PublishJWTAuthorityRequest>::decode(server.asked[0].message);
  ASSERT_TRUE(request && (*request)->has_jwt_authority);
  EXPECT_EQ(wire::view((*request)->jwt_authority.key_id), "kid");
  EXPECT_EQ((*request)->jwt_authority.expires_at, 99);
  server.reply(Bytes());
  loop.run_ready();
  ASSERT_TRUE(published.result);
  EXPECT_EQ(outcome(*published.result), "ok");
}

TEST_P(SpireUpstream, CallsThatNobodyWaitsForAreStopped) {
  ASSERT_EQ(open(config()), "ok");
  Watcher watcher;
  auto watch = upstream->watch_bundle(watcher);
  Waiter<MintedCa> minted;
  upstream->mint_ca(to_bytes("csr"), 3600, minted.arm());
  watch.reset();
  ASSERT_EQ(server.answers.size(), 2u);
  EXPECT_FALSE(server.answers[0].wanted());
  EXPECT_TRUE(server.answers[1].wanted());
  upstream.reset();  // the instance ends what is in flight
  EXPECT_FALSE(server.answers[1].wanted());
  ASSERT_TRUE(minted.result);
  EXPECT_FALSE(*minted.result);
}

TEST_P(SpireUpstream, MoreCallsThanTheHostMakesAreRefusedAndNotLost) {
  ASSERT_EQ(open(config()), "ok");
  std::vector<std::unique_ptr<Waiter<MintedCa>>> waiters;
  for (size_t i = 0; i <= limits::kPluginCalls; ++i) {
    waiters.push_back(std::make_unique<Waiter<MintedCa>>());
    upstream->mint_ca(to_bytes("csr"), 60, waiters.back()->arm());
  }
  loop.run_ready();
  EXPECT_EQ(server.asked.size(), limits::kPluginCalls);
  ASSERT_TRUE(waiters.back()->result);
  EXPECT_EQ(waiters.back()->result->error().code, Code::resource_exhausted);
}

BOTH_CARRIERS(SpireUpstream);

}  // namespace
}  // namespace limpet
