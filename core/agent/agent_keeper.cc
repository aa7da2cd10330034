// SPDX-License-Identifier: Apache-2.0
#include "agent/agent_keeper.h"

#include <algorithm>
#include <utility>

#include "agent/phase.h"

namespace limpet::agent {

namespace {
constexpr int64_t kBannedRetryMs = 600'000;  // only an operator changes it; ask six times an hour
constexpr int64_t kDenialPauseMs = 60'000;   // from one attempt to the next denial that has another follow at once
constexpr int64_t kLongestTimerMs = 60'000;  // the wall clock may jump, and stands still for the loop during a suspend
}  // namespace

AgentKeeper::AgentKeeper(AgentKeeperParts parts) : parts_(parts), timer_(parts.loop) {}

void AgentKeeper::start(std::optional<AgentSvid> stored) {
  if (stored) {
    auto facts = facts_of(stored->chain);
    if (facts) {
      svid_ = std::move(stored);
      facts_ = std::move(*facts);
      id_ = facts_->id.text();
    } else {
      parts_.log.warn("The stored agent SVID cannot be read, attesting anew", {{"error", facts.error().text()}});
    }
  }
  tell_health({});
  if (!svid_) return attest();
  listing_ = true;
  parts_.keys.list(listed_.then<&AgentKeeper::on_keys>(this));
}

// The SVID is of use only with its key.
void AgentKeeper::on_keys(Result<std::vector<ManagedKey>> keys) {
  listing_ = false;
  if (!keys) {
    listing_ = true;  // try the list again, not an attestation: the key may well be there
    parts_.log.error("The key manager cannot list its keys, trying again", {{"error", keys.error().text()}});
    tell_health("key manager: " + keys.error().message);
    timer_.start<&AgentKeeper::on_timer>(backoff_.pause(), this);
    return;
  }
  for (const ManagedKey& key : *keys) {
    if (key.id != svid_->key_id || !(key.key == facts_->key)) continue;
    backoff_.reset();
    return use(key);
  }
  parts_.log.warn("The key of the stored agent SVID is gone, attesting anew", {{"key", svid_->key_id}});
  must_attest_ = true;
  attest();
}

void AgentKeeper::on_denied(const Error& why) {
  const Denial denial = denial_of(why);
  if (denial == Denial::none) return;
  if (busy()) {
    denied_ = denied_ || denial == Denial::reattest;
    return;
  }
  if (denial == Denial::banned) return banned_ ? void() : retry(why);
  const bool planned = must_attest_ || (retrying_ && !banned_);  // an attempt; an end of the ban is none
  if (std::exchange(denied_, true) || planned) return;
  parts_.log.warn("The server wants this agent to attest anew", {{"reason", why.message}});
  if (parts_.loop.now_ms() - asked_ms_ > kDenialPauseMs) {
    denials_.reset();
    return attest();
  }
  retrying_ = true;  // it has just done so, at another replica perhaps
  timer_.start<&AgentKeeper::on_timer>(denials_.pause(), this);
}

void AgentKeeper::attest_anew() {
  must_attest_ = true;
  if (!busy() && !listing_) attest();
}

// Once: when the server still signs with that authority, another SVID would be no better.
void AgentKeeper::on_taint(const std::function<bool(const Bytes&)>& tainted) {
  if (!facts_ || taint_seen_ || !tainted(facts_->root_key_id)) return;
  taint_seen_ = renew_now_ = true;
  parts_.log.info("The authority that signed the agent's SVID was tainted, renewing it");
  if (!busy() && !listing_) on_timer();
}

// A new key takes a new attestation. Where that is refused (a spent join token, say) it goes on being tried, and should
// the key be back the connection stands again: see on_accepted().
void AgentKeeper::on_key_lost(const Error& why) {
  if (std::exchange(key_lost_, true) || !svid_) return;
  parts_.log.error("The agent's key is lost, attesting anew with another", {{"error", why.text()}});
  if (!busy() && !listing_) attest();
}

// A server whose replica had not heard of this agent yet denies it just for a while; with a join token that is spent no
// attestation would bring it back, and its SVID is good.
void AgentKeeper::on_accepted() {
  key_lost_ = false;
  const bool denied = std::exchange(denied_, false);
  const bool banned = std::exchange(banned_, false);
  if (banned && !busy() && !listing_) plan_renewal();
  if (banned || (denied && !must_attest_ && until_renewal() > 0)) tell_health({});
}

void AgentKeeper::on_timer() {
  if (listing_) return parts_.keys.list(listed_.then<&AgentKeeper::on_keys>(this));
  if (busy()) return;
  if (!svid_ || must_attest_ || denied_ || key_lost_) return attest();
  if (until_renewal() > 0) return plan_renewal();
  if (expired()) return attest();
  if (svid_->reattestable) return attest();
  renew();
}

void AgentKeeper::attest() {
  timer_.stop();
  asked_ms_ = parts_.loop.now_ms();
  attest_ = std::make_unique<AttestFlow>(parts_.loop, parts_.clock, parts_.dialer, parts_.trust, parts_.keys,
                                         parts_.attestor);
  attest_->start(next_key(), obtained_.then<&AgentKeeper::on_obtained>(this));
}

void AgentKeeper::renew() {
  timer_.stop();
  asked_ms_ = parts_.loop.now_ms();
  renew_ = std::make_unique<RenewFlow>(parts_.loop, parts_.clock, parts_.link, parts_.trust, parts_.keys);
  renew_->start(next_key(), obtained_.then<&AgentKeeper::on_obtained>(this));
}

void AgentKeeper::on_obtained(Result<NewIdentity> identity) {
  parts_.metrics.call(attest_ != nullptr ? "node_attestor_new_svid" : "agent_svid_rotate",
                      identity ? Code::ok : identity.error().code, parts_.loop.now_ms() - asked_ms_);
  attest_.reset();
  renew_.reset();
  if (!identity) return retry(identity.error());
  pending_ = std::move(*identity);
  if (pending_.bundle.trust_domain.empty()) pending_.svid.reattestable = svid_ && svid_->reattestable;
  saving_ = true;
  parts_.saver.save_identity(pending_.svid, pending_.bundle, saved_.then<&AgentKeeper::on_saved>(this));
}

// A full disk must not stop a new SVID from being used: then it lives until the restart.
void AgentKeeper::on_saved(Result<void> saved) {
  saving_ = false;
  if (!saved)
    parts_.log.error("The new agent SVID could not be stored, it is used all the same",
                     {{"error", saved.error().text()}});
  auto facts = facts_of(pending_.svid.chain);
  if (!facts) return retry(facts.error());
  taint_seen_ = taint_seen_ && facts_ && facts->root_key_id == facts_->root_key_id;
  renew_now_ = false;
  svid_ = std::move(pending_.svid);
  facts_ = std::move(*facts);
  id_ = facts_->id.text();
  must_attest_ = denied_ = banned_ = false;
  rests_until_ = parts_.loop.now_ms() + rest_ms(facts_->not_before, facts_->not_after);
  backoff_.reset();
  parts_.log.info("The agent has a new SVID",
                  {{"spiffe_id", id_}, {"expires_at", TimeText(facts_->not_after).rfc3339()}});
  if (!pending_.bundle.trust_domain.empty()) {
    parts_.trust.set_bundle(pending_.bundle);
    parts_.client.on_bundle(pending_.bundle);
  }
  use(pending_.key);
}

void AgentKeeper::use(const ManagedKey& key) {
  key_lost_ = false;
  parts_.trust.set_credential(
      std::make_shared<Credential>(svid_->chain, key, parts_.keys.blocking_signer(key), parts_.trust.turns()));
  tell_health({});
  plan_renewal();
  parts_.client.on_identity();
}

void AgentKeeper::plan_renewal() {
  retrying_ = false;
  timer_.start<&AgentKeeper::on_timer>(std::clamp<int64_t>(until_renewal(), 0, kLongestTimerMs), this);
}

// Milliseconds; not positive: it is due.
int64_t AgentKeeper::until_renewal() const {
  if (renew_now_) return 0;
  const int64_t due = renewal_time_ms(id_, facts_->not_before, facts_->not_after) - parts_.clock.now_ms();
  return std::max(due, rests_until_ - parts_.loop.now_ms());
}

void AgentKeeper::retry(const Error& why) {
  const Denial denial = denial_of(why);
  if (denial == Denial::reattest) must_attest_ = true;
  banned_ = denial == Denial::banned;
  retrying_ = true;
  const int64_t pause = denial == Denial::banned ? spread(kBannedRetryMs, 10) : backoff_.pause();
  parts_.log.warn(banned_ ? "The server has banned this agent, trying again"
                  : svid_ ? "The agent's SVID could not be renewed, trying again"
                          : "Node attestation failed, trying again",
                  {{"error", why.text()}, {"retry_in", std::to_string(pause / 1000) + "s"}});
  tell_health(denial == Denial::banned ? "banned by the server: an operator must delete the ban (`agent evict`)"
                                       : why.text());
  timer_.start<&AgentKeeper::on_timer>(pause, this);
  parts_.client.on_identity_failed(why);
}

void AgentKeeper::tell_health(const std::string& trouble) {
  if (!svid_ && trouble.empty()) return parts_.health.report("svid", HealthState::starting, "not attested yet");
  if (!svid_) return parts_.health.report("svid", HealthState::starting, trouble);
  if (expired()) return parts_.health.report("svid", HealthState::degraded, "the agent's SVID has expired. " + trouble);
  if (trouble.empty()) return parts_.health.report("svid", HealthState::ok);
  parts_.health.report("svid", HealthState::degraded, trouble);
}

bool AgentKeeper::expired() const { return facts_ && parts_.clock.now() + 1 >= facts_->not_after; }

std::string AgentKeeper::next_key() const { return svid_ ? other_key(svid_->key_id) : kKeyA; }

}  // namespace limpet::agent
