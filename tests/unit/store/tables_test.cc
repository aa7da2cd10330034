// SPDX-License-Identifier: Apache-2.0
// The typed tables: rows survive a round trip, indexes follow their rows, conflicts abort.

#include <gmock/gmock.h>

#include "store/agent_state.h"
#include "store/agents.h"
#include "store/bundles.h"
#include "store/codec.h"
#include "store/enrollments.h"
#include "store/entries.h"
#include "store/federation.h"
#include "store/join_tokens.h"
#include "store/journal.h"
#include "store_rig.h"

namespace limpet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Entry make_entry(const std::string& id, const std::string& path = "/web") {
  Entry entry;
  entry.id = id;
  entry.spiffe_id = *SpiffeId::parse("spiffe://example.org" + path);
  entry.parent_id = *SpiffeId::parse("spiffe://example.org/spire/agent/join_token/abc");
  entry.selectors = make_selector_set({{"unix", "uid:1000"}, {"unix", "gid:1000"}});
  return entry;
}

Entry full_entry() {
  Entry entry = make_entry("full");
  entry.x509_svid_ttl = 3600;
  entry.jwt_svid_ttl = -1;
  entry.federates_with = {"other.org", "third.org"};
  entry.admin = entry.downstream = true;
  entry.expires_at = 1'900'000'000;
  entry.dns_names = {"web", "web.example.org"};
  entry.revision_number = 7;
  entry.store_svid = true;
  entry.hint = "internal";
  entry.created_at = 1'800'000'000;
  entry.has_additional_attributes = entry.disable_x509_svid_prefetch = entry.jwt_svid_include_jti = true;
  return entry;
}

// Entry has no operator==; its whole row is what matters.
void expect_same(const Entry& a, const Entry& b) { EXPECT_EQ(encode_entry(a), encode_entry(b)); }

TEST(ProtoReader, MalformedBytesEndTheReadingAndAreNoted) {
  const Bytes cases[] = {
      {0x80},                                                                    // a key that does not end
      {0x00, 0x01},                                                              // field 0
      {0x08},                                                                    // no value
      {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},  // eleven bytes of number
      {0x0a, 0x05, 'a'},                                                         // a text cut short
      {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},        // a length beyond everything
      {0x0d, 1, 2, 3},                                                           // four bytes, three there
      {0x09, 1, 2, 3, 4, 5, 6, 7},                                               // eight bytes, seven there
      {0x0b},                                                                    // a group
      {0x0f},                                                                    // no such wire type
  };
  for (const Bytes& bytes : cases) {
    SCOPED_TRACE(hex_encode(bytes));
    ProtoReader in(bytes);
    while (in.next()) {
    }
    EXPECT_FALSE(in.ok());
    EXPECT_FALSE(decode_entry(bytes).has_value());
    EXPECT_EQ(decode_agent(bytes).error().code, Code::data_loss);
    EXPECT_EQ(decode_join_token(bytes).error().code, Code::data_loss);
    EXPECT_EQ(decode_journal(bytes).error().code, Code::data_loss);
    EXPECT_FALSE(decode_bundle(bytes).has_value());
  }
}

TEST(ProtoReader, FieldsOfALaterVersionAreSkipped) {
  ProtoWriter later;
  later.number(1000, 5);
  later.text(1001, "new");
  Bytes bytes = encode_entry(full_entry());
  append(bytes, later.view());
  append(bytes, Bytes{0xfd, 0x3e, 1, 2, 3, 4});              // fixed32, field 1007
  append(bytes, Bytes{0xf9, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8});  // fixed64, field 1007
  auto entry = decode_entry(bytes);
  ASSERT_TRUE(entry.has_value()) << entry.error().text();
  expect_same(*entry, full_entry());
}

TEST(TextKey, LongAndOddTextsStillHaveKeysOfTheirOwn) {
  EXPECT_EQ(text_key("abc"), to_bytes("abc"));
  EXPECT_EQ(text_key(std::string(480, 'a')).size(), 480u);
  EXPECT_EQ(text_key(std::string(481, 'a')).size(), 33u);
  EXPECT_NE(text_key(std::string(481, 'a')), text_key(std::string(482, 'a')));
  EXPECT_EQ(text_key("").size(), 33u);
  EXPECT_NE(text_key(as_text(text_key(""))), text_key(""));
}

TEST(PageToken, IsADecimalRowNumber) {
  EXPECT_EQ(*parse_page_token(""), 0u);
  EXPECT_EQ(*parse_page_token("17"), 17u);
  for (const char* bad : {"x", "-1", "1x", " 1", "18446744073709551616", "0x10"}) {
    auto token = parse_page_token(bad);
    ASSERT_FALSE(token.has_value()) << bad;
    EXPECT_EQ(token.error().message, "could not parse token \"" + std::string(bad) + "\"");
  }
}

TEST(Entries, ARowHoldsEveryField) {
  auto entry = decode_entry(encode_entry(full_entry()));
  ASSERT_TRUE(entry.has_value());
  EXPECT_EQ(entry->id, "full");
  EXPECT_EQ(entry->spiffe_id.text(), "spiffe://example.org/web");
  EXPECT_EQ(entry->parent_id.text(), "spiffe://example.org/spire/agent/join_token/abc");
  EXPECT_EQ(entry->selectors, full_entry().selectors);
  EXPECT_EQ(entry->x509_svid_ttl, 3600);
  EXPECT_EQ(entry->jwt_svid_ttl, -1);
  EXPECT_THAT(entry->federates_with, ElementsAre("other.org", "third.org"));
  EXPECT_TRUE(entry->admin && entry->downstream && entry->store_svid);
  EXPECT_EQ(entry->expires_at, 1'900'000'000);
  EXPECT_THAT(entry->dns_names, ElementsAre("web", "web.example.org"));
  EXPECT_EQ(entry->revision_number, 7);
  EXPECT_EQ(entry->hint, "internal");
  EXPECT_EQ(entry->created_at, 1'800'000'000);
  EXPECT_TRUE(entry->has_additional_attributes && entry->disable_x509_svid_prefetch && entry->jwt_svid_include_jti);
}

TEST(Entries, TheKeyOfSimilarEntriesTellsApartWhatItMust) {
  const Entry base = make_entry("a");
  EXPECT_EQ(entry_key(base), entry_key(make_entry("b")));
  Entry other = base;
  other.hint = "h";
  EXPECT_EQ(entry_key(base), entry_key(other));
  EXPECT_NE(entry_key(base), entry_key(make_entry("a", "/db")));
  other = base;
  other.selectors.pop_back();
  EXPECT_NE(entry_key(base), entry_key(other));
  other = base;
  std::swap(other.spiffe_id, other.parent_id);
  EXPECT_NE(entry_key(base), entry_key(other));
  Entry left = base, right = base;
  left.selectors = {{"a", "bc"}};
  right.selectors = {{"ab", "c"}};
  EXPECT_NE(entry_key(left), entry_key(right));
  // whose paths are alike for longer than the key shows them
  const std::string path = "/" + std::string(500, 'p');
  EXPECT_NE(entry_key(make_entry("a", path + "1")), entry_key(make_entry("a", path + "2")));
  EXPECT_LE(entry_key(make_entry("a", path)).size(), 511u);
}

TEST(Entries, NewIdsGrowEvenWhenTheClockStandsOrGoesBack) {
  Rig rig;
  rig.open();
  EntryTable table(rig.store->read());
  std::string last;
  for (const int64_t now : {1'800'000'000, 1'800'000'000, 1'800'000'001, 1'700'000'000, -1, 1'800'000'001}) {
    const std::string id = table.new_id(now);
    EXPECT_LT(last, id);
    last = id;
  }
  last.clear();
  EntryTable busy(rig.store->read());
  for (int i = 0; i < 70'000; ++i) {  // more than a second has numbers
    const std::string id = busy.new_id(1'800'000'000);
    ASSERT_LT(last, id);
    last = id;
  }
}

struct EntryRig : Rig {
  EntryRig() {
    open();
    table.emplace(store->read());
  }
  Result<uint64_t> create(const Entry& entry) {
    ChangeSet set;
    table->create(set, entry);
    return commit(std::move(set));
  }
  void reopen() {
    open();
    table.emplace(store->read());
  }
  std::optional<EntryTable> table;
};

TEST(Entries, AnEntryIsFoundByIdBySimilarityAndInItsPage) {
  EntryRig rig;
  ASSERT_TRUE(rig.create(make_entry("a", "/1")).has_value());
  ASSERT_TRUE(rig.create(make_entry("b", "/2")).has_value());
  ASSERT_TRUE(rig.create(make_entry("c", "/3")).has_value());
  Snapshot snapshot = rig.store->read();
  EXPECT_EQ(find_entry(snapshot, "b")->row, 2u);
  EXPECT_EQ(find_entry(snapshot, "none").error().message, "entry not found");
  EXPECT_EQ(find_entry(snapshot, "").error().code, Code::not_found);
  auto similar = find_similar_entry(snapshot, make_entry("new", "/3"));
  ASSERT_TRUE(similar.has_value() && similar->has_value());
  EXPECT_EQ((*similar)->entry.id, "c");
  EXPECT_FALSE(find_similar_entry(snapshot, make_entry("new", "/4"))->has_value());
  auto ids = [&snapshot](uint64_t after, size_t limit) {
    std::vector<std::string> found;
    auto rows = list_entries(snapshot, after, limit);
    for (const EntryRow& row : *rows) found.push_back(row.entry.id);
    return found;
  };
  EXPECT_THAT(ids(0, 2), ElementsAre("a", "b"));
  EXPECT_THAT(ids(2, 2), ElementsAre("c"));
  EXPECT_THAT(ids(3, 2), ElementsAre());
  EXPECT_THAT(ids(UINT64_MAX, 2), ElementsAre());
}

TEST(Entries, TheSameIdOrASimilarEntryIsRefused) {
  EntryRig rig;
  ASSERT_TRUE(rig.create(make_entry("a", "/1")).has_value());
  EXPECT_EQ(rig.create(make_entry("a", "/2")).error().code, Code::aborted);
  EXPECT_EQ(rig.create(make_entry("b", "/1")).error().code, Code::aborted);
  ASSERT_TRUE(rig.create(make_entry("b", "/2")).has_value());
  EXPECT_EQ(rig.store->read().count(TableId::entries), 2u);
}

TEST(Entries, AnUpdateMovesTheIndexAndMeetsOnlyTheRowItRead) {
  EntryRig rig;
  ASSERT_TRUE(rig.create(make_entry("a", "/1")).has_value());
  ASSERT_TRUE(rig.create(make_entry("b", "/2")).has_value());
  const EntryRow old = *find_entry(rig.store->read(), "a");
  auto update = [&rig, &old](const Entry& entry) {
    ChangeSet set;
    EntryTable::update(set, old, entry);
    return rig.commit(std::move(set));
  };
  EXPECT_EQ(update(make_entry("a", "/2")).error().code, Code::aborted) << "b has it";
  ASSERT_TRUE(update(make_entry("a", "/9")).has_value());
  EXPECT_EQ(update(make_entry("a", "/8")).error().code, Code::aborted) << "it is no longer what was read";
  Snapshot snapshot = rig.store->read();
  EXPECT_EQ(find_entry(snapshot, "a")->entry.spiffe_id.path(), "/9");
  EXPECT_FALSE(find_similar_entry(snapshot, make_entry("", "/1"))->has_value());
  EXPECT_EQ((*find_similar_entry(snapshot, make_entry("", "/9")))->row, 1u);
}

TEST(Entries, ARemovedEntryLeavesNothingAndItsRowIsNotUsedAgain) {
  EntryRig rig;
  ASSERT_TRUE(rig.create(make_entry("a", "/1")).has_value());
  const EntryRow row = *find_entry(rig.store->read(), "a");
  ChangeSet set, again;
  EntryTable::remove(set, row);
  EntryTable::remove(again, row);
  ASSERT_TRUE(rig.commit(std::move(set)).has_value());
  EXPECT_EQ(rig.commit(std::move(again)).error().code, Code::aborted);
  for (TableId table : {TableId::entries, TableId::entry_ids, TableId::entry_keys})
    EXPECT_EQ(rig.store->read().count(table), 0u);
  rig.reopen();
  ASSERT_TRUE(rig.create(make_entry("a", "/1")).has_value());
  EXPECT_GT(find_entry(rig.store->read(), "a")->row, row.row);
}

TEST(Entries, RowsGrowAcrossBlocksAndRestartsEvenWhenTheReservationWasLost) {
  EntryRig rig;
  ChangeSet lost;
  rig.table->create(lost, make_entry("lost", "/lost"));  // carries the first reservation and is never committed
  ASSERT_TRUE(rig.create(make_entry("a", "/a")).has_value());
  const uint64_t first = find_entry(rig.store->read(), "a")->row;
  EXPECT_EQ(first, 2u);
  rig.reopen();
  ASSERT_TRUE(rig.create(make_entry("b", "/b")).has_value());
  EXPECT_EQ(find_entry(rig.store->read(), "b")->row, 3u);
  ChangeSet many;
  for (int i = 0; i < 3000; ++i) rig.table->create(many, make_entry("m" + std::to_string(i), "/m" + std::to_string(i)));
  ASSERT_TRUE(rig.commit(std::move(many)).has_value());
  const uint64_t last = find_entry(rig.store->read(), "m2999")->row;
  EXPECT_EQ(last, 3003u);
  rig.reopen();
  ASSERT_TRUE(rig.create(make_entry("z", "/z")).has_value());
  EXPECT_GT(find_entry(rig.store->read(), "z")->row, last);
}

TEST(Agents, AnAgentIsCreatedRenewedBannedAndEvicted) {
  Rig rig;
  rig.open();
  AgentTable table(rig.store->read());
  const std::string id = "spiffe://example.org/spire/agent/join_token/" + std::string(1900, 'x');
  const AgentRecord agent{id, "join_token", "123", 100, "456", 200, {{"t", "a"}, {"t", "b"}}, true, "1.15.3"};
  ChangeSet create, twice;
  table.create(create, agent);
  table.create(twice, agent);
  ASSERT_TRUE(rig.commit(std::move(create)).has_value());
  EXPECT_EQ(rig.commit(std::move(twice)).error().code, Code::aborted);
  AgentRow row = *find_agent(rig.store->read(), id);
  EXPECT_EQ(row.agent, agent);
  EXPECT_FALSE(row.agent.banned());
  AgentRecord banned = agent;
  banned.serial = banned.new_serial = "";
  ChangeSet ban, stale, evict;
  AgentTable::update(ban, row, banned);
  AgentTable::update(stale, row, agent);
  ASSERT_TRUE(rig.commit(std::move(ban)).has_value());
  EXPECT_EQ(rig.commit(std::move(stale)).error().code, Code::aborted);
  row = *find_agent(rig.store->read(), id);
  EXPECT_TRUE(row.agent.banned());
  std::vector<uint64_t> rows;
  auto keep = [&rows](AgentRow&& seen) {
    rows.push_back(seen.row);
    return true;
  };
  ASSERT_TRUE(scan_agents(rig.store->read(), 0, keep).has_value());
  EXPECT_THAT(rows, ElementsAre(row.row));
  AgentTable::remove(evict, row);
  ASSERT_TRUE(rig.commit(std::move(evict)).has_value());
  EXPECT_EQ(find_agent(rig.store->read(), id).error().message, "agent not found");
  EXPECT_EQ(rig.store->read().count(TableId::agents), 0u);
}

TEST(Enrollments, ADeviceIsEnrolledOnceUnderItsAttestorAndListedInPages) {
  Rig rig;
  rig.open();
  const Enrollment first{"tpm", "aa", "rack 7", 5};
  for (const Enrollment& one : {Enrollment{"tpm", "bb", "", 6}, first, Enrollment{"x509", "aa", "", 7}}) {
    ChangeSet changes;
    create_enrollment(changes, one);
    ASSERT_TRUE(rig.commit(std::move(changes)).has_value());
  }
  ChangeSet again, remove, remove_again;
  create_enrollment(again, first);
  EXPECT_EQ(rig.commit(std::move(again)).error().code, Code::aborted);
  EXPECT_EQ(*find_enrollment(rig.store->read(), "tpm", "aa"), first);
  EXPECT_EQ(find_enrollment(rig.store->read(), "x509", "bb").error().message, "device not enrolled");
  std::string seen;
  const auto keep = [&seen](Enrollment&& row) {
    seen += row.attestor + ":" + row.identifier + " ";
    return true;
  };
  ASSERT_TRUE(scan_enrollments(rig.store->read(), {}, keep).has_value());
  EXPECT_EQ(seen, "tpm:aa tpm:bb x509:aa ");
  seen.clear();
  ASSERT_TRUE(scan_enrollments(rig.store->read(), enrollment_key("tpm", "aa"), keep).has_value());
  EXPECT_EQ(seen, "tpm:bb x509:aa ");
  remove_enrollment(remove, "tpm", "aa");
  remove_enrollment(remove_again, "tpm", "aa");
  ASSERT_TRUE(rig.commit(std::move(remove)).has_value());
  EXPECT_EQ(rig.commit(std::move(remove_again)).error().code, Code::aborted);
  EXPECT_EQ(rig.store->read().count(TableId::enrollments), 2u);
}

TEST(JoinTokens, ATokenIsTakenOnce) {
  Rig rig;
  rig.open();
  const JoinToken token{"abc", 1'900'000'000, "spiffe://example.org/edge"};
  ChangeSet create, twice, take, again;
  create_join_token(create, token);
  create_join_token(twice, token);
  take_join_token(take, "abc");
  take_join_token(again, "abc");
  ASSERT_TRUE(rig.commit(std::move(create)).has_value());
  EXPECT_EQ(rig.commit(std::move(twice)).error().code, Code::aborted);
  EXPECT_EQ(*find_join_token(rig.store->read(), "abc"), token);
  ASSERT_TRUE(rig.commit(std::move(take)).has_value());
  EXPECT_EQ(rig.commit(std::move(again)).error().code, Code::aborted);
  EXPECT_EQ(find_join_token(rig.store->read(), "abc").error().message, "join token not found");
}

Bundle make_bundle(const std::string& trust_domain, size_t certificate_bytes = 500) {
  Bundle bundle;
  bundle.trust_domain = *TrustDomain::parse(trust_domain);
  bundle.x509_authorities = {{Bytes(certificate_bytes, 0x30), false}, {Bytes(10, 0x31), true}};
  bundle.jwt_authorities = {{"kid", Bytes(91, 0x30), 1'900'000'000, true}};
  bundle.refresh_hint = 300;
  bundle.sequence_number = UINT64_MAX;
  return bundle;
}

TEST(Bundles, ABundleIsReplacedListedAndRemoved) {
  Rig rig;
  rig.open();
  Bundle bundle = make_bundle("example.org", 200'000);
  ChangeSet put;
  put_bundle(put, bundle);
  put_bundle(put, make_bundle("other.org"));
  ASSERT_TRUE(rig.commit(std::move(put)).has_value());
  EXPECT_EQ(*find_bundle(rig.store->read(), bundle.trust_domain), bundle);
  Bundle later = bundle;
  later.x509_authorities.pop_back();
  ChangeSet update, stale, remove;
  update_bundle(update, bundle, later);
  update_bundle(stale, bundle, bundle);
  ASSERT_TRUE(rig.commit(std::move(update)).has_value());
  EXPECT_EQ(rig.commit(std::move(stale)).error().code, Code::aborted);
  auto names = [&rig](std::string_view after) {
    std::vector<std::string> found;
    auto keep = [&found](Bundle&& seen) {
      found.push_back(seen.trust_domain.name());
      return true;
    };
    EXPECT_TRUE(scan_bundles(rig.store->read(), after, keep).has_value());
    return found;
  };
  EXPECT_THAT(names(""), ElementsAre("example.org", "other.org"));
  EXPECT_THAT(names("example.org"), ElementsAre("other.org"));
  remove_bundle(remove, bundle.trust_domain);
  ASSERT_TRUE(rig.commit(std::move(remove)).has_value());
  EXPECT_THAT(find_bundle(rig.store->read(), bundle.trust_domain).error().message,
              HasSubstr("\"example.org\" not found"));
}

TEST(Federation, ARelationshipIsCreatedChangedListedAndRemoved) {
  Rig rig;
  rig.open();
  const FederationRelationship web{*TrustDomain::parse("a.org"), "https://a.org/", BundleProfile::https_web, {}};
  const FederationRelationship spiffe{*TrustDomain::parse("b.org"), "https://b.org/", BundleProfile::https_spiffe,
                                      *SpiffeId::parse("spiffe://b.org/spire/server")};
  auto create = [](const FederationRelationship& relationship) {
    ChangeSet changes;
    create_relationship(changes, relationship);
    return changes;
  };
  ASSERT_TRUE(rig.commit(create(web)).has_value());
  ASSERT_TRUE(rig.commit(create(spiffe)).has_value());
  EXPECT_EQ(rig.commit(create(web)).error().code, Code::aborted);
  EXPECT_EQ(*find_relationship(rig.store->read(), spiffe.trust_domain), spiffe);
  FederationRelationship moved = web;
  moved.url = "https://elsewhere/";
  ChangeSet update, stale, remove, again;
  update_relationship(update, web, moved);
  update_relationship(stale, web, web);
  ASSERT_TRUE(rig.commit(std::move(update)).has_value());
  EXPECT_EQ(rig.commit(std::move(stale)).error().code, Code::aborted);
  rig.open();
  std::vector<std::string> urls;
  auto keep = [&urls](FederationRelationship&& seen) {
    urls.push_back(seen.url);
    return true;
  };
  ASSERT_TRUE(scan_relationships(rig.store->read(), "", keep).has_value());
  ASSERT_TRUE(scan_relationships(rig.store->read(), "a.org", keep).has_value());
  EXPECT_THAT(urls, ElementsAre("https://elsewhere/", "https://b.org/", "https://b.org/"));
  remove_relationship(remove, web.trust_domain);
  remove_relationship(again, web.trust_domain);
  ASSERT_TRUE(rig.commit(std::move(remove)).has_value());
  EXPECT_EQ(rig.commit(std::move(again)).error().code, Code::aborted);
  EXPECT_EQ(find_relationship(rig.store->read(), web.trust_domain).error().code, Code::not_found);
}

TEST(Federation, ARowThatCannotBeFollowedIsDataLoss) {
  FederationRelationship relationship{*TrustDomain::parse("a.org"), "https://a.org/", BundleProfile::https_web, {}};
  relationship.profile = static_cast<BundleProfile>(7);
  EXPECT_EQ(decode_relationship(encode_relationship(relationship)).error().code, Code::data_loss);
  EXPECT_FALSE(decode_relationship(Bytes{0x0a, 0xff}).has_value());
  EXPECT_FALSE(decode_relationship({}).has_value());
}

TEST(Journal, IsEmptyAtFirstAndKeptWhole) {
  Rig rig;
  rig.open();
  EXPECT_EQ(*read_journal(rig.store->read()), Journal{});
  Journal journal;
  journal.x509_cas = {{"A", 1, 2, Bytes(100, 1), {Bytes(10, 2), Bytes(11, 3)}, AuthorityStatus::active, "aa", "bb"},
                      {"B", 3, 4, Bytes(100, 4), {}, AuthorityStatus::prepared, "cc", ""}};
  journal.jwt_keys = {{"A", 1, 2, "kid", Bytes(91, 5), AuthorityStatus::old, "dd"}};
  ChangeSet set;
  put_journal(set, journal);
  ASSERT_TRUE(rig.commit(std::move(set)).has_value());
  rig.open();
  EXPECT_EQ(*read_journal(rig.store->read()), journal);
}

TEST(AgentState, EverythingKeptIsReadBack) {
  Rig rig;
  rig.open();
  EXPECT_FALSE(read_agent_svid(rig.store->read())->has_value());
  EXPECT_FALSE(read_agent_bundle(rig.store->read())->has_value());
  EXPECT_EQ(*read_agent_time(rig.store->read()), 0);
  EXPECT_FALSE(read_agent_blob(rig.store->read(), "svid")->has_value());
  const AgentSvid svid{{Bytes(300, 1), Bytes(200, 2)}, "agent-svid-A", true};
  ChangeSet set;
  put_agent_svid(set, svid);
  put_agent_bundle(set, make_bundle("example.org"));
  put_agent_time(set, 1'800'000'000);
  put_agent_blob(set, "svid", as_bytes("not the SVID"));
  ASSERT_TRUE(rig.commit(std::move(set)).has_value());
  rig.open();
  EXPECT_EQ(**read_agent_svid(rig.store->read()), svid);
  EXPECT_EQ(**read_agent_bundle(rig.store->read()), make_bundle("example.org"));
  EXPECT_EQ(*read_agent_time(rig.store->read()), 1'800'000'000);
  EXPECT_EQ(as_text(**read_agent_blob(rig.store->read(), "svid")), "not the SVID");
  ChangeSet gone;
  remove_agent_svid(gone);
  remove_agent_blob(gone, "svid");
  ASSERT_TRUE(rig.commit(std::move(gone)).has_value());
  EXPECT_FALSE(read_agent_svid(rig.store->read())->has_value());
  EXPECT_FALSE(read_agent_blob(rig.store->read(), "svid")->has_value());
}

}  // namespace
}  // namespace limpet
