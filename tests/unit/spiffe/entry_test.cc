// SPDX-License-Identifier: Apache-2.0
#include "spiffe/entry.h"

#include <gtest/gtest.h>

#include <functional>

namespace limpet {
namespace {

const TrustDomain kTd = *TrustDomain::parse("example.org");

Entry good_entry() {
  Entry out;
  out.id = "web-1";
  out.spiffe_id = *SpiffeId::parse("spiffe://example.org/web");
  out.parent_id = *SpiffeId::parse("spiffe://example.org/spire/agent/join_token/x");
  out.selectors = make_selector_set({{"unix", "uid:1000"}});
  return out;
}

TEST(CheckEntry, RefusesWhatSpireRefusesInItsWords) {
  const struct {
    std::function<void(Entry&)> change;
    const char* says;
  } kCases[] = {
      {[](Entry& e) { e.parent_id = {}; }, "invalid parent ID: request must specify SPIFFE ID"},
      {[](Entry& e) { e.parent_id = *SpiffeId::parse("spiffe://other.org/x"); },
       "invalid parent ID: \"spiffe://other.org/x\" is not a member of trust domain \"example.org\""},
      {[](Entry& e) { e.parent_id = *SpiffeId::parse("spiffe://example.org"); },
       "invalid parent ID: \"spiffe://example.org\" is not a member of trust domain \"example.org\"; path is empty"},
      {[](Entry& e) { e.spiffe_id = {}; }, "invalid spiffe ID: request must specify SPIFFE ID"},
      {[](Entry& e) { e.spiffe_id = *SpiffeId::parse("spiffe://other.org/db"); },
       "invalid spiffe ID: \"spiffe://other.org/db\" is not a member of trust domain \"example.org\""},
      {[](Entry& e) { e.spiffe_id = *SpiffeId::parse("spiffe://example.org"); },
       "invalid spiffe ID: \"spiffe://example.org\" is not a workload in trust domain \"example.org\"; path is empty"},
      {[](Entry& e) { e.spiffe_id = *SpiffeId::parse("spiffe://example.org/spire"); },
       "invalid spiffe ID: \"spiffe://example.org/spire\" is not a workload in trust domain \"example.org\"; path is "
       "in the reserved namespace"},
      {[](Entry& e) { e.spiffe_id = *SpiffeId::parse("spiffe://example.org/spire/server"); },
       "invalid spiffe ID: \"spiffe://example.org/spire/server\" is not a workload in trust domain \"example.org\"; "
       "path is in the reserved namespace"},
      {[](Entry& e) { e.selectors.clear(); }, "selector list is empty"},
      {[](Entry& e) { e.selectors = {{"", "x"}}; }, "missing selector type"},
      {[](Entry& e) { e.selectors = {{"unix:uid", "1"}}; }, "selector type contains ':'"},
      {[](Entry& e) { e.selectors = {{"unix", ""}}; }, "missing selector value"},
      {[](Entry& e) { e.dns_names = {"a.b", "-a"}; }, "invalid DNS name: idna error\nidna: invalid label \"-a\""},
      {[](Entry& e) { e.federates_with = {"Bad"}; },
       "invalid federated trust domain: trust domain characters are limited to lowercase letters, numbers, dots, "
       "dashes, and underscores"},
      {[](Entry& e) { e.hint = std::string(1025, 'h'); }, "hint is too long, max length is 1024 characters"},
      {[](Entry& e) { e.id = std::string(256, 'x'); }, "invalid registration entry: entry ID too long"},
      {[](Entry& e) { e.id = "a b"; }, "invalid registration entry: entry ID contains invalid characters"},
      {[](Entry& e) { e.x509_svid_ttl = -1; }, "invalid registration entry: X509SvidTtl must not be negative"},
      {[](Entry& e) { e.jwt_svid_ttl = -1; }, "invalid registration entry: JwtSvidTtl must not be negative"},
      {[](Entry& e) {
         e.store_svid = true;
         e.selectors = {{"a", "1"}, {"b", "1"}};
       },
       "invalid registration entry: selector types must be the same when store SVID is enabled"},
      {[](Entry& e) { e.store_svid = e.disable_x509_svid_prefetch = true; },
       "invalid registration entry: store_svid and disable_x509_svid_prefetch exclude each other"},
  };
  for (const auto& c : kCases) {
    Entry entry = good_entry();
    c.change(entry);
    const auto checked = check_entry(entry, kTd);
    ASSERT_FALSE(checked.has_value()) << c.says;
    EXPECT_EQ(checked.error().message, c.says);
    EXPECT_EQ(checked.error().code, Code::invalid_argument);
  }
}

TEST(CheckEntry, TakesWhatSpireTakes) {
  const std::function<void(Entry&)> kCases[] = {
      [](Entry&) {},
      [](Entry& e) { e.parent_id = *SpiffeId::parse("spiffe://example.org/spire/server"); },
      [](Entry& e) { e.spiffe_id = *SpiffeId::parse("spiffe://example.org/spirex"); },
      [](Entry& e) { e.spiffe_id = *SpiffeId::parse("spiffe://example.org/a/spire/server"); },
      [](Entry& e) { e.id.clear(); },
      [](Entry& e) { e.id = std::string(255, 'Z'); },
      [](Entry& e) { e.hint = std::string(1024, 'h'); },
      [](Entry& e) { e.x509_svid_ttl = INT32_MAX; },
      [](Entry& e) { e.dns_names = {"web.local", "*.web.local", "Web_1.local", "localhost"}; },
      [](Entry& e) { e.federates_with = {"other.org"}; },
      [](Entry& e) { e.selectors = make_selector_set({{"unix", "path:/usr/bin/a b:c"}, {"k8s", "x"}}); },
  };
  for (const auto& change : kCases) {
    Entry entry = good_entry();
    change(entry);
    const auto checked = check_entry(entry, kTd);
    EXPECT_TRUE(checked.has_value()) << checked.error().message;
  }
}

TEST(CheckDnsName, FollowsSpiresLabelRules) {
  const struct {
    std::string name;
    const char* says;
  } kCases[] = {
      {"", "empty domain"},
      {"  ", "empty domain"},
      {"*.", "empty domain"},
      {"a.", "domain ends with dot"},
      {".", "domain ends with dot"},
      {"*.*.a", "too many wildcards"},
      {"a.*.b", "wildcard must be first label"},
      {"*a.b", "wildcard must be first label"},
      {"*", "wildcard must be first label"},
      {"xn--bcher-kva.de", "no punycode domain"},
      {"a..b", "idna error"},
      {".a", "idna error"},
      {"a-.b", "idna error"},
      {"ab--c.d", "idna error"},
      {"b\xc3\xbc.de", "idna error"},
      {"a b.c", "idna error"},
      {std::string("a\0b", 3), "idna error"},
      {std::string(64, 'a') + ".b", "idna error"},
      {std::string(127, 'a').replace(60, 1, ".") + "." + std::string(63, 'b') + "." + std::string(63, 'c') + "." +
           std::string(10, 'd'),
       "idna error"},
  };
  for (const auto& c : kCases) {
    const auto checked = check_dns_name(c.name);
    ASSERT_FALSE(checked.has_value()) << c.name;
    EXPECT_TRUE(checked.error().message.starts_with(c.says)) << c.name << ": " << checked.error().message;
  }
  for (const char* good : {"a", "web.local", "*.web.local", "a-b.c", "1.2.3.4", "A.b", "_x.y"})
    EXPECT_TRUE(check_dns_name(good).has_value()) << good;
  EXPECT_TRUE(check_dns_name(std::string(63, 'a') + ".b").has_value());
}

TEST(Selector, IsTypeColonValue) {
  EXPECT_EQ(*Selector::parse("unix:uid:1000"), (Selector{"unix", "uid:1000"}));
  EXPECT_EQ(Selector::parse("unix:uid:1000")->text(), "unix:uid:1000");
  EXPECT_EQ(*Selector::parse("a:"), (Selector{"a", ""}));
  EXPECT_EQ(Selector::parse("nocolon").error().message, "selector \"nocolon\" must be formatted as type:value");
  EXPECT_EQ(Selector::parse("").error().message, "selector \"\" must be formatted as type:value");
}

TEST(Selector, SetsAreSortedAndUnique) {
  const SelectorSet set = make_selector_set({{"b", "1"}, {"a", "2"}, {"b", "1"}, {"a", "10"}});
  EXPECT_EQ(set, (SelectorSet{{"a", "10"}, {"a", "2"}, {"b", "1"}}));
  EXPECT_TRUE(is_subset({}, set));
  EXPECT_TRUE(is_subset({{"a", "2"}, {"b", "1"}}, set));
  EXPECT_FALSE(is_subset({{"a", "2"}, {"b", "2"}}, set));
  EXPECT_FALSE(is_subset(set, {{"a", "2"}}));
}

TEST(Matches, FollowsTheTableOfTheFourBehaviours) {
  using enum MatchBehavior;
  const auto names = [](const char* letters) {
    std::vector<std::string> out;
    for (; *letters != '\0'; ++letters) out.emplace_back(1, *letters);
    return out;
  };
  const auto selectors = [&names](const char* letters) {
    std::vector<Selector> out;
    for (const auto& name : names(letters)) out.push_back({"t", name});
    return make_selector_set(out);
  };
  const struct {
    const char* have;
    const char* given;
    bool exact, subset, superset, any;
  } kCases[] = {
      {"ab", "ab", true, true, true, true},      {"ab", "ba", true, true, true, true},
      {"a", "ab", false, true, false, true},     {"ab", "a", false, false, true, true},
      {"ab", "bc", false, false, false, true},   {"ab", "cd", false, false, false, false},
      {"", "a", false, true, false, false},      {"aab", "ab", true, true, true, true},
      {"ace", "bd", false, false, false, false}, {"abc", "c", false, false, true, true},
  };
  for (const auto& c : kCases) {
    const std::string what = std::string(c.have) + " / " + c.given;
    for (const auto& [behavior, expected] :
         {std::pair{exact, c.exact}, {subset, c.subset}, {superset, c.superset}, {any, c.any}}) {
      EXPECT_EQ(matches(behavior, selectors(c.have), selectors(c.given)), expected)
          << what << static_cast<int>(behavior);
      EXPECT_EQ(matches_names(behavior, names(c.have), names(c.given)), expected) << what << static_cast<int>(behavior);
    }
  }
  EXPECT_FALSE(matches(MatchBehavior{7}, selectors("a"), selectors("a")));
}

}  // namespace
}  // namespace limpet
