// SPDX-License-Identifier: Apache-2.0
#pragma once
// Between the wire's messages and our values: SPIFFE IDs, selectors, bundles, certificates, batch statuses. Error texts are
// SPIRE's. Pure functions.

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "proto/spire_types.pb.h"
#include "server/ca.h"
#include "spiffe/bundle.h"
#include "spiffe/entry.h"
#include "spiffe/id.h"
#include "wire/message.h"

namespace limpet::server {

// What came from the wire may be outside the enum: read it as the number it is.
template <class Enum>
int32_t enum_number(const Enum& value) {
  int32_t number = 0;
  static_assert(sizeof value == sizeof number);
  std::memcpy(&number, &value, sizeof number);
  return number;
}

// INVALID_ARGUMENT "request must specify SPIFFE ID" or what is wrong with it.
Result<SpiffeId> id_from_wire(bool present, const spire_api_types_SPIFFEID& id);
void id_to_wire(const SpiffeId& id, bool& present, spire_api_types_SPIFFEID& out);
// An ID below /spire/agent/ of the trust domain.
Result<void> check_agent_id(const SpiffeId& id, const TrustDomain& trust_domain);
// Any other path of the trust domain than /spire and below.
Result<void> check_workload_id(const SpiffeId& id, const TrustDomain& trust_domain);

Result<SelectorSet> selectors_from_wire(std::span<const spire_api_types_Selector> selectors);
void selectors_to_wire(const SelectorSet& selectors, spire_api_types_Selector*& out, pb_size_t& count);

void svid_to_wire(const SignedSvid& svid, const SpiffeId& id, spire_api_types_X509SVID& out);
// No mask: everything.
void bundle_to_wire(const Bundle& bundle, const spire_api_types_BundleMask* mask, spire_api_types_Bundle& out);
void status_to_wire(const Error* error, bool& present, spire_api_types_Status& out);

}  // namespace limpet::server
