// SPDX-License-Identifier: Apache-2.0
// What the conformance tests cannot reach of the federation APIs: flows that die, commits that come between, a full
// disk. The rest is in tests/conformance.

#include "proto/spire_bundle.pb.h"
#include "proto/spire_trustdomain.pb.h"
#include "server_rig.h"
#include "spiffe/bundle_url.h"
#include "store/bundles.h"
#include "store/federation.h"
#include "wire/api_types.h"

namespace limpet::server::test {
namespace {

using SetRequest = spire_api_server_bundle_v1_BatchSetFederatedBundleRequest;
using SetResponse = spire_api_server_bundle_v1_BatchSetFederatedBundleResponse;
using DeleteRequest = spire_api_server_bundle_v1_BatchDeleteFederatedBundleRequest;
using DeleteResponse = spire_api_server_bundle_v1_BatchDeleteFederatedBundleResponse;
using CreateRequest = spire_api_server_trustdomain_v1_BatchCreateFederationRelationshipRequest;

constexpr const char* kBundle = "spire.api.server.bundle.v1.Bundle";
constexpr const char* kTrustDomain = "spire.api.server.trustdomain.v1.TrustDomain";

Bundle bundle(const std::string& name) {
  Bundle out;
  out.trust_domain = *TrustDomain::parse(name);
  out.jwt_authorities.push_back({"kid", some_key().public_key().spki(), 0, false});
  return out;
}
wire::Message<SetRequest> set_request(const std::string& name) {
  wire::Message<SetRequest> request;
  wire::write_bundle(*wire::set_array(request->bundle, request->bundle_count, 1), bundle(name));
  return request;
}
wire::Message<DeleteRequest> delete_request(const std::string& name, int32_t mode) {
  wire::Message<DeleteRequest> request;
  wire::set_string(*wire::set_array(request->trust_domains, request->trust_domains_count, 1), name);
  request->mode = static_cast<spire_api_server_bundle_v1_BatchDeleteFederatedBundleRequest_Mode>(mode);
  return request;
}
wire::Message<CreateRequest> create_request(const std::string& name) {
  wire::Message<CreateRequest> request;
  auto* one = wire::set_array(request->federation_relationships, request->federation_relationships_count, 1);
  wire::set_string(one->trust_domain, name);
  wire::set_string(one->bundle_endpoint_url, "https://" + name + "/");
  one->which_bundle_endpoint_profile = spire_api_types_FederationRelationship_https_web_tag;
  return request;
}
void put(ServerRig& rig, const std::string& name) {
  ChangeSet changes;
  put_bundle(changes, bundle(name));
  ASSERT_TRUE(rig.commit(std::move(changes)));
}
Entry federated(const std::string& id, std::vector<std::string> with) {
  Entry entry = ServerRig::entry(id, "/host", "/" + id);
  entry.federates_with = std::move(with);
  return entry;
}

TEST(FederationFlows, MayDieAtEachOfTheirSteps) {
  wire::Message<spire_api_server_bundle_v1_ListFederatedBundlesRequest> list;
  wire::Message<spire_api_server_trustdomain_v1_GetFederationRelationshipRequest> get;
  wire::set_string(get->trust_domain, "one.org");
  wire::Message<spire_api_server_trustdomain_v1_BatchDeleteFederationRelationshipRequest> end;
  wire::set_string(*wire::set_array(end->trust_domains, end->trust_domains_count, 1), "one.org");
  struct Case {
    const char* service;
    const char* method;
    Bytes request;
  };
  const Case cases[] = {{kBundle, "ListFederatedBundles", *list.encode()},
                        {kBundle, "BatchSetFederatedBundle", *set_request("one.org").encode()},
                        {kBundle, "BatchDeleteFederatedBundle", *delete_request("one.org", 2).encode()},
                        {kTrustDomain, "BatchCreateFederationRelationship", *create_request("two.org").encode()},
                        {kTrustDomain, "GetFederationRelationship", *get.encode()},
                        {kTrustDomain, "BatchDeleteFederationRelationship", *end.encode()}};
  for (const Case& c : cases) {
    size_t steps = 0;
    for (size_t die_at = 0; die_at <= steps + 1; die_at++) {
      ServerRig rig;
      ASSERT_TRUE(rig.start());
      put(rig, "one.org");
      rig.put_entry(federated("a", {"one.org"}));
      ChangeSet changes;
      create_relationship(changes, {*TrustDomain::parse("one.org"), "https://one.org/", BundleProfile::https_web, {}});
      ASSERT_TRUE(rig.commit(std::move(changes)));
      auto open = rig.open(c.service, c.method, rig.local());
      open.call->say(c.request);
      size_t step = 0;
      for (; step < 40 && !open.call->status; step++) {
        if (die_at > 0 && step == die_at) break;
        if (!rig.step()) rig.loop.run_next_timer();
      }
      if (die_at == 0) {
        steps = step;
        EXPECT_EQ(open.call->code(), Code::ok) << c.method << ": " << open.call->message();
      }
      open.flow.reset();
      rig.run();
    }
    EXPECT_GT(steps, 1u) << c.method;
  }
}

TEST(FederatedBundles, AFullDiskChangesNothingAndSaysSo) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  rig.disk_full = true;
  const auto set =
      rig.unary<SetResponse>("bundle.v1.Bundle", "BatchSetFederatedBundle", rig.local(), set_request("one.org"));
  ASSERT_TRUE(set);
  EXPECT_EQ((*set)->results[0].status.code, static_cast<int32_t>(Code::internal));
  EXPECT_EQ(wire::view((*set)->results[0].status.message), "failed to set bundle: no space left on device");
  EXPECT_FALSE((*set)->results[0].has_bundle);
  rig.disk_full = false;
  put(rig, "one.org");
  rig.put_entry(federated("a", {"one.org"}));
  rig.disk_full = true;
  const auto gone = rig.unary<DeleteResponse>("bundle.v1.Bundle", "BatchDeleteFederatedBundle", rig.local(),
                                              delete_request("one.org", 1));
  ASSERT_TRUE(gone);
  EXPECT_EQ((*gone)->results[0].status.code, static_cast<int32_t>(Code::resource_exhausted));
  EXPECT_TRUE(find_bundle(rig.store->read(), *TrustDomain::parse("one.org")));
  EXPECT_TRUE(find_entry(rig.store->read(), "a"));
}

TEST(FederatedBundles, ManyEntriesAreDissociatedWithTheBundleInOneCommit) {
  constexpr int kMany = 4'100;  // more than two turns of the loop look at
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  put(rig, "one.org");
  EntryTable table(rig.store->read());
  ChangeSet changes;
  for (int i = 0; i < kMany; i++) table.create(changes, federated("e" + std::to_string(i), {"one.org", "two.org"}));
  ASSERT_TRUE(rig.commit(std::move(changes)));
  const uint64_t before = rig.store->read().revision();
  const auto gone = rig.unary<DeleteResponse>("bundle.v1.Bundle", "BatchDeleteFederatedBundle", rig.local(),
                                              delete_request("one.org", 2));
  ASSERT_TRUE(gone && (*gone)->results[0].status.code == 0);
  EXPECT_EQ(rig.store->read().revision(), before + 1);
  size_t seen = 0;
  ASSERT_TRUE(scan_entries(rig.store->read(), 0, [&seen](EntryRow&& row) {
    EXPECT_EQ(row.entry.federates_with, std::vector<std::string>{"two.org"});
    EXPECT_EQ(row.entry.revision_number, 1);
    seen++;
    return true;
  }));
  EXPECT_EQ(seen, size_t{kMany});
}

TEST(FederatedBundles, AnEntryThatChangesMeanwhileIsLookedAtAnew) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  put(rig, "one.org");
  rig.put_entry(federated("a", {"one.org"}));
  auto open = rig.open(kBundle, "BatchDeleteFederatedBundle", rig.local());
  // in the way of the commit that the flow is about to make
  const EntryRow row = *find_entry(rig.store->read(), "a");
  Entry changed = row.entry;
  changed.hint = "changed";
  changed.revision_number++;
  ChangeSet changes;
  EntryTable::update(changes, row, changed);
  struct {
    void on_done(Result<uint64_t>) {}
    Pending<uint64_t> pending;
  } ignored;
  rig.store->commit(std::move(changes), ignored.pending.then<&decltype(ignored)::on_done>(&ignored));
  open.call->say(*delete_request("one.org", 2).encode());
  rig.run();
  ASSERT_EQ(open.call->code(), Code::ok) << open.call->message();
  const Entry after = find_entry(rig.store->read(), "a")->entry;
  EXPECT_TRUE(after.federates_with.empty());
  EXPECT_EQ(after.hint, "changed");
  EXPECT_FALSE(find_bundle(rig.store->read(), *TrustDomain::parse("one.org")));
}

TEST(FederatedBundles, AnEntryThatComesMeanwhileDoesNotGoOnFederating) {
  for (const int32_t mode : {0, 1, 2}) {
    ServerRig rig;
    ASSERT_TRUE(rig.start());
    put(rig, "one.org");
    if (mode != 0) rig.put_entry(federated("early", {"one.org"}));
    rig.put_entry(federated("other", {}));
    EntryTable table(rig.store->read());
    rig.ahead.resize(1);
    table.create(rig.ahead[0], federated("late", {"one.org"}));
    const EntryRow other = *find_entry(rig.store->read(), "other");
    Entry joins = other.entry;
    joins.federates_with = {"one.org"};
    EntryTable::update(rig.ahead[0], other, joins);
    auto open = rig.open(kBundle, "BatchDeleteFederatedBundle", rig.local());
    open.call->say(*delete_request("one.org", mode).encode());
    open.call->close();
    rig.run();
    ASSERT_EQ(open.call->code(), Code::ok) << open.call->message();
    const auto response = wire::Message<DeleteResponse>::decode(open.call->sent.at(0));
    EXPECT_EQ((*response)->results[0].status.code,
              static_cast<int32_t>(mode == 0 ? Code::failed_precondition : Code::ok));
    EXPECT_EQ(find_bundle(rig.store->read(), *TrustDomain::parse("one.org")).has_value(), mode == 0);
    for (const char* id : {"late", "other"}) {
      const auto found = find_entry(rig.store->read(), id);
      EXPECT_EQ(found.has_value(), mode != 1) << id;
      if (found) {
        EXPECT_EQ(found->entry.federates_with.empty(), mode == 2) << id;
      }
    }
  }
}

TEST(BundleUrl, WhatAnEndpointMayBe) {
  for (const char* good : {"https://a.org", "https://a.org/", "https://a.org:8443/x?y#z", "https://[::1]:8443/",
                           "https://127.0.0.1:/", "https://a.org/user@host"}) {
    EXPECT_TRUE(check_bundle_url(good)) << good;
  }
  for (const char* bad :
       {"", "a.org", "http://a.org", "HTTPS:/a.org", "https:a.org", "https://", "https:///x", "https://:443/",
        "https://u@a.org/", "https://u:p@a.org/", "https://a.org:x/", "https://a.org:65536/",
        "https://a.org:123456789012345678901234567890/", "https://a b/", "https://a.org/\n", "https://a.org/\x7f"}) {
    EXPECT_FALSE(check_bundle_url(bad)) << bad;
  }
  EXPECT_FALSE(check_bundle_url("https://" + std::string(2048, 'a')));
}

}  // namespace
}  // namespace limpet::server::test
