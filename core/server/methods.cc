// SPDX-License-Identifier: Apache-2.0
#include "server/methods.h"

#include <algorithm>
#include <iterator>

namespace limpet::server {
namespace {

struct Method {
  std::string_view name;  // after "/spire.api.server."; health and our own service have names of their own
  uint8_t callers;
};

constexpr uint8_t kAdmins = kAdmin | kLocal;

// Sorted by name.
constexpr Method kMethods[] = {
    {"agent.v1.Agent/AttestAgent", kAny},
    {"agent.v1.Agent/BanAgent", kAdmins},
    {"agent.v1.Agent/CountAgents", kAdmins},
    {"agent.v1.Agent/CreateJoinToken", kAdmins},
    {"agent.v1.Agent/DeleteAgent", kAdmins},
    {"agent.v1.Agent/GetAgent", kAdmins},
    {"agent.v1.Agent/ListAgents", kAdmins},
    {"agent.v1.Agent/PostStatus", kAgent},
    {"agent.v1.Agent/RenewAgent", kAgent},
    {"bundle.v1.Bundle/AppendBundle", kAdmins},
    {"bundle.v1.Bundle/BatchCreateFederatedBundle", kAdmins},
    {"bundle.v1.Bundle/BatchDeleteFederatedBundle", kAdmins},
    {"bundle.v1.Bundle/BatchSetFederatedBundle", kAdmins},
    {"bundle.v1.Bundle/BatchUpdateFederatedBundle", kAdmins},
    {"bundle.v1.Bundle/CountBundles", kAdmins},
    {"bundle.v1.Bundle/GetBundle", kAny},
    {"bundle.v1.Bundle/GetFederatedBundle", kAgent | kAdmins},
    {"bundle.v1.Bundle/ListFederatedBundles", kAdmins},
    {"bundle.v1.Bundle/PublishJWTAuthority", kDownstream},
    {"bundle.v1.Bundle/PublishWITAuthority", kDownstream},
    {"debug.v1.Debug/GetInfo", kLocal},
    {"entry.v1.Entry/BatchCreateEntry", kAdmins},
    {"entry.v1.Entry/BatchDeleteEntry", kAdmins},
    {"entry.v1.Entry/BatchUpdateEntry", kAdmins},
    {"entry.v1.Entry/CountEntries", kAdmins},
    {"entry.v1.Entry/GetAuthorizedEntries", kAgent},
    {"entry.v1.Entry/GetEntry", kAdmins},
    {"entry.v1.Entry/ListEntries", kAdmins},
    {"entry.v1.Entry/SyncAuthorizedEntries", kAgent},
    {"localauthority.v1.LocalAuthority/ActivateJWTAuthority", kAdmins},
    {"localauthority.v1.LocalAuthority/ActivateWITAuthority", kAdmins},
    {"localauthority.v1.LocalAuthority/ActivateX509Authority", kAdmins},
    {"localauthority.v1.LocalAuthority/GetJWTAuthorityState", kAdmins},
    {"localauthority.v1.LocalAuthority/GetWITAuthorityState", kAdmins},
    {"localauthority.v1.LocalAuthority/GetX509AuthorityState", kAdmins},
    {"localauthority.v1.LocalAuthority/PrepareJWTAuthority", kAdmins},
    {"localauthority.v1.LocalAuthority/PrepareWITAuthority", kAdmins},
    {"localauthority.v1.LocalAuthority/PrepareX509Authority", kAdmins},
    {"localauthority.v1.LocalAuthority/RevokeJWTAuthority", kAdmins},
    {"localauthority.v1.LocalAuthority/RevokeWITAuthority", kAdmins},
    {"localauthority.v1.LocalAuthority/RevokeX509Authority", kAdmins},
    {"localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority", kAdmins},
    {"localauthority.v1.LocalAuthority/TaintJWTAuthority", kAdmins},
    {"localauthority.v1.LocalAuthority/TaintWITAuthority", kAdmins},
    {"localauthority.v1.LocalAuthority/TaintX509Authority", kAdmins},
    {"localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority", kAdmins},
    {"logger.v1.Logger/GetLogger", kLocal},
    {"logger.v1.Logger/ResetLogLevel", kLocal},
    {"logger.v1.Logger/SetLogLevel", kLocal},
    {"svid.v1.SVID/BatchNewWITSVID", kAgent},
    {"svid.v1.SVID/BatchNewX509SVID", kAgent},
    {"svid.v1.SVID/MintJWTSVID", kAdmins},
    {"svid.v1.SVID/MintWITSVID", kAdmins},
    {"svid.v1.SVID/MintX509SVID", kAdmins},
    {"svid.v1.SVID/NewDownstreamX509CA", kDownstream},
    {"svid.v1.SVID/NewJWTSVID", kAgent},
    {"trustdomain.v1.TrustDomain/BatchCreateFederationRelationship", kAdmins},
    {"trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship", kAdmins},
    {"trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship", kAdmins},
    {"trustdomain.v1.TrustDomain/GetFederationRelationship", kAdmins},
    {"trustdomain.v1.TrustDomain/ListFederationRelationships", kAdmins},
    {"trustdomain.v1.TrustDomain/RefreshBundle", kAdmins},
};
static_assert(std::is_sorted(std::begin(kMethods), std::end(kMethods),
                             [](const Method& a, const Method& b) { return a.name < b.name; }));

}  // namespace

uint8_t allowed_callers(std::string_view method) {
  constexpr std::string_view kPrefix = "/spire.api.server.";
  constexpr std::string_view kHealth = "/grpc.health.v1.Health/";
  if (method.starts_with(kHealth)) {
    std::string_view name = method.substr(kHealth.size());
    return name == "Check" || name == "List" || name == "Watch" ? kLocal : 0;
  }
  constexpr std::string_view kEnrollment = "/limpet.api.enrollment.v1.Enrollment/";
  if (method.starts_with(kEnrollment)) {
    const std::string_view name = method.substr(kEnrollment.size());
    return name == "CreateEnrollment" || name == "ListEnrollments" || name == "DeleteEnrollment" ? kAdmins : 0;
  }
  if (!method.starts_with(kPrefix)) return 0;
  std::string_view name = method.substr(kPrefix.size());
  const Method* found = std::lower_bound(std::begin(kMethods), std::end(kMethods), name,
                                         [](const Method& m, std::string_view n) { return m.name < n; });
  return found != std::end(kMethods) && found->name == name ? found->callers : uint8_t{0};
}

}  // namespace limpet::server
