// SPDX-License-Identifier: Apache-2.0
#include "agent/delegated_jwt.h"

#include <utility>

#include "agent/delegated_messages.h"
#include "agent/jwt_issuer.h"
#include "spiffe/jwt_svid.h"
#include "wire/api_types.h"

namespace limpet::agent {

namespace {

using Response = spire_api_agent_delegatedidentity_v1_FetchJWTSVIDsResponse;

Result<Bytes> encode(const std::vector<Entry>& entries, const std::vector<std::string>& tokens) {
  wire::Message<Response> response;
  response.mark_secret();
  auto* svids = wire::set_array(response->svids, response->svids_count, entries.size());
  for (size_t i = 0; i < response->svids_count; i++) {
    TRY_ASSIGN(const JwtSvidToken token, parse_jwt_svid(tokens[i]));
    wire::write_jwt_svid(svids[i],
                         {tokens[i], entries[i].spiffe_id, token.expires_at, token.issued_at, entries[i].hint});
  }
  return response.encode();
}

}  // namespace

DelegatedJwt::DelegatedJwt(const DelegatedParts& parts, wire::ServerCall& call)
    : parts_(parts), call_(call), caller_(parts, *this), target_(parts.workload) {}

void DelegatedJwt::start() { call_.receive(received_.then<&DelegatedJwt::on_request>(this)); }

// 1. the request and its parameters
void DelegatedJwt::on_request(Result<std::optional<Bytes>> bytes) {
  if (!bytes) return finish(std::move(bytes).error());
  if (!*bytes) return finish({Code::internal, "unary call without a request"});
  if (auto taken = take(**bytes); !taken) return finish(std::move(taken).error());
  caller_.start(call_.peer(), admitted_.then<&DelegatedJwt::on_admitted>(this));
}

Result<void> DelegatedJwt::take(BytesView bytes) {
  TRY_ASSIGN(request_, wire::Message<Request>::decode(bytes));
  TRY_ASSIGN(audience_, read_audience(request_->audience, request_->audience_count));
  return {};
}

// 2. a delegate, or not
void DelegatedJwt::on_admitted(Result<void> verdict) {
  if (!verdict) return finish(std::move(verdict).error());
  target_.start(wire::items(request_->selectors, request_->selectors_count), request_->pid,
                resolved_.then<&DelegatedJwt::on_target>(this));
}

void DelegatedJwt::on_caller_changed() {
  if (auto verdict = caller_.check(); !verdict) finish(std::move(verdict).error());
}

// 3. for whom it asks
void DelegatedJwt::on_target(Result<SelectorSet> selectors) {
  if (ended_) return;
  if (!selectors) return finish(std::move(selectors).error());
  for (const Identity* identity : parts_.workload.audiences.find(std::move(*selectors)).identities())
    if (may_be_delegated(*identity)) entries_.push_back(identity->entry);
  if (entries_.empty()) return finish({Code::permission_denied, "no identity issued"});
  next();
}

// 4. a token for each, then the answer
void DelegatedJwt::next() {
  if (tokens_.size() < entries_.size())
    return parts_.workload.jwt.issue(entries_[tokens_.size()], audience_, issued_.then<&DelegatedJwt::on_issued>(this));
  auto response = encode(entries_, tokens_);
  if (!response) return finish({Code::internal, "could not serialize response: " + response.error().message});
  call_.send(std::move(*response), sent_.then<&DelegatedJwt::on_sent>(this), true);
}

void DelegatedJwt::on_issued(Result<std::string> token) {
  if (ended_) return;
  if (!token) return finish({Code::unavailable, "could not fetch JWT-SVID: " + token.error().message});
  tokens_.push_back(std::move(*token));
  next();
}

void DelegatedJwt::on_sent(Result<void> sent) {
  if (!std::exchange(ended_, true)) call_.finish(std::move(sent));
}

void DelegatedJwt::finish(Error error) {
  if (std::exchange(ended_, true)) return;
  log_delegate_refused(parts_.workload.log, call_, error);
  call_.finish(fail(std::move(error)));
}

}  // namespace limpet::agent
