// SPDX-License-Identifier: Apache-2.0
// proto/store.proto says what a row looks like, the store writes rows by hand: here the generated code reads what the
// store wrote and writes it again, byte for byte the same. A field of another number or type would be lost or refused.

#include <gtest/gtest.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <proto/store.pb.h>

#include <cstring>

#include "store/agents.h"
#include "store/bundles.h"
#include "store/enrollments.h"
#include "store/entries.h"
#include "store/federation.h"
#include "store/join_tokens.h"
#include "store/journal.h"

namespace limpet {
namespace {

template <class T>
class Row {
 public:
  explicit Row(const Bytes& bytes) {
    std::memset(&value_, 0, sizeof value_);
    pb_istream_t in = pb_istream_from_buffer(bytes.data(), bytes.size());
    decoded_ = pb_decode(&in, fields(), &value_);
  }
  ~Row() { pb_release(fields(), &value_); }
  [[nodiscard]] bool decoded() const { return decoded_; }
  const T* operator->() const { return &value_; }
  [[nodiscard]] Bytes encode() const {
    Bytes out(65536);
    pb_ostream_t stream = pb_ostream_from_buffer(out.data(), out.size());
    if (!pb_encode(&stream, fields(), &value_)) return {};
    out.resize(stream.bytes_written);
    return out;
  }

 private:
  static const pb_msgdesc_t* fields() { return nanopb::MessageDescriptor<T>::fields(); }
  T value_;
  bool decoded_ = false;
};

template <class T>
void expect_same(const Bytes& bytes) {
  Row<T> row(bytes);
  ASSERT_TRUE(row.decoded());
  EXPECT_EQ(hex_encode(row.encode()), hex_encode(bytes));
}

TEST(StoreProto, AnEntryIsWhatTheFileSays) {
  Entry entry;
  entry.id = "id";
  entry.spiffe_id = *SpiffeId::parse("spiffe://example.org/web");
  entry.parent_id = *SpiffeId::parse("spiffe://example.org/parent");
  entry.selectors = {{"unix", "gid:1"}, {"unix", "uid:1"}};
  entry.x509_svid_ttl = 60;
  entry.jwt_svid_ttl = -1;
  entry.federates_with = {"a.org", "b.org"};
  entry.admin = entry.downstream = entry.store_svid = true;
  entry.expires_at = -5;
  entry.dns_names = {"x", "y"};
  entry.revision_number = 1'000'000'000'000;
  entry.hint = "h";
  entry.created_at = 12;
  entry.has_additional_attributes = entry.disable_x509_svid_prefetch = entry.jwt_svid_include_jti = true;
  expect_same<limpet_store_StoredEntry>(encode_entry(entry));
  Row<limpet_store_StoredEntry> row(encode_entry(entry));
  EXPECT_STREQ(row->spiffe_id, "spiffe://example.org/web");
  EXPECT_STREQ(row->parent_id, "spiffe://example.org/parent");
  EXPECT_STREQ(row->selectors[1].value, "uid:1");
  EXPECT_EQ(row->jwt_svid_ttl, -1);
  EXPECT_EQ(row->expires_at, -5);
  EXPECT_EQ(row->revision_number, 1'000'000'000'000);
  EXPECT_STREQ(row->dns_names[0], "x");
  EXPECT_STREQ(row->federates_with[1], "b.org");
}

TEST(StoreProto, AnAgentIsWhatTheFileSays) {
  const AgentRecord agent{"spiffe://example.org/a", "tpm", "1", 2, "3", 4, {{"t", "v"}}, true, "v1"};
  expect_same<limpet_store_StoredAgent>(encode_agent(agent));
  Row<limpet_store_StoredAgent> row(encode_agent(agent));
  EXPECT_STREQ(row->serial, "1");
  EXPECT_STREQ(row->new_serial, "3");
  EXPECT_EQ(row->new_not_after, 4);
}

TEST(StoreProto, AJoinTokenABundleAndAJournalAreWhatTheFileSays) {
  expect_same<limpet_store_StoredEnrollment>(encode_enrollment({"tpm", "ab01", "rack 7", 5}));
  expect_same<limpet_store_StoredJoinToken>(encode_join_token({"token", 5, "spiffe://example.org/alias"}));
  Bundle bundle;
  bundle.trust_domain = *TrustDomain::parse("example.org");
  bundle.x509_authorities = {{Bytes(3, 1), true}, {Bytes(4, 2), false}};
  bundle.jwt_authorities = {{"kid", Bytes(5, 3), 99, true}};
  bundle.refresh_hint = 300;
  bundle.sequence_number = UINT64_MAX;
  expect_same<limpet_store_StoredBundle>(encode_bundle(bundle));
  Row<limpet_store_StoredBundle> row(encode_bundle(bundle));
  EXPECT_EQ(row->sequence_number, UINT64_MAX);
  EXPECT_EQ(row->jwt_authorities[0].expires_at, 99);
  const FederationRelationship relationship{*TrustDomain::parse("a.org"), "https://a.org/", BundleProfile::https_spiffe,
                                            *SpiffeId::parse("spiffe://a.org/x")};
  expect_same<limpet_store_StoredFederation>(encode_relationship(relationship));
  Journal journal;
  journal.x509_cas = {{"A", 1, 2, Bytes(3, 4), {Bytes(5, 6), Bytes(7, 8)}, AuthorityStatus::active, "aa", "bb"}};
  journal.jwt_keys = {{"B", 1, 2, "kid", Bytes(3, 4), AuthorityStatus::prepared, "cc"}};
  expect_same<limpet_store_StoredJournal>(encode_journal(journal));
}

}  // namespace
}  // namespace limpet
