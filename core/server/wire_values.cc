// SPDX-License-Identifier: Apache-2.0
#include "server/wire_values.h"

#include <string>

namespace limpet::server {

namespace {
std::unexpected<Error> wrong_path(const SpiffeId& id, const TrustDomain& trust_domain, std::string_view kind,
                                  std::string_view why) {
  return fail(Code::invalid_argument, "\"" + id.text() + "\" is not " + std::string(kind) + " in trust domain \"" +
                                          trust_domain.name() + "\"; " + std::string(why));
}
}  // namespace

Result<void> check_member(const SpiffeId& id, const TrustDomain& trust_domain) {
  if (id.member_of(trust_domain)) return {};
  return fail(Code::invalid_argument,
              "\"" + id.text() + "\" is not a member of trust domain \"" + trust_domain.name() + "\"");
}

Result<void> check_agent_id(const SpiffeId& id, const TrustDomain& trust_domain) {
  TRY(check_member(id, trust_domain));
  if (id.path().empty()) return wrong_path(id, trust_domain, "an agent", "path is empty");
  if (!id.path().starts_with(kAgentPrefix))
    return wrong_path(id, trust_domain, "an agent", "path is not in the agent namespace");
  return {};
}

Result<void> check_workload_id(const SpiffeId& id, const TrustDomain& trust_domain) {
  TRY(check_member(id, trust_domain));
  if (id.path().empty()) return wrong_path(id, trust_domain, "a workload", "path is empty");
  if (id.path() == "/spire" || id.path().starts_with("/spire/")) {
    return wrong_path(id, trust_domain, "a workload", "path is in the reserved namespace");
  }
  return {};
}

Error too_many_items(const char* what, const char* hint) {
  return {Code::resource_exhausted, std::string(what) + ": more than one message holds (" +
                                        std::to_string(limits::kMessageItems) + " items)" + hint};
}

void write_svid(spire_api_types_X509SVID& out, const SignedSvid& svid, const SpiffeId& id) {
  wire::write_x509_svid(out, {svid.chain, id, svid.expires_at, {}});
}

}  // namespace limpet::server
