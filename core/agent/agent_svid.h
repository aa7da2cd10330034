// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agent's own SVID as the flows that obtain one hand it over, and the check that it is what was asked for. Values.

#include "base/clock.h"
#include "plugin/key_manager.h"
#include "spiffe/bundle.h"
#include "store/agent_state.h"

namespace limpet::agent {

struct NewIdentity {
  AgentSvid svid;
  ManagedKey key;
  Bundle bundle;  // what the server's own bundle was at that time; empty trust domain: unchanged
};

// What one needs to know of a chain to use it.
struct SvidFacts {
  SpiffeId id;
  PublicKey key;
  int64_t not_before = 0;
  int64_t not_after = 0;
  Bytes root_key_id;  // of the authority that the chain ends in
};
// Parses the leaf; no signature is checked. INVALID_ARGUMENT.
Result<SvidFacts> facts_of(const std::vector<Bytes>& chain);

// The moment at which to judge these certificates, Unix seconds: now, but while the clock is not set (Clock::behind())
// none is too young.
int64_t judged_at(const Clock& clock, const std::vector<Certificate>& chain);
int64_t judged_at(const Clock& clock, const std::vector<Bytes>& chain);

// Is this chain an agent's SVID, for this key, under this bundle? Burns CPU: worker. UNAUTHENTICATED.
Result<void> check_agent_svid(const std::vector<Bytes>& chain, const PublicKey& key, const Bundle& bundle, int64_t now);

}  // namespace limpet::agent
