// SPDX-License-Identifier: Apache-2.0
#include "server/audit_fields.h"

#include <algorithm>
#include <iterator>

#include "crypto/key.h"
#include "store/codec.h"

namespace limpet::server {
namespace {

using enum AuditKind;
using Field = AuditField;

constexpr size_t kValueBytes = 4096;  // of one field; a log line is for people

// ---- messages of several methods ----
constexpr Field kEntry[] = {
    {1, "entry_id", text},
    {2, "spiffe_id", id},
    {3, "parent_id", id},
    {4, "selectors", selectors},
    {5, "x509_svid_ttl", number, {}, true},
    {6, "federates_with", texts},
    {7, "admin", flag, {}, true},
    {8, "downstream", flag, {}, true},
    {9, "expires_at", number, {}, true},
    {10, "dns_name", texts},
    {12, "store_svid", flag},
    {13, "jwt_svid_ttl", number, {}, true},
    {14, "hint", text},
};
// An update changes what its mask names; the others may hold anything.
constexpr Field kEntryUpdate[] = {
    {1, "entry_id", text},        {2, "spiffe_id", id},         {3, "parent_id", id},     {4, "selectors", selectors},
    {5, "x509_svid_ttl", number}, {6, "federates_with", texts}, {7, "admin", flag},       {8, "downstream", flag},
    {9, "expires_at", number},    {10, "dns_name", texts},      {12, "store_svid", flag}, {13, "jwt_svid_ttl", number},
    {14, "hint", text},
};
constexpr Field kEntryId[] = {{1, "entry_id", text}};
constexpr Field kEntryOfResult[] = {{2, "", message, kEntryId}};
constexpr Field kItemEntryId[] = {{0, "entry_id", text}};
constexpr Field kItemTrustDomain[] = {{0, "trust_domain_id", text}};
constexpr Field kTrustDomain[] = {{1, "trust_domain_id", text}};
constexpr Field kBundle[] = {
    {1, "trust_domain_id", text}, {4, "refresh_hint", number, {}, true}, {5, "sequence_number", number, {}, true}};
constexpr Field kEndpointId[] = {{1, "endpoint_spiffe_id", text}};
constexpr Field kRelationship[] = {
    {1, "trust_domain_id", text}, {2, "bundle_endpoint_url", text}, {4, "", message, kEndpointId}};
constexpr Field kAgentId[] = {{1, "spiffe_id", id}};
constexpr Field kWrapped[] = {{1, "by_banned", flag, {}, true}};
constexpr Field kWrappedReattest[] = {{1, "by_can_reattest", flag, {}, true}};
constexpr Field kMatch[] = {{1, "by_selectors", selectors}};
constexpr Field kAgentFilter[] = {{1, "node_attestor_type", text},
                                  {2, "", message, kMatch},
                                  {3, "", message, kWrapped},
                                  {4, "", message, kWrappedReattest}};
constexpr Field kListAgents[] = {{1, "", message, kAgentFilter}};
constexpr Field kFederatesMatch[] = {{1, "federates_with", texts}};
constexpr Field kWrappedHint[] = {{1, "hint", text}};
constexpr Field kWrappedDownstream[] = {{1, "downstream", flag, {}, true}};
constexpr Field kEntryFilter[] = {{1, "spiffe_id", id},           {2, "parent_id", id},
                                  {3, "", message, kMatch},       {4, "", message, kFederatesMatch},
                                  {5, "", message, kWrappedHint}, {6, "", message, kWrappedDownstream}};
constexpr Field kListEntries[] = {{1, "", message, kEntryFilter}};

// ---- attestation ----
constexpr Field kAttestationData[] = {{1, "node_attestor_type", text}};
constexpr Field kCsr[] = {{1, "csr", sha256}};
constexpr Field kAttestParams[] = {{1, "", message, kAttestationData}, {2, "", message, kCsr}};
constexpr Field kAttest[] = {{1, "", message, kAttestParams}};
constexpr Field kSvidAgent[] = {{2, "agent_id", id}, {3, "expires_at", number}};
constexpr Field kAttestResult[] = {{1, "", message, kSvidAgent}};
constexpr Field kAttested[] = {{1, "", message, kAttestResult}};
constexpr Field kRenew[] = {{1, "", message, kCsr}};
constexpr Field kRenewed[] = {{1, "", message, kSvidAgent}};
constexpr Field kJoinToken[] = {{1, "ttl", number, {}, true}, {3, "spiffe_id", id}};
constexpr Field kPostStatus[] = {{2, "agent_version", text}};

// ---- SVIDs ----
constexpr Field kSvid[] = {{2, "spiffe_id", id}, {3, "expires_at", number}};
constexpr Field kMinted[] = {{1, "", message, kSvid}};
constexpr Field kSigned[] = {{2, "", message, kSvid}};
constexpr Field kMintX509[] = {{1, "csr", sha256}, {2, "ttl", number, {}, true}};
constexpr Field kNewX509[] = {{1, "entry_id", text}, {2, "csr", sha256}};
constexpr Field kMintJwt[] = {{1, "spiffe_id", id}, {2, "audience", texts}, {3, "ttl", number, {}, true}};
constexpr Field kNewJwt[] = {{1, "entry_id", text}, {2, "audience", texts}};
constexpr Field kJwtKey[] = {{1, "jwt_authority_public_key_sha256", sha256},
                             {2, "jwt_authority_key_id", text},
                             {3, "jwt_authority_expires_at", number}};
constexpr Field kPublishJwt[] = {{1, "", message, kJwtKey}};

// ---- authorities and levels ----
constexpr Field kAuthority[] = {{1, "local_authority_id", text}};
constexpr Field kUpstream[] = {{1, "subject_key_id", text}};
constexpr Field kEnrollment[] = {{1, "attestor", text}, {2, "identifier", text}};
constexpr Field kLevel[] = {{1, "new_level", number}};

// Sorted by name.
constexpr AuditMethod kMethods[] = {
    {"agent.v1.Agent/AttestAgent", kAttest, kAttested},
    {"agent.v1.Agent/BanAgent", kAgentId},
    {"agent.v1.Agent/CountAgents", kListAgents},
    {"agent.v1.Agent/CreateJoinToken", kJoinToken},
    {"agent.v1.Agent/DeleteAgent", kAgentId},
    {"agent.v1.Agent/GetAgent", kAgentId},
    {"agent.v1.Agent/ListAgents", kListAgents},
    {"agent.v1.Agent/PostStatus", kPostStatus},
    {"agent.v1.Agent/RenewAgent", kRenew, kRenewed},
    {"bundle.v1.Bundle/BatchCreateFederatedBundle", kBundle, {}, 1},
    {"bundle.v1.Bundle/BatchDeleteFederatedBundle", kItemTrustDomain, {}, 1},
    {"bundle.v1.Bundle/BatchSetFederatedBundle", kBundle, {}, 1},
    {"bundle.v1.Bundle/BatchUpdateFederatedBundle", kBundle, {}, 1},
    {"bundle.v1.Bundle/GetFederatedBundle", kTrustDomain},
    {"bundle.v1.Bundle/PublishJWTAuthority", kPublishJwt},
    {"entry.v1.Entry/BatchCreateEntry", kEntry, kEntryOfResult, 1},
    {"entry.v1.Entry/BatchDeleteEntry", kItemEntryId, {}, 1},
    {"entry.v1.Entry/BatchUpdateEntry", kEntryUpdate, {}, 1},
    {"entry.v1.Entry/CountEntries", kListEntries},
    {"entry.v1.Entry/GetEntry", kEntryId},
    {"entry.v1.Entry/ListEntries", kListEntries},
    {"localauthority.v1.LocalAuthority/ActivateJWTAuthority", kAuthority},
    {"localauthority.v1.LocalAuthority/ActivateX509Authority", kAuthority},
    {"localauthority.v1.LocalAuthority/RevokeJWTAuthority", kAuthority},
    {"localauthority.v1.LocalAuthority/RevokeX509Authority", kAuthority},
    {"localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority", kUpstream},
    {"localauthority.v1.LocalAuthority/TaintJWTAuthority", kAuthority},
    {"localauthority.v1.LocalAuthority/TaintX509Authority", kAuthority},
    {"localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority", kUpstream},
    {"logger.v1.Logger/SetLogLevel", kLevel},
    {"svid.v1.SVID/BatchNewX509SVID", kNewX509, kSigned, 1},
    {"svid.v1.SVID/MintJWTSVID", kMintJwt, {}},
    {"svid.v1.SVID/MintX509SVID", kMintX509, kMinted},
    {"svid.v1.SVID/NewDownstreamX509CA", kCsr},
    {"svid.v1.SVID/NewJWTSVID", kNewJwt},
    {"trustdomain.v1.TrustDomain/BatchCreateFederationRelationship", kRelationship, {}, 1},
    {"trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship", kItemTrustDomain, {}, 1},
    {"trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship", kRelationship, {}, 1},
    {"trustdomain.v1.TrustDomain/GetFederationRelationship", kTrustDomain},
    {"trustdomain.v1.TrustDomain/RefreshBundle", kTrustDomain},
};
static_assert(std::is_sorted(std::begin(kMethods), std::end(kMethods),
                             [](const AuditMethod& a, const AuditMethod& b) { return a.name < b.name; }));

void join(std::string& list, std::string_view one) {
  if (list.size() >= kValueBytes) return;
  if (!list.empty()) list += ',';
  list += one;
}

// The two texts of a SPIFFEID (trust domain, path) or a Selector (type, value).
std::pair<std::string, std::string> two_texts(BytesView message) {
  std::pair<std::string, std::string> two;
  for (ProtoReader in(message); in.next();) {
    if (in.field() == 1) two.first = in.text();
    if (in.field() == 2) two.second = in.text();
  }
  return two;
}

void read_value(AuditFields& out, const Field& field, const ProtoReader& in) {
  switch (field.kind) {
    case text:
      if (!in.bytes().empty()) out[field.name] = in.text();
      return;
    case texts:
      return join(out[field.name], as_text(in.bytes()));
    case number:
      out[field.name] = std::to_string(in.number());
      return;
    case flag:
      out[field.name] = in.flag() ? "true" : "false";
      return;
    case id: {
      const auto [trust_domain, path] = two_texts(in.bytes());
      out[field.name] = "spiffe://" + trust_domain + path;
      return;
    }
    case selectors: {
      const auto [type, value] = two_texts(in.bytes());
      return join(out[field.name], type + ":" + value);
    }
    case sha256:
      if (!in.bytes().empty()) out[field.name] = hex_encode(hash(HashAlg::sha256, in.bytes()));
      return;
    case message:
      return read_audit_fields(out, field.within, in.bytes());
  }
}

}  // namespace

const AuditMethod& audit_method(std::string_view method) {
  static constexpr AuditMethod kNone{};
  constexpr std::string_view kPrefix = "/spire.api.server.";
  static constexpr AuditMethod kDevice{{}, kEnrollment};
  if (method.starts_with("/limpet.api.enrollment.v1.Enrollment/")) return kDevice;
  if (!method.starts_with(kPrefix)) return kNone;
  method.remove_prefix(kPrefix.size());
  const auto* found = std::lower_bound(std::begin(kMethods), std::end(kMethods), method,
                                       [](const AuditMethod& m, std::string_view name) { return m.name < name; });
  return found != std::end(kMethods) && found->name == method ? *found : kNone;
}

void read_audit_fields(AuditFields& out, std::span<const AuditField> fields, BytesView message) {
  if (fields.size() == 1 && fields.front().number == 0) {
    out[fields.front().name] = std::string(as_text(message));
    return;
  }
  for (const Field& field : fields) {
    if (field.always) out[field.name] = field.kind == flag ? "false" : "0";
  }
  for (ProtoReader in(message); in.next();) {
    const auto field = std::ranges::find(fields, in.field(), &Field::number);
    if (field != fields.end()) read_value(out, *field, in);
  }
  for (auto& [name, value] : out) {
    if (value.size() > kValueBytes) value.resize(kValueBytes);
  }
}

}  // namespace limpet::server
