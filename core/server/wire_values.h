// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the server's APIs share beyond wire/api_types.h: which IDs may stand where, with SPIRE's error texts. Pure
// functions.

#include "server/ca.h"
#include "spiffe/id.h"
#include "wire/api_types.h"
#include "wire/enum_number.h"

namespace limpet::server {

using wire::enum_number;

// INVALID_ARGUMENT `"spiffe://other.org/x" is not a member of trust domain "example.org"`.
Result<void> check_member(const SpiffeId& id, const TrustDomain& trust_domain);
// An ID below /spire/agent/ of the trust domain.
Result<void> check_agent_id(const SpiffeId& id, const TrustDomain& trust_domain);
// Any other path of the trust domain than /spire and below.
Result<void> check_workload_id(const SpiffeId& id, const TrustDomain& trust_domain);

void write_svid(spire_api_types_X509SVID& out, const SignedSvid& svid, const SpiffeId& id);

}  // namespace limpet::server
