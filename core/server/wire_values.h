// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the server's APIs share beyond wire/api_types.h: which IDs may stand where, with SPIRE's error texts. Pure
// functions.

#include "base/limits.h"
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

// How many rows a listing answers: the page asked for (0 or less: all), and never more than a message holds; the page's
// token then leads on to what was left out.
constexpr size_t page_limit(int32_t page_size) {
  if (page_size <= 0 || static_cast<size_t>(page_size) > limits::kMessageItems) return limits::kMessageItems;
  return static_cast<size_t>(page_size);
}
// RESOURCE_EXHAUSTED "<what>: more than one message holds (65000 items)<hint>", for answers that cannot be cut short.
Error too_many_items(const char* what, const char* hint = "; ask in pages");

void write_svid(spire_api_types_X509SVID& out, const SignedSvid& svid, const SpiffeId& id);

}  // namespace limpet::server
