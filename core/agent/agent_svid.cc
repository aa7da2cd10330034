// SPDX-License-Identifier: Apache-2.0
#include "agent/agent_svid.h"

#include "agent/server_trust.h"

namespace limpet::agent {

Result<SvidFacts> facts_of(const std::vector<Bytes>& chain) {
  if (chain.empty()) return fail(Code::invalid_argument, "SVID without a certificate");
  TRY_ASSIGN(const Certificate leaf, Certificate::parse(chain.front()));
  TRY_ASSIGN(SpiffeId id, spiffe_id_of(leaf));
  TRY_ASSIGN(const Certificate top, Certificate::parse(chain.back()));
  return SvidFacts{std::move(id), leaf.key, leaf.not_before, leaf.not_after, top.authority_key_id};
}

int64_t judged_at(const Clock& clock, const std::vector<Certificate>& chain) {
  int64_t at = clock.now();
  if (!clock.behind()) return at;
  for (const Certificate& certificate : chain) at = std::max(at, certificate.not_before);
  return at;
}

int64_t judged_at(const Clock& clock, const std::vector<Bytes>& chain) {
  const auto parsed = parse_chain(chain);
  return parsed ? judged_at(clock, *parsed) : clock.now();
}

Result<void> check_agent_svid(const std::vector<Bytes>& chain, const PublicKey& key, const Bundle& bundle,
                              int64_t now) {
  TRY_ASSIGN(const std::vector<Certificate> certificates, parse_chain(chain));
  TRY_ASSIGN(const SpiffeId id, verify_chain(certificates, bundle_set(bundle), now));
  if (!id.path().starts_with(kAgentPrefix))
    return fail(Code::unauthenticated, "the server gave \"" + id.text() + "\", which is not an agent's SPIFFE ID");
  if (!(certificates.front().key == key))
    return fail(Code::unauthenticated, "the server gave an SVID for another key than the one asked for");
  return {};
}

}  // namespace limpet::agent
