// SPDX-License-Identifier: Apache-2.0
#include "agent/jwt_calls.h"

#include <algorithm>
#include <utility>

#include "agent/claims_struct.h"
#include "agent/jwt_issuer.h"
#include "agent/verified_tokens.h"
#include "wire/api_types.h"

namespace limpet::agent {

// ---- both ----
void JwtCall::start() {
  if (auto header = check_security_header(call_.metadata()); !header) return refuse(std::move(header).error());
  call_.receive(received_.then<&JwtCall::on_request>(this));
}

void JwtCall::on_request(Result<std::optional<Bytes>> request) {
  if (!request) return refuse(std::move(request).error());
  if (!*request) return refuse({Code::internal, "unary call without a request"});
  if (auto taken = take(**request); !taken) return refuse(std::move(taken).error());
  attest_ = std::make_unique<WorkloadAttest>(parts_.loop, parts_.log, parts_.attestors, parts_.metrics);
  attest_->start(call_.peer(), attested_.then<&JwtCall::on_attested>(this));
}

void JwtCall::on_attested(Result<SelectorSet> selectors) {
  attest_.reset();
  if (!selectors) return refuse(std::move(selectors).error());
  if (auto admitted = admit_call(parts_, call_, *selectors); !admitted) return refuse(std::move(admitted).error());
  on_workload(std::move(*selectors));
}

void JwtCall::reply(Result<Bytes> response, bool secret) {
  if (!response) return refuse({Code::unavailable, "could not serialize response: " + response.error().message});
  call_.send(std::move(*response), sent_.then<&JwtCall::on_sent>(this), secret);
}

// ---- FetchJWTSVID ----
FetchJwtCall::~FetchJwtCall() {
  if (audience_ != nullptr) parts_.audiences.leave(*audience_, *this);
}

Result<void> FetchJwtCall::take(BytesView bytes) {
  TRY_ASSIGN(const auto request, wire::Message<JWTSVIDRequest>::decode(bytes));
  TRY_ASSIGN(wanted_, read_audience(request->audience, request->audience_count));
  if (wire::view(request->spiffe_id).empty()) return {};
  auto id = SpiffeId::parse(wire::view(request->spiffe_id));
  if (!id) return fail(Code::invalid_argument, "invalid requested SPIFFE ID: " + id.error().message);
  id_ = std::move(*id);
  return {};
}

// As a member of its audience it learns of entries that come while it waits.
void FetchJwtCall::on_workload(SelectorSet selectors) {
  audience_ = &parts_.audiences.find(std::move(selectors));
  parts_.audiences.join(*audience_, *this);
  look();
}

void FetchJwtCall::on_view_changed() {
  if (entries_.empty() && wait_.running()) wait_.start<&FetchJwtCall::on_waited>(0, this);
}
void FetchJwtCall::on_waited() { look(); }

// An agent that has never reached its server does not know yet whom to deny.
void FetchJwtCall::look() {
  for (const Identity* identity : audience_->identities())
    if (!id_ || identity->entry.spiffe_id == *id_) entries_.push_back(identity->entry);
  if (!entries_.empty()) {
    wait_.stop();
    return next();
  }
  if (parts_.client.knows_entries()) return refuse({Code::permission_denied, "no identity issued"});
  if (waited_) return refuse({Code::unavailable, "the agent has not reached its server yet"});
  waited_ = true;
  wait_.start<&FetchJwtCall::on_waited>(WorkloadApi::kWaitForAnyMs, this);
}

void FetchJwtCall::next() {
  if (tokens_.size() < entries_.size())
    return parts_.jwt.issue(entries_[tokens_.size()], wanted_, issued_.then<&FetchJwtCall::on_issued>(this));
  wire::Message<JWTSVIDResponse> response;
  response.mark_secret();
  auto* svids = wire::set_array(response->svids, response->svids_count, entries_.size());
  for (size_t i = 0; i < response->svids_count; i++) {
    wire::set_string(svids[i].spiffe_id, entries_[i].spiffe_id.text());
    wire::set_string(svids[i].svid, tokens_[i]);
    wire::set_string(svids[i].hint, entries_[i].hint);
  }
  reply(response.encode(), true);
}

void FetchJwtCall::on_issued(Result<std::string> token) {
  if (!token) return refuse({Code::unavailable, "could not fetch JWT-SVID: " + token.error().message});
  tokens_.push_back(std::move(*token));
  next();
}

// ---- ValidateJWTSVID ----
Result<void> ValidateJwtCall::take(BytesView bytes) {
  TRY_ASSIGN(const auto request, wire::Message<ValidateJWTSVIDRequest>::decode(bytes));
  wanted_ = wire::view(request->audience);
  svid_ = wire::view(request->svid);
  if (wanted_.empty()) return fail(Code::invalid_argument, "audience must be specified");
  if (svid_.empty()) return fail(Code::invalid_argument, "svid must be specified");
  return {};
}

// Needs no identity. Foreign tokens are taken as far as an identity of the workload federates.
void ValidateJwtCall::on_workload(SelectorSet selectors) {
  auto token = parse_jwt_svid(svid_);
  if (!token) return refuse(std::move(token).error());
  token_ = std::move(*token);
  auto spki = find_key(parts_.audiences.find(std::move(selectors)));
  if (!spki) return refuse(std::move(spki).error());
  name_ = VerifiedTokens::name(token_, *spki);
  if (parts_.verified.contains(name_)) return on_verified(true);
  parts_.loop.work(
      [token = token_, der = std::move(*spki)]() -> Result<bool> {
        TRY_ASSIGN(const PublicKey key, PublicKey::from_spki(der));
        TRY(verify_jwt_signature(token, key));
        return true;
      },
      verified_.then<&ValidateJwtCall::on_verified>(this));
}

Result<Bytes> ValidateJwtCall::find_key(const Audience& audience) const {
  const std::string& name = token_.id.trust_domain().name();
  const bool known =
      name == parts_.audiences.trust_domain() ||
      std::ranges::any_of(audience.identities(), [&name](const Identity* identity) {
        return std::ranges::find(identity->entry.federates_with, name) != identity->entry.federates_with.end();
      });
  const CachedBundle* bundle = known ? parts_.audiences.cache().bundle(name) : nullptr;
  if (bundle == nullptr) return fail(Code::invalid_argument, "no keys found for trust domain \"" + name + "\"");
  for (const JwtAuthority& authority : bundle->bundle.jwt_authorities)
    if (authority.key_id == token_.key_id) return authority.spki;
  return fail(Code::invalid_argument,
              "public key \"" + token_.key_id + "\" not found in trust domain \"" + name + "\"");
}

void ValidateJwtCall::on_verified(Result<bool> verified) {
  if (!verified) return refuse(std::move(verified).error());
  parts_.verified.add(name_);
  if (auto good = check_jwt_claims(token_, wanted_, parts_.clock.now()); !good) return refuse(std::move(good).error());
  wire::Message<ValidateJWTSVIDResponse> response;
  wire::set_string(response->spiffe_id, token_.id.text());
  response->has_claims = true;
  const bool foreign = token_.id.trust_domain().name() != parts_.audiences.trust_domain();
  write_claims(response->claims, token_.claims_json, foreign ? &parts_.foreign_claims : nullptr);
  reply(response.encode(), false);
}

}  // namespace limpet::agent
