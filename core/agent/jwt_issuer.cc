// SPDX-License-Identifier: Apache-2.0
#include "agent/jwt_issuer.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "proto/spire_svid.pb.h"
#include "spiffe/jwt_svid.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::agent {

namespace {

// The order of the audiences makes no difference to what a token is good for. No audience holds a NUL.
std::string cache_key(const SpiffeId& id, std::vector<std::string> audience) {
  std::ranges::sort(audience);
  std::string key = id.text();
  for (const std::string& one : audience) key += '\0' + one;
  return key;
}

}  // namespace

Result<std::vector<std::string>> read_audience(char* const* audience, pb_size_t count) {
  std::vector<std::string> wanted = wire::read_strings(audience, count);
  if (wanted.empty()) return fail(Code::invalid_argument, "audience must be specified");
  size_t size = 0;
  for (const std::string& one : wanted) size += one.size();
  if (wanted.size() > limits::kJwtAudiences || size > limits::kJwtAudienceBytes)
    return fail(Code::invalid_argument, "audience has more than 64 values or 8 KiB");
  return wanted;
}

// One NewJWTSVID: connection, call, and what the server signed.
class JwtIssuer::Ask {
 public:
  Ask(JwtIssuer& issuer, std::string key, bool kept) : issuer_(issuer), key_(std::move(key)), deadline_(issuer.loop_) {
    keep_ = kept;
  }

  void start(const Entry& entry, std::vector<std::string> audience, int64_t timeout_ms) {
    entry_ = entry;
    audience_ = std::move(audience);
    deadline_.start<&Ask::on_deadline>(timeout_ms, this);
    issuer_.link_.acquire(acquired_.then<&Ask::on_channel>(this));
  }

  const std::string& key() const { return key_; }
  const Entry& entry() const { return entry_; }
  bool keep() const { return keep_; }
  std::vector<Done<std::string>> waiters;

 private:
  using Request = spire_api_server_svid_v1_NewJWTSVIDRequest;
  using Response = spire_api_server_svid_v1_NewJWTSVIDResponse;

  void on_channel(Result<SharedChannel> channel) {
    if (!channel) return issuer_.on_answer(*this, fail(std::move(channel).error()));
    channel_ = std::move(*channel);
    wire::Message<Request> request;
    wire::set_string(request->entry_id, entry_.id);
    wire::write_strings(request->audience, request->audience_count, audience_);
    call_.start(*channel_, "/spire.api.server.svid.v1.SVID/NewJWTSVID", request, {kRpcTimeoutMs, {}},
                signed_.then<&Ask::on_signed>(this));
  }

  void on_signed(Result<wire::Message<Response>> response) {
    if (!response) {
      issuer_.link_.failed(channel_.get(), response.error());
      return issuer_.on_answer(*this, fail(std::move(response).error()));
    }
    issuer_.on_answer(*this, read((*response)->svid));
  }

  // What the server sent must be what was asked for; its signature is for those to check who are shown the token.
  [[nodiscard]] Result<Token> read(const spire_api_types_JWTSVID& svid) const {
    TRY_ASSIGN_WITHIN("the server's JWT-SVID", JwtSvidToken token, parse_jwt_svid(wire::view(svid.token)));
    if (token.id != entry_.spiffe_id)
      return fail(Code::internal,
                  "the server signed a JWT-SVID for " + token.id.text() + ", not for " + entry_.spiffe_id.text());
    return Token{std::string(wire::view(svid.token)), std::move(token.key_id), token.issued_at, token.expires_at, {}};
  }

  void on_deadline() { issuer_.on_answer(*this, fail(Code::deadline_exceeded, "the server did not answer in time")); }

  JwtIssuer& issuer_;
  std::string key_;
  bool keep_ = true;
  Entry entry_;
  std::vector<std::string> audience_;
  SharedChannel channel_;
  wire::UnaryCall<Request, Response> call_;
  Pending<SharedChannel> acquired_;
  Pending<wire::Message<Response>> signed_;
  Timer deadline_;
};

JwtIssuer::JwtIssuer(Loop& loop, const Clock& clock, Logger& log, Link& link, JwtIssuerOptions options)
    : loop_(loop), clock_(clock), log_(log), link_(link), options_(options) {}
JwtIssuer::~JwtIssuer() = default;

void JwtIssuer::issue(const Entry& entry, std::vector<std::string> audience, Done<std::string> done) {
  std::string key = cache_key(entry.spiffe_id, audience);
  int64_t timeout_ms = kRpcTimeoutMs;
  if (entry.jwt_svid_include_jti) {
    key += '\0' + std::to_string(++unique_);
  } else if (const Token* token = valid(key)) {
    if (clock_.now() - token->issued_at < (token->expires_at - token->issued_at) / 2) {
      loop_.post([text = token->text, d = std::move(done)]() mutable { d(std::move(text)); });
      return;
    }
    timeout_ms = options_.hit_timeout_ms;
  }
  if (const auto running = asks_.find(key); running != asks_.end()) {
    running->second->waiters.push_back(std::move(done));
    return;
  }
  auto& ask = asks_[key] = std::make_unique<Ask>(*this, key, !entry.jwt_svid_include_jti);
  ask->waiters.push_back(std::move(done));
  ask->start(entry, std::move(audience), timeout_ms);
}

// The kept token, unless it has expired; used last from now on.
const JwtIssuer::Token* JwtIssuer::valid(const std::string& key) {
  const auto found = cache_.find(key);
  if (found == cache_.end()) return nullptr;
  if (found->second.expires_at <= clock_.now()) {
    used_.erase(found->second.place);
    cache_.erase(found);
    return nullptr;
  }
  used_.splice(used_.begin(), used_, found->second.place);
  return &found->second;
}

void JwtIssuer::keep(const std::string& key, Token token) {
  if (const auto old = cache_.find(key); old != cache_.end()) used_.erase(old->second.place);
  token.place = used_.insert(used_.begin(), key);
  cache_[key] = std::move(token);
  while (cache_.size() > options_.cache_limit) {
    cache_.erase(used_.back());
    used_.pop_back();
  }
}

void JwtIssuer::on_answer(Ask& ask, Result<Token> answer) {
  const std::unique_ptr<Ask> ended = std::move(asks_.at(ask.key()));  // dies at the end, with its call
  asks_.erase(ended->key());
  Result<std::string> text = fail(Code::internal, "not signed");
  if (answer) {
    if (std::exchange(failing_, false)) log_.info("JWT-SVIDs can be renewed again");
    text = answer->text;
    if (ended->keep()) keep(ended->key(), std::move(*answer));
  } else if (const Token* token = ended->keep() ? valid(ended->key()) : nullptr) {
    // Workloads ask as often as they like, also during an outage: once is enough until it works again.
    if (!std::exchange(failing_, true)) {
      log_.warn("JWT-SVIDs cannot be renewed, workloads get those that are still valid",
                {{"spiffe_id", ended->entry().spiffe_id.text()}, {"error", answer.error().text()}});
    }
    text = token->text;
  } else {
    text = fail(std::move(answer).error());
  }
  for (Done<std::string>& waiter : ended->waiters) waiter(text);
}

size_t JwtIssuer::forget_tainted(const Bundle& bundle) {
  size_t forgotten = 0;
  for (auto token = cache_.begin(); token != cache_.end();) {
    const auto authority = std::ranges::find(bundle.jwt_authorities, token->second.key_id, &JwtAuthority::key_id);
    if (authority == bundle.jwt_authorities.end() || !authority->tainted) {
      ++token;
      continue;
    }
    used_.erase(token->second.place);
    token = cache_.erase(token);
    forgotten++;
  }
  return forgotten;
}

}  // namespace limpet::agent
