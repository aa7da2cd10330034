// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "cli/entry_data.h"
#include "cli/output.h"

namespace limpet::cli {
namespace {

// The entries of a file with this content; errors without the file's own name.
Result<std::vector<EntryMessage>> read(const std::string& content) {
  char path[] = "/tmp/limpet-entries-XXXXXX";
  const int fd = ::mkstemp(path);
  EXPECT_GE(fd, 0);
  ::close(fd);
  EXPECT_TRUE(write_file(path, content, 0600));
  auto entries = entries_from_file(path);
  ::unlink(path);
  if (entries) return entries;
  Error error = entries.error();
  EXPECT_TRUE(error.message.starts_with(std::string(path) + ": ")) << error.message;
  error.message.erase(0, sizeof path + 1);
  return fail(error);
}

Result<std::vector<EntryMessage>> read_second(const std::string& members) {
  const std::string ids = R"("parent_id":"spiffe://a.b/p","spiffe_id":"spiffe://a.b/w")";
  return read(R"({"entries":[{)" + ids + "},{" + ids + (members.empty() ? "" : ",") + members + "}]}");
}

TEST(EntryFile, RefusesWrongTypesAndUnknownKeysNamingEntryAndKey) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("x509_svid_ttl":"300")", "x509_svid_ttl: a whole number is expected, without quotes"},
      {R"("x509_svid_ttl":300.5)", "x509_svid_ttl: a whole number is expected, without quotes"},
      {R"("x509_svid_ttl":-1)", "x509_svid_ttl: 0 to 2147483647 seconds are possible"},
      {R"("jwt_svid_ttl":4294967297)", "jwt_svid_ttl: 0 to 2147483647 seconds are possible"},
      {R"("entryExpiry":"5")", "entryExpiry: a whole number is expected, without quotes"},
      {R"("entryExpiry":18446744073709551615)", "entryExpiry: the number is too large"},
      {R"("admin":"true")", "admin: true or false is expected, without quotes"},
      {R"("downstream":1)", "downstream: true or false is expected, without quotes"},
      {R"("hint":1)", "hint: a text is expected"},
      {R"("dns_names":"a")", "dns_names: a list is expected"},
      {R"("dns_names":["a",1])", "dns_names: 1: a text is expected"},
      {R"("federates_with":[null])", "federates_with: 0: a text is expected"},
      {R"("selectors":["unix:uid:1"])", "selectors: 0: an object is expected"},
      {R"("selectors":[{"type":"unix","value":1}])", "selectors: 0: value: a text is expected"},
      {R"("selectors":[{"typ":"unix"}])", "selectors: 0: unknown key \"typ\""},
      {R"("ttl":300)", "unknown key \"ttl\""},
      {R"("spiffe_id":"web")", "spiffe_id: scheme is missing or invalid"},
  };
  for (const auto& [members, text] : cases) {
    const auto entries = read_second(members);
    ASSERT_FALSE(entries) << members;
    EXPECT_EQ(entries.error().code, Code::invalid_argument);
    EXPECT_EQ(entries.error().message, std::string("entry 1: ") + text);
  }
}

TEST(EntryFile, NeedsBothIds) {
  EXPECT_EQ(read(R"({"entries":[{"parent_id":"spiffe://a.b/p"}]})").error().message, "entry 0: spiffe_id is missing");
  EXPECT_EQ(read(R"({"entries":[{"spiffe_id":"spiffe://a.b/p"}]})").error().message, "entry 0: parent_id is missing");
  EXPECT_EQ(read(R"({"entries":[1]})").error().message, "entry 0: an object is expected");
  EXPECT_EQ(read("{}").error().message, "no list named \"entries\"");
}

TEST(EntryFile, TakesSpiresKeysInAnyCaseAndNullForAbsent) {
  const auto entries =
      read_second(R"("selectors":[{"type":"unix","value":"uid:1"}],"x509_svid_ttl":300,"jwt_svid_ttl":60,)"
                  R"("federates_with":["c.d"],"entry_id":"e","admin":true,"Downstream":true,"entryExpiry":4000000000,)"
                  R"("dns_names":["w"],"store_svid":true,"hint":null,"revision_number":3,"created_at":5)");
  ASSERT_TRUE(entries) << entries.error().message;
  ASSERT_EQ(entries->size(), 2u);
  const auto& entry = *(*entries)[1];
  EXPECT_EQ(entry.expires_at, 4'000'000'000);
  EXPECT_EQ(entry.x509_svid_ttl, 300);
  EXPECT_EQ(entry.jwt_svid_ttl, 60);
  EXPECT_EQ(wire::view(entry.id), "e");
  EXPECT_TRUE(entry.admin && entry.downstream && entry.store_svid);
  EXPECT_EQ(wire::view(entry.hint), "");
  ASSERT_EQ(entry.selectors_count, 1);
  EXPECT_EQ(wire::view(entry.selectors[0].value), "uid:1");
  EXPECT_EQ(entry.dns_names_count, 1);
  EXPECT_EQ(entry.federates_with_count, 1);
  EXPECT_EQ(entry.revision_number, 0);
  const auto older = read_second(R"("entry_expiry":7)");
  ASSERT_TRUE(older);
  EXPECT_EQ((*(*older)[1]).expires_at, 7);
}

TEST(EntryFile, KnowsTheAdditionalAttributes) {
  const auto entries = read_second(R"("additional_attributes":{"jwt_svid_include_jti":true})");
  ASSERT_TRUE(entries) << entries.error().message;
  EXPECT_TRUE((*(*entries)[1]).has_additional_attributes);
  EXPECT_TRUE((*(*entries)[1]).additional_attributes.jwt_svid_include_jti);
  EXPECT_EQ(read_second(R"("additional_attributes":{"x":true})").error().message,
            "entry 1: additional_attributes: unknown key \"x\"");
}

}  // namespace
}  // namespace limpet::cli
