// SPDX-License-Identifier: Apache-2.0
#pragma once
// Envoy's secrets as bytes: which of the requested names this workload may have, and how a bundle is dressed for the
// Envoy that asks. Pure; a response carries keys: send it as a secret and wipe() it.

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/identity_cache.h"
#include "config/config.h"
#include "proto/envoy_sds.pb.h"

namespace limpet::agent {

// What a node said about itself that decides how its bundles look.
struct SdsNode {
  bool old_envoy = false;  // 1.17 or before: knows no SPIFFE validator
  bool disabled = false;   // its metadata asks for plain roots
};
SdsNode read_sds_node(const envoy_service_secret_v3_Node& node);

struct SdsQuestion {
  const SdsConfig& config;
  const std::set<std::string>& names;  // empty: everything
  SdsNode node;
  std::string_view version;
  std::string_view nonce;
};

// A DiscoveryResponse with what these identities may have; only an SVID that is valid after `now` (Unix seconds) is
// given. INVALID_ARGUMENT names what was asked for and is not theirs; INTERNAL: all bundles for an Envoy that takes
// one.
Result<Bytes> encode_secrets(const SdsQuestion& question, const std::vector<Identity*>& identities,
                             const IdentityCache& cache, std::string_view trust_domain, int64_t now);

}  // namespace limpet::agent
