// SPDX-License-Identifier: Apache-2.0
// What the audit log reads of a call's messages: the first byte chooses the method, the rest is request and response.
#include <array>

#include "fuzz.h"
#include "server/audit_fields.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limpet;
  using namespace limpet::server;
  constexpr std::array kMethods = {"agent.v1.Agent/AttestAgent",
                                   "agent.v1.Agent/ListAgents",
                                   "agent.v1.Agent/CreateJoinToken",
                                   "agent.v1.Agent/RenewAgent",
                                   "entry.v1.Entry/BatchCreateEntry",
                                   "entry.v1.Entry/BatchDeleteEntry",
                                   "entry.v1.Entry/ListEntries",
                                   "svid.v1.SVID/BatchNewX509SVID",
                                   "svid.v1.SVID/MintJWTSVID",
                                   "bundle.v1.Bundle/PublishJWTAuthority",
                                   "trustdomain.v1.TrustDomain/BatchCreateFederationRelationship"};
  if (size == 0) return 0;
  const std::string name = std::string("/spire.api.server.") + kMethods[data[0] % kMethods.size()];
  const AuditMethod& method = audit_method(name);
  FUZZ_CHECK(!method.request.empty());
  AuditFields fields;
  read_audit_fields(fields, method.request, {data + 1, size - 1});
  read_audit_fields(fields, method.response, {data + 1, size - 1});
  FUZZ_CHECK(fields.size() <= 32);
  for (const auto& [key, value] : fields) FUZZ_CHECK(!key.empty() && value.size() <= 4096);
  return 0;
}
