// SPDX-License-Identifier: Apache-2.0
#include "server/entry_index.h"

#include "proto/spire_entry.pb.h"
#include "server_rig.h"
#include "store/entries.h"
#include "wire/api_types.h"

namespace limpet::server::test {
namespace {

using Request = spire_api_server_entry_v1_BatchCreateEntryRequest;
using Response = spire_api_server_entry_v1_BatchCreateEntryResponse;

const SpiffeId kAgent = *SpiffeId::parse("spiffe://example.org/spire/agent/x");

std::string ids(const std::vector<const Entry*>& entries) {
  std::string out;
  for (const Entry* entry : entries) out += entry->id + " ";
  return out;
}

TEST(EntryIndexTest, ChildrenAreInEntryIdOrderWhateverOrderTheyCameAndWentIn) {
  ServerRig rig;
  const std::string agent = kAgent.path();
  rig.put_entry(ServerRig::entry("m", agent, "/m"));
  EntryIndex index(*rig.store, *TrustDomain::parse(kDomain));
  for (const char* id : {"z", "c", "a", "x"}) rig.put_entry(ServerRig::entry(id, agent, std::string("/") + id));
  EXPECT_EQ(ids(index.authorized(kAgent, {})), "a c m x z ");
  for (const char* id : {"b", "y"}) rig.put_entry(ServerRig::entry(id, agent, std::string("/") + id));
  for (const char* id : {"y", "c", "a"}) {
    ChangeSet changes;
    EntryTable::remove(changes, *find_entry(rig.store->read(), id));
    ASSERT_TRUE(rig.commit(std::move(changes)));
  }
  EXPECT_EQ(ids(index.authorized(kAgent, {})), "b m x z ");
  rig.put_entry(ServerRig::entry("n", agent, "/n"));
  EXPECT_EQ(ids(index.authorized(kAgent, {})), "b m n x z ");
  EXPECT_EQ(index.size(), 5u);
}

TEST(EntryIndexTest, EntriesWithOneSpiffeIdAreFoundTogetherAndGoOneByOne) {
  ServerRig rig;
  EntryIndex index(*rig.store, *TrustDomain::parse(kDomain));
  for (const char* id : {"two", "one"}) rig.put_entry(ServerRig::entry(id, kAgent.path(), "/shared"));
  const SpiffeId shared = *SpiffeId::parse("spiffe://example.org/shared");
  EXPECT_EQ(ids(index.with_spiffe_id(shared)), "one two ");
  ChangeSet changes;
  EntryTable::remove(changes, *find_entry(rig.store->read(), "one"));
  ASSERT_TRUE(rig.commit(std::move(changes)));
  EXPECT_EQ(ids(index.with_spiffe_id(shared)), "two ");
  EXPECT_EQ(ids(index.with_spiffe_id(*SpiffeId::parse("spiffe://other.org/shared"))), "");
  EXPECT_NE(index.find_authorized(kAgent, {}, "two"), nullptr);
  EXPECT_EQ(index.find_authorized(kAgent, {}, "one"), nullptr);
}

TEST(BatchCreateEntryTest, ItemsOfOneBatchAreComparedWithEachOther) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  Entry items[] = {ServerRig::entry("a", "/spire/agent/x", "/a"), ServerRig::entry("", "/spire/agent/x", "/b"),
                   ServerRig::entry("other", "/spire/agent/x", "/a"), ServerRig::entry("a", "/spire/agent/x", "/c")};
  items[2].selectors = items[0].selectors;
  wire::Message<Request> request;
  auto* out = wire::set_array(request->entries, request->entries_count, std::size(items));
  for (size_t i = 0; i < std::size(items); ++i) wire::write_entry(out[i], items[i]);
  auto response = rig.unary<Response>("entry.v1.Entry", "BatchCreateEntry", rig.local(), request);
  ASSERT_TRUE(response) << response.error().message;
  const Response& answer = **response;
  ASSERT_EQ(answer.results_count, 4);
  EXPECT_EQ(answer.results[0].status.code, 0);
  EXPECT_EQ(answer.results[1].status.code, 0);
  EXPECT_EQ(wire::view(answer.results[1].entry.id).size(), 36u);
  EXPECT_EQ(answer.results[2].status.code, int32_t(Code::already_exists));
  EXPECT_EQ(wire::view(answer.results[2].entry.id), "a");  // the one it is like
  EXPECT_EQ(answer.results[3].status.code, int32_t(Code::already_exists));
  EXPECT_EQ(wire::view(answer.results[3].status.message), "failed to create entry: entry ID \"a\" is taken");
}

}  // namespace
}  // namespace limpet::server::test
