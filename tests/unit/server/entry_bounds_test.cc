// SPDX-License-Identifier: Apache-2.0
// Answers that are longer than a message can be, slices of long tables, and one entry named twice.
#include <gtest/gtest.h>

#include "proto/spire_entry.pb.h"
#include "server/pruner.h"
#include "server/wire_values.h"
#include "server_rig.h"
#include "store/join_tokens.h"

namespace limpet::server::test {
namespace {

using ListRequest = spire_api_server_entry_v1_ListEntriesRequest;
using ListResponse = spire_api_server_entry_v1_ListEntriesResponse;
using GetRequest = spire_api_server_entry_v1_GetAuthorizedEntriesRequest;
using GetResponse = spire_api_server_entry_v1_GetAuthorizedEntriesResponse;
using UpdateRequest = spire_api_server_entry_v1_BatchUpdateEntryRequest;
using UpdateResponse = spire_api_server_entry_v1_BatchUpdateEntryResponse;

constexpr const char* kAgent = "/spire/agent/join_token/t";

void put_many(ServerRig& rig, size_t count) {
  constexpr size_t kAtOnce = 2'000;
  EntryTable table(rig.store->read());
  for (size_t start = 0; start < count; start += kAtOnce) {
    ChangeSet changes;
    for (size_t i = start; i < std::min(count, start + kAtOnce); ++i) {
      const std::string name = "e" + std::to_string(i);
      table.create(changes, ServerRig::entry(name, kAgent, "/" + name));
    }
    ASSERT_TRUE(rig.commit(std::move(changes)));
  }
}

// A ListEntriesResponse by its outermost fields. nanopb grows a list item by item, which takes minutes here under
// AddressSanitizer.
struct Page {
  size_t entries = 0;
  std::string token;
};
Page read_page(const Bytes& bytes) {
  Page page;
  size_t at = 0;
  while (at < bytes.size()) {
    const uint8_t tag = bytes[at++];
    size_t length = 0;
    for (int shift = 0;; shift += 7) {
      length |= static_cast<size_t>(bytes[at] & 0x7f) << shift;
      if ((bytes[at++] & 0x80) == 0) break;
    }
    if (tag == 0x0a) ++page.entries;
    if (tag == 0x12) page.token.assign(reinterpret_cast<const char*>(bytes.data()) + at, length);
    at += length;
  }
  return page;
}

TEST(PageLimit, IsWhatAMessageHoldsAtMost) {
  EXPECT_EQ(page_limit(1), 1u);
  EXPECT_EQ(page_limit(65'000), 65'000u);
  EXPECT_EQ(page_limit(65'001), 65'000u);
  EXPECT_EQ(page_limit(INT32_MAX), 65'000u);
  EXPECT_EQ(page_limit(0), 65'000u);
  EXPECT_EQ(page_limit(-1), 65'000u);
}

TEST(LongAnswers, AreRefusedOrPagedAndNeverCutShort) {
  constexpr size_t kCount = 66'000;  // above what nanopb counts to
  ServerRig rig;
  put_many(rig, kCount);
  ASSERT_TRUE(rig.start());
  rig.put_agent(kAgent, "9");

  wire::Message<ListRequest> list;
  list->page_size = 100'000;
  list->has_output_mask = true;
  size_t seen = 0;
  for (int page = 0; page < 2; ++page) {
    const auto open = rig.open("spire.api.server.entry.v1.Entry", "ListEntries", rig.local());
    open.call->say(*list.encode());
    open.call->close();
    rig.run();
    ASSERT_EQ(open.call->code(), Code::ok) << open.call->message();
    const Page read = read_page(open.call->sent.at(0));
    EXPECT_EQ(read.entries, page == 0 ? 65'000u : 1'000u);
    seen += read.entries;
    wire::set_string(list->page_token, read.token);
  }
  EXPECT_EQ(seen, kCount);
  list->page_size = 0;
  const auto whole = rig.unary<ListResponse>("entry.v1.Entry", "ListEntries", rig.local(), list);
  ASSERT_FALSE(whole);
  EXPECT_EQ(whole.error().code, Code::resource_exhausted);
  EXPECT_EQ(whole.error().message, "failed to list entries: more than one message holds (65000 items); ask in pages");

  const auto agent = rig.remote({rig.certificate(std::string("spiffe://example.org") + kAgent)});
  const auto authorized =
      rig.unary<GetResponse>("entry.v1.Entry", "GetAuthorizedEntries", agent, wire::Message<GetRequest>());
  ASSERT_FALSE(authorized);
  EXPECT_EQ(authorized.error().code, Code::resource_exhausted);
  EXPECT_EQ(authorized.error().message,
            "failed to get authorized entries: more than one message holds (65000 items); use SyncAuthorizedEntries");
}

void fill(spire_api_types_Entry& out, const char* id, const char* path, const char* selector) {
  wire::set_string(out.id, id);
  wire::write_id(out.has_spiffe_id, out.spiffe_id, *SpiffeId::parse(std::string("spiffe://example.org") + path));
  wire::write_id(out.has_parent_id, out.parent_id, *SpiffeId::parse("spiffe://example.org/host"));
  auto* selectors = wire::set_array(out.selectors, out.selectors_count, 1);
  wire::set_string(selectors->type, "unix");
  wire::set_string(selectors->value, selector);
}

TEST(BatchUpdateEntry, ChangesAnEntryNamedTwiceInOrder) {
  ServerRig rig;
  ASSERT_TRUE(rig.start());
  rig.put_entry(ServerRig::entry("a", "/host", "/a"));
  rig.put_entry(ServerRig::entry("b", "/host", "/b"));
  wire::Message<UpdateRequest> request;
  auto* entries = wire::set_array(request->entries, request->entries_count, 5);
  fill(entries[0], "a", "/first", "uid:1");
  fill(entries[1], "a", "/second", "uid:2");
  fill(entries[2], "b", "/second", "uid:2");  // what the second made of a
  fill(entries[3], "b", "/first", "uid:1");   // what a is no longer
  fill(entries[4], "a", "/second", "uid:2");  // itself
  const auto answer = rig.unary<UpdateResponse>("entry.v1.Entry", "BatchUpdateEntry", rig.local(), request);
  ASSERT_TRUE(answer) << answer.error().text();
  const std::pair<int, int> expected[] = {{0, 1}, {0, 2}, {6, 0}, {0, 1}, {0, 3}};  // code, revision
  for (size_t i = 0; i < 5; ++i) {
    const auto& result = (*answer)->results[i];
    EXPECT_EQ(result.status.code, expected[i].first) << i << wire::view(result.status.message);
    EXPECT_EQ(result.entry.revision_number, expected[i].second) << i;
  }
  const auto a = find_entry(rig.store->read(), "a");
  ASSERT_TRUE(a);
  EXPECT_EQ(a->entry.spiffe_id.path(), "/second");
  EXPECT_EQ(a->entry.revision_number, 3);
  EXPECT_EQ(find_entry(rig.store->read(), "b")->entry.spiffe_id.path(), "/first");
}

TEST(Pruner, GoesThroughLongTablesInSlices) {
  ServerRig rig;
  put_many(rig, 4'500);
  Entry old = ServerRig::entry("old", "/host", "/old");
  old.expires_at = kStart + 10;
  rig.put_entry(old);
  Entry young = ServerRig::entry("young", "/host", "/young");
  young.expires_at = kStart + 1'000;
  rig.put_entry(young);
  ChangeSet tokens;
  for (int i = 0; i < 4'500; ++i) create_join_token(tokens, {"t" + std::to_string(i), kStart + 1'000, ""});
  create_join_token(tokens, {"u-old", kStart + 10, ""});
  create_join_token(tokens, {"v-young", kStart + 1'000, ""});
  ASSERT_TRUE(rig.commit(std::move(tokens)));

  Pruner pruner(rig.loop, rig.clock, Logger::none(), *rig.store);
  pruner.start();
  rig.clock.advance_ms(301'000);
  size_t turns = 0;
  while (find_entry(rig.store->read(), "old") && ++turns < 100) {
    if (!rig.step()) rig.loop.run_next_timer();
  }
  EXPECT_GE(turns, 3u);
  rig.run();
  for (int i = 0; i < 20; ++i) rig.pass(0);
  EXPECT_FALSE(find_entry(rig.store->read(), "old"));
  EXPECT_TRUE(find_entry(rig.store->read(), "young"));
  EXPECT_FALSE(find_join_token(rig.store->read(), "u-old"));
  EXPECT_TRUE(find_join_token(rig.store->read(), "v-young"));
  EXPECT_TRUE(find_join_token(rig.store->read(), "t4499"));

  // and a round later what expired meanwhile
  rig.pass(1'000);
  for (int i = 0; i < 40; ++i) rig.pass(0);
  EXPECT_FALSE(find_entry(rig.store->read(), "young"));
  EXPECT_FALSE(find_join_token(rig.store->read(), "t0"));
  EXPECT_FALSE(find_join_token(rig.store->read(), "v-young"));
  EXPECT_TRUE(find_entry(rig.store->read(), "e0"));
}

TEST(Pruner, MayDieAtEachOfItsSteps) {
  for (size_t die_at = 0; die_at < 12; ++die_at) {
    ServerRig rig;
    Entry old = ServerRig::entry("old", "/host", "/old");
    old.expires_at = kStart + 10;
    rig.put_entry(old);
    auto pruner = std::make_unique<Pruner>(rig.loop, rig.clock, Logger::none(), *rig.store);
    pruner->start();
    rig.clock.advance_ms(301'000);
    for (size_t i = 0; i < die_at; ++i) {
      if (!rig.step()) rig.loop.run_next_timer();
    }
    pruner.reset();
    rig.run();
  }
}

}  // namespace
}  // namespace limpet::server::test
