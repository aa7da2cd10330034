// SPDX-License-Identifier: Apache-2.0
// What goes wrong between two rotations: a second preparation that fails, keys that were replaced, authorities that
// expired, commits that come too late, bundles that are full.
#include "proto/spire_agent.pb.h"
#include "proto/spire_bundle.pb.h"
#include "proto/spire_localauthority.pb.h"
#include "server/ca.h"
#include "server/jwt_keys.h"
#include "server_rig.h"

namespace limpet::server::test {
namespace {

constexpr int64_t kHour = 3600;
constexpr const char* kApi = "localauthority.v1.LocalAuthority";

template <class T>
struct Answer {
  Done<T> done() { return pending.template then<&Answer::on_done>(this); }
  void on_done(Result<T> r) { result = std::move(r); }
  Pending<T> pending;
  std::optional<Result<T>> result;
};

struct Rig : ServerRig {
  Rig() { EXPECT_TRUE(start()); }
  [[nodiscard]] X509Ca& ca() const { return core->ca(); }
  [[nodiscard]] JwtKeys& jwt() const { return *core->jwt(); }
  [[nodiscard]] const Health::Part& part(const std::string& name) const { return health.parts().at(name); }

  Result<SignedSvid> sign_x509() {
    SvidRequest request;
    request.id = *SpiffeId::parse("spiffe://example.org/web");
    request.spki = some_key().public_key().spki();
    request.subject_key_id = some_key().public_key().key_id();
    request.ttl = kHour;
    Answer<SignedSvid> answer;
    ca().sign(std::move(request), answer.done());
    run();
    if (!answer.result) return fail(Code::internal, "not answered");
    if (*answer.result) {
      auto chain = parse_chain((*answer.result)->chain);
      EXPECT_TRUE(chain && verify_chain(*chain, *core->bundles().roots(), clock.now())) << "nobody could verify it";
    }
    return std::move(*answer.result);
  }
  Result<SignedJwt> sign_jwt() {
    Answer<SignedJwt> answer;
    jwt().sign({*SpiffeId::parse("spiffe://example.org/web"), {"aud"}, 300, false}, answer.done());
    run();
    return answer.result ? std::move(*answer.result) : fail(Code::internal, "not answered");
  }
  Result<void> prepare_x509() {
    Answer<void> answer;
    ca().prepare_now(answer.done());
    run();
    return answer.result ? *answer.result : fail(Code::internal, "not answered");
  }
  Result<void> prepare_jwt() {
    Answer<JwtSlot> answer;
    jwt().prepare(answer.done());
    run();
    if (!answer.result) return fail(Code::internal, "not answered");
    return *answer.result ? Result<void>() : std::unexpected(answer.result->error());
  }
  void replace_key(const std::string& id) {
    ASSERT_TRUE(keys.keys.contains(id));
    keys.keys.insert_or_assign(id, copy_key(some_key(77)));
  }
  // Hours pass in steps of ten minutes, as the loop would see them.
  void pass_hours(int hours) {
    for (int i = 0; i < hours * 6; i++) pass(600);
  }
};

TEST(AuthorityFaults, ASecondPreparationThatFailsLeavesNoDeadKeyToBeActivated) {
  Rig rig;
  ASSERT_TRUE(rig.prepare_x509());
  ASSERT_TRUE(rig.prepare_jwt());
  rig.disk_full = true;
  EXPECT_FALSE(rig.prepare_x509());
  EXPECT_FALSE(rig.prepare_jwt());
  EXPECT_EQ(rig.ca().next(), nullptr) << "its key was replaced";
  EXPECT_EQ(rig.jwt().other(), nullptr) << "its key was replaced";
  EXPECT_FALSE(rig.ca().activate());
  EXPECT_FALSE(rig.jwt().activate());
  rig.disk_full = false;
  const Bytes first = rig.ca().active_certificate()->der;
  const std::string first_key = rig.jwt().current()->key_id;
  rig.pass_hours(21);
  EXPECT_NE(rig.ca().active_certificate()->der, first);
  EXPECT_NE(rig.jwt().current()->key_id, first_key);
  EXPECT_TRUE(rig.sign_x509());
  EXPECT_TRUE(rig.sign_jwt());
}

TEST(AuthorityFaults, AReplacedCaKeyIsToldAndAnotherAuthorityTakesOver) {
  for (const bool prepared : {false, true}) {
    Rig rig;
    rig.pass_hours(prepared ? 13 : 1);
    ASSERT_EQ(rig.ca().next() != nullptr, prepared);
    const Bytes lost = rig.ca().active_certificate()->der;
    rig.replace_key("x509-CA-A");
    EXPECT_EQ(rig.sign_x509().error().code, Code::failed_precondition);
    EXPECT_NE(rig.part("ca_key").reason.find("was replaced; another authority takes its place"), std::string::npos)
        << rig.part("ca_key").reason;
    rig.pass(1);
    EXPECT_NE(rig.ca().active_certificate()->der, lost);
    EXPECT_TRUE(rig.sign_x509());
    EXPECT_EQ(rig.part("ca_key").state, HealthState::ok);
  }
}

TEST(AuthorityFaults, AReplacedJwtKeyIsToldAndAnotherOneTakesOver) {
  for (const bool prepared : {false, true}) {
    Rig rig;
    rig.pass_hours(prepared ? 13 : 1);
    ASSERT_EQ(rig.jwt().other() != nullptr, prepared);
    const std::string lost = rig.jwt().current()->key_id;
    rig.keys.failure = prepared ? "" : "the key manager is away";
    rig.replace_key("JWT-Signer-A");
    EXPECT_EQ(rig.sign_jwt().error().code, Code::failed_precondition);
    if (!prepared) {
      EXPECT_EQ(rig.part("jwt_key").state, HealthState::degraded);
      rig.keys.failure.clear();
      rig.pass(10);
    }
    rig.pass(1);
    EXPECT_NE(rig.jwt().current()->key_id, lost);
    EXPECT_TRUE(rig.sign_jwt());
    EXPECT_EQ(rig.part("jwt_key").state, HealthState::ok);
  }
}

TEST(AuthorityFaults, KeysThatAreReplacedAgainAndAgainDoNotFillTheBundle) {
  Rig rig;
  rig.pass_hours(1);
  const auto lose_both = [&rig] {
    rig.replace_key("x509-CA-" + rig.ca().current()->slot_id);
    rig.replace_key("JWT-Signer-" + rig.jwt().current()->slot_id);
    EXPECT_FALSE(rig.sign_x509());
    EXPECT_FALSE(rig.sign_jwt());
  };
  lose_both();
  rig.pass(10);
  EXPECT_TRUE(rig.sign_x509() && rig.sign_jwt());
  lose_both();
  for (int i = 0; i < 50; ++i) rig.pass(10);
  EXPECT_FALSE(rig.sign_x509() || rig.sign_jwt());
  EXPECT_EQ(rig.part("jwt_key").state, HealthState::failed);
  EXPECT_EQ(rig.core->bundles().own()->x509_authorities.size(), 2u);
  EXPECT_EQ(rig.core->bundles().own()->jwt_authorities.size(), 2u);
  for (int i = 0; i < 12; ++i) rig.pass(10);
  EXPECT_TRUE(rig.sign_x509() && rig.sign_jwt());
}

TEST(AuthorityFaults, AnExpiredCaSignsNothingAndNothingIsWritten) {
  Rig rig;
  rig.keys.failure = "token removed";
  rig.put_agent("/spire/agent/join_token/t", "9");
  rig.pass_hours(25);
  auto refused = rig.sign_x509();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text(), "Unavailable: the X.509 CA has expired");
  EXPECT_EQ(rig.part("ca").state, HealthState::failed);
  EXPECT_TRUE(rig.part("ca").reason.starts_with("the X.509 CA has expired; ")) << rig.part("ca").reason;
  wire::Message<spire_api_server_agent_v1_RenewAgentRequest> request;
  request->has_params = true;
  wire::set_bytes(request->params.csr, ServerRig::csr());
  const auto agent =
      rig.remote({rig.certificate("spiffe://example.org/spire/agent/join_token/t", {0x09}, kStart + 40 * kHour)});
  const auto renewed =
      rig.unary<spire_api_server_agent_v1_RenewAgentResponse>("agent.v1.Agent", "RenewAgent", agent, request);
  ASSERT_FALSE(renewed);
  EXPECT_EQ(renewed.error().message, "failed to sign X509 SVID: the X.509 CA has expired");
  EXPECT_EQ(find_agent(rig.store->read(), "spiffe://example.org/spire/agent/join_token/t")->agent.new_serial, "");
  rig.keys.failure.clear();
  rig.pass(10);
  rig.pass(10);
  EXPECT_TRUE(rig.sign_x509());
  EXPECT_EQ(rig.part("ca").state, HealthState::ok);
}

TEST(AuthorityFaults, WhatIsPreparedLateIsPublishedAMinuteBeforeItSigns) {
  Rig rig;
  rig.keys.failure = "token removed";
  const Bytes first = rig.ca().active_certificate()->der;
  const std::string first_key = rig.jwt().current()->key_id;
  rig.pass_hours(21);
  rig.keys.failure.clear();
  rig.pass(10);
  ASSERT_NE(rig.ca().next(), nullptr);
  ASSERT_NE(rig.jwt().other(), nullptr);
  for (int i = 0; i < 4; ++i) rig.pass(10);
  EXPECT_EQ(rig.ca().active_certificate()->der, first);
  EXPECT_EQ(rig.jwt().current()->key_id, first_key);
  for (int i = 0; i < 3; ++i) rig.pass(10);
  EXPECT_NE(rig.ca().active_certificate()->der, first);
  EXPECT_NE(rig.jwt().current()->key_id, first_key);
}

TEST(AuthorityFaults, NothingWaitsForAMinuteThatTheActiveOneDoesNotHaveOrThatAnOperatorDoesNotWant) {
  Rig rig;
  rig.keys.failure = "token removed";
  const Bytes first = rig.ca().active_certificate()->der;
  const std::string first_key = rig.jwt().current()->key_id;
  rig.pass_hours(23);
  rig.pass(3570);
  rig.keys.failure.clear();
  rig.pass(10);
  rig.pass(10);
  EXPECT_NE(rig.ca().active_certificate()->der, first);
  EXPECT_NE(rig.jwt().current()->key_id, first_key);
  ASSERT_TRUE(rig.prepare_x509());
  ASSERT_TRUE(rig.prepare_jwt());
  EXPECT_TRUE(rig.ca().activate());
  EXPECT_TRUE(rig.jwt().activate());
}

// ---- LocalAuthority ----
using Change = spire_api_server_localauthority_v1_TaintJWTAuthorityRequest;  // the same fields for all of them
using Revoked = spire_api_server_localauthority_v1_RevokeJWTAuthorityResponse;

wire::Message<Change> change_of(const std::string& id) {
  wire::Message<Change> request;
  wire::set_string(request->authority_id, id);
  return request;
}
bool tainted(const ServerRig& rig, const std::string& id) {
  const auto& keys = rig.core->bundles().own()->jwt_authorities;
  const auto key = std::ranges::find(keys, id, &JwtAuthority::key_id);
  return key != keys.end() && key->tainted;
}

TEST(LocalAuthority, AnEditThatCameTooLateRunsAgainWhenItsCallerIsGone) {
  int late = 0;
  bool whole = false;
  for (size_t die_at = 1; die_at < 60 && !whole; ++die_at) {
    Rig rig;
    const std::string old = rig.jwt().current()->key_id;
    ASSERT_TRUE(rig.prepare_jwt());
    ASSERT_TRUE(rig.jwt().activate());
    rig.run();
    rig.conflicts = 1;
    auto open = rig.open(std::string("spire.api.server.") + kApi, "TaintJWTAuthority", rig.local());
    open.call->say(*change_of(old).encode());
    open.call->close();
    for (size_t i = 0; i < die_at && !open.call->status; ++i) {
      if (!rig.step()) rig.loop.run_next_timer();
    }
    whole = open.call->status.has_value();
    if (whole) {
      EXPECT_EQ(open.call->code(), Code::ok) << open.call->message();
    }
    open.flow.reset();
    rig.run();
    EXPECT_TRUE(!whole || tainted(rig, old));
    late += !whole && tainted(rig, old);
  }
  EXPECT_TRUE(whole);
  EXPECT_GT(late, 0) << "the edit was never left alone";
}

TEST(LocalAuthority, RevokesAnyJwtKeyOfTheBundleThatIsTaintedAndNotInUse) {
  Rig rig;
  const auto revoke = [&rig](const std::string& id) {
    const auto response = rig.unary<Revoked>(kApi, "RevokeJWTAuthority", rig.local(), change_of(id));
    return response ? std::string(wire::view((*response)->revoked_authority.authority_id)) : response.error().text();
  };
  ASSERT_TRUE(rig.prepare_jwt());
  rig.core->bundles().edit_own(
      [](Bundle& bundle, ChangeSet&) {
        bundle.jwt_authorities.push_back({"below", to_bytes("spki"), kStart + 60, true});
        bundle.jwt_authorities.push_back({"good", to_bytes("spki"), kStart + 60, false});
        return true;
      },
      {});
  rig.run();
  const std::string invalid = "InvalidArgument: invalid authority ID: ";
  EXPECT_EQ(revoke(""), invalid + "no authority ID provided");
  EXPECT_EQ(revoke(rig.jwt().current()->key_id), invalid + "unable to use current authority");
  EXPECT_EQ(revoke(rig.jwt().other()->key_id), invalid + "unable to use a prepared key");
  EXPECT_EQ(revoke("zz"), invalid + "no JWT authority found with provided authority ID");
  EXPECT_EQ(revoke("good"), "Internal: failed to revoke JWT authority: it is not possible to revoke an untainted key");
  EXPECT_EQ(revoke("below"), "below");
  EXPECT_EQ(revoke("below"), invalid + "no JWT authority found with provided authority ID");
  EXPECT_EQ(rig.core->bundles().own()->jwt_authorities.size(), 3u);
}

// ---- the own bundle's bounds ----
using Append = spire_api_server_bundle_v1_AppendBundleRequest;
using Publish = spire_api_server_bundle_v1_PublishJWTAuthorityRequest;
using Published = spire_api_server_bundle_v1_PublishJWTAuthorityResponse;

struct FullRig : Rig {
  FullRig() {
    config.ratelimit_signing = false;
    Entry below = entry("below", "/host", "/below");
    below.downstream = true;
    put_entry(below);
  }
  void fill(size_t roots, size_t keys) {
    core->bundles().edit_own(
        [=](Bundle& bundle, ChangeSet&) {
          while (bundle.x509_authorities.size() < roots)
            bundle.x509_authorities.push_back(
                {to_bytes("root " + std::to_string(bundle.x509_authorities.size())), false});
          while (bundle.jwt_authorities.size() < keys)
            bundle.jwt_authorities.push_back(
                {"kid " + std::to_string(bundle.jwt_authorities.size()), to_bytes("spki"), kStart + 86400, false});
          return true;
        },
        {});
    run();
    ASSERT_EQ(core->bundles().own()->x509_authorities.size(), roots);
    ASSERT_EQ(core->bundles().own()->jwt_authorities.size(), keys);
  }
  Result<wire::Message<Published>> publish(const std::string& id, int64_t expires_at = 0) {
    wire::Message<Publish> request;
    request->has_jwt_authority = true;
    wire::set_string(request->jwt_authority.key_id, id);
    wire::set_bytes(request->jwt_authority.public_key, some_key(3).public_key().spki());
    request->jwt_authority.expires_at = expires_at;
    return unary<Published>("bundle.v1.Bundle", "PublishJWTAuthority",
                            remote({certificate("spiffe://example.org/below")}), request);
  }
  Result<wire::Message<spire_api_types_Bundle>> append_root(uint8_t serial) {
    wire::Message<Append> request;
    auto* root = wire::set_array(request->x509_authorities, request->x509_authorities_count, 1);
    wire::set_bytes(root->asn1, certificate("spiffe://example.org", {serial}));
    return unary<spire_api_types_Bundle>("bundle.v1.Bundle", "AppendBundle", local(), request);
  }
  Result<wire::Message<spire_api_types_Bundle>> append_key(const std::string& id) {
    wire::Message<Append> request;
    auto* key = wire::set_array(request->jwt_authorities, request->jwt_authorities_count, 1);
    wire::set_string(key->key_id, id);
    wire::set_bytes(key->public_key, some_key(3).public_key().spki());
    return unary<spire_api_types_Bundle>("bundle.v1.Bundle", "AppendBundle", local(), request);
  }
};

TEST(OwnBundle, TakesNoMoreOfOthersThanLeavesRoomForItsOwnRotations) {
  FullRig rig;
  rig.fill(979, 1979);
  EXPECT_TRUE(rig.append_root(1));
  EXPECT_TRUE(rig.publish("last"));
  EXPECT_TRUE(rig.publish("last")) << "it is there already";
  const std::string rest = " is kept for this server's own: revoke some, or wait until they expire";
  const std::string keys = "the bundle would have more than 1980 JWT authorities, and the rest of its 2000" + rest;
  EXPECT_EQ(
      rig.append_root(2).error().text(),
      "ResourceExhausted: failed to append bundle: the bundle would have more than 980 X.509 authorities, and the "
      "rest of its 1000" +
          rest);
  EXPECT_EQ(rig.append_key("more").error().text(), "ResourceExhausted: failed to append bundle: " + keys);
  EXPECT_EQ(rig.publish("more").error().text(), "ResourceExhausted: failed to publish JWT key: " + keys);
  EXPECT_TRUE(rig.prepare_x509());
  EXPECT_TRUE(rig.prepare_jwt());
  EXPECT_EQ(rig.core->bundles().own()->x509_authorities.size(), 981u);
  EXPECT_EQ(rig.core->bundles().own()->jwt_authorities.size(), 1981u);
}

TEST(OwnBundle, AnExpiredKeyOfAServerBelowIsDropped) {
  FullRig rig;
  const auto dropped = rig.publish("late", kStart);
  ASSERT_TRUE(dropped) << dropped.error().text();
  EXPECT_EQ((*dropped)->jwt_authorities_count, 1);
  EXPECT_EQ(rig.core->bundles().own()->jwt_authorities.size(), 1u);
  EXPECT_EQ((*rig.publish("good", kStart + 60))->jwt_authorities_count, 2);
}

}  // namespace
}  // namespace limpet::server::test
