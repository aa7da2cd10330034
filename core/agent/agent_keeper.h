// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keeps the agent's own SVID: takes it from the store, attests when there is none, renews it at half its life by its
// kind, attests anew when the server says so, and tries again for ever. What is valid is never deleted; what is new is
// on disk before it is used; the old one stays in use until then. Owned by the Agent; loop thread only.
//
// A banned agent does not exit as SPIRE's does: it says so in its health, asks again rarely, and serves what is still
// valid.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/attest_flow.h"
#include "agent/denial.h"
#include "agent/renew_flow.h"
#include "loop/backoff.h"
#include "report/health.h"
#include "report/log.h"
#include "report/metrics.h"

namespace limpet::agent {

// Makes a new identity durable. StateWriter is the real one.
class IdentitySaver {
 public:
  virtual ~IdentitySaver() = default;
  // The bundle too, unless its trust domain is empty.
  virtual void save_identity(const AgentSvid& svid, const Bundle& bundle, Done<void> done) = 0;
};

class AgentKeeperClient {
 public:
  virtual ~AgentKeeperClient() = default;
  virtual void on_identity() = 0;                       // a new SVID is in use (ServerTrust has it)
  virtual void on_bundle(const Bundle& bundle) = 0;     // an attestation brought the server's bundle
  virtual void on_identity_failed(const Error& why) {}  // none could be had, this time
};

struct AgentKeeperParts {
  Loop& loop;
  const Clock& clock;
  Logger& log;
  Health& health;
  Dialer& dialer;
  ServerTrust& trust;
  Link& link;
  KeyManager& keys;
  NodeAttestorAgent& attestor;
  IdentitySaver& saver;
  AgentKeeperClient& client;
  Metrics& metrics = Metrics::none();
};

class AgentKeeper {
 public:
  explicit AgentKeeper(AgentKeeperParts parts);
  // With the SVID found in the store, if any.
  void start(std::optional<AgentSvid> stored);
  // The server refused a call of ours with this error; anything but a refusal of this agent is ignored.
  void on_denied(const Error& why);
  // Authorities were tainted; `tainted` says whether one of these key identifiers is among them.
  void on_taint(const std::function<bool(const Bytes&)>& tainted);
  // The server is another one by now: this agent must attest to it.
  void attest_anew();
  // The key manager cannot sign with the agent's key any more: another TPM, a replaced key.
  void on_key_lost(const Error& why);
  // The server took a call of ours: a ban is over, and so is the loss of a key, or that a call was denied.
  void on_accepted();
  [[nodiscard]] const std::optional<AgentSvid>& svid() const { return svid_; }
  [[nodiscard]] int64_t not_after() const { return facts_ ? facts_->not_after : 0; }
  [[nodiscard]] const std::string& id() const { return id_; }

 private:
  void on_keys(Result<std::vector<ManagedKey>> keys);
  void on_timer();
  void attest();
  void renew();
  void on_obtained(Result<NewIdentity> identity);
  void on_saved(Result<void> saved);
  void use(const ManagedKey& key);
  void plan_renewal();
  [[nodiscard]] int64_t until_renewal() const;
  void retry(const Error& why);
  void tell_health(const std::string& trouble);
  [[nodiscard]] bool expired() const;
  // Another SVID is being had.
  [[nodiscard]] bool busy() const { return attest_ != nullptr || renew_ != nullptr || saving_; }
  [[nodiscard]] std::string next_key() const;

  AgentKeeperParts parts_;
  std::optional<AgentSvid> svid_;
  std::optional<SvidFacts> facts_;
  std::string id_;
  NewIdentity pending_;      // obtained, being made durable
  bool taint_seen_ = false;  // the SVID's authority was tainted, and another SVID has been asked for
  bool renew_now_ = false;
  int64_t rests_until_ = 0;   // loop milliseconds: the SVID is not renewed before
  bool must_attest_ = false;  // RenewAgent would be refused
  bool denied_ = false;       // another call was, and none taken since
  bool retrying_ = false;     // after a pause, by the timer
  bool key_lost_ = false;     // what SVID there is cannot be shown
  bool banned_ = false;
  bool saving_ = false;
  bool listing_ = false;
  Backoff backoff_{1'000, 60'000};
  Backoff denials_{1'000, 60'000};
  int64_t asked_ms_ = -3'600'000;  // loop time of the last attempt; at first long ago
  std::unique_ptr<AttestFlow> attest_;
  std::unique_ptr<RenewFlow> renew_;
  Pending<std::vector<ManagedKey>> listed_;
  Pending<NewIdentity> obtained_;
  Pending<void> saved_;
  Timer timer_;
};

}  // namespace limpet::agent
