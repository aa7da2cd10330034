// SPDX-License-Identifier: Apache-2.0
#include "server/authorization.h"

#include <algorithm>

#include "server/audit.h"
#include "server/methods.h"
#include "store/codec.h"

namespace limpet::server {
namespace {

constexpr int kAttempts = 5;  // renewals that may be promoted at the same moment

// "authorization denied for method ..." with or without a reason.
Error denied(std::string_view method) {
  return {Code::permission_denied, "authorization denied for method " + std::string(method)};
}

Result<SpiffeId> caller_id(const Certificate& certificate) {
  if (certificate.uris.empty()) return fail(Code::unauthenticated, "client certificate has no URI SAN");
  if (certificate.uris.size() > 1) return fail(Code::unauthenticated, "client certificate has more than one URI SAN");
  auto id = SpiffeId::parse(certificate.uris.front());
  if (!id) return fail(Code::unauthenticated, "client certificate has a malformed URI SAN: " + id.error().message);
  return id;
}

class GateFlow final : public wire::ServerFlow {
 public:
  // `audit` is null when nobody keeps an audit log.
  GateFlow(Context& context, Api& api, wire::ServerCall& call, uint8_t allowed, AuditedCall* audit)
      : context_(context), api_(api), call_(call), allowed_(allowed), audit_(audit) {}

  // 1. who is it, and does that suffice? In order of cost.
  void start() override {
    if (auto known = identify(); !known) return call_.finish(std::unexpected(std::move(known).error()));
    if (allowed_ & kAny) return proceed("nobody", "");
    if (caller_.local) return (allowed_ & kLocal) ? proceed("local", "transport") : refuse(denied(call_.method()));
    // An agent that is late is told so (check_agent); an administrator's SVID simply counts no longer.
    const bool late = caller_.certificate && context_.clock.now() > caller_.certificate->not_after;
    if ((allowed_ & kAdmin) && !late) {
      if (const char* via = admin_via()) {
        caller_.admin = true;
        return proceed("admin", via);
      }
    }
    if ((allowed_ & kDownstream) && !late && has_entry(&Entry::downstream)) {
      caller_.downstream = true;
      return proceed("downstream", "entries");
    }
    if (allowed_ & kAgent) return check_agent();
    refuse(denied(call_.method()));
  }

 private:
  Result<void> identify() {
    const wire::Peer& peer = call_.peer();
    caller_.local = peer.address.unix_socket;
    if (caller_.local || peer.chain.empty()) return {};
    TRY_ASSIGN(Certificate certificate, Certificate::parse(peer.chain.front()));
    TRY_ASSIGN(caller_.id, caller_id(certificate));
    caller_.certificate = std::move(certificate);
    return {};
  }

  [[nodiscard]] bool has_entry(bool Entry::* flag) const {
    if (caller_.id.empty()) return false;
    auto entries = context_.index.with_spiffe_id(caller_.id);
    return std::ranges::any_of(entries, [&](const Entry* entry) { return entry->*flag; });
  }
  // What makes the caller an administrator; null: nothing does.
  [[nodiscard]] const char* admin_via() const {
    if (caller_.id.empty()) return nullptr;
    const auto& ids = context_.config.admin_ids;
    if (std::ranges::find(ids, caller_.id.text()) != ids.end()) return "config";
    return has_entry(&Entry::admin) ? "entries" : nullptr;
  }

  // 2. the agent's record decides
  void check_agent() {
    if (!caller_.certificate)
      return refuse({Code::permission_denied, denied(call_.method()).message}, "caller does not have an X509-SVID");
    if (context_.clock.now() > caller_.certificate->not_after)
      return refuse_agent(DeniedReason::agent_expired, "agent SVID has expired");
    auto row = find_agent(context_.store.read(), caller_.id.text());
    if (!row && row.error().code == Code::not_found)
      return refuse_agent(DeniedReason::agent_not_attested, "agent is not attested");
    if (!row)
      return call_.finish(std::unexpected(std::move(row).error().within("unable to look up agent information")));
    if (row->agent.banned()) return refuse_agent(DeniedReason::agent_banned, "agent is banned");
    caller_.agent_selectors = row->agent.selectors;
    std::string serial = caller_.certificate->serial_decimal();
    if (serial == row->agent.serial) return admit_agent();
    if (serial == row->agent.new_serial) return promote(*row);
    refuse_agent(DeniedReason::agent_not_active, "agent SVID is not active");
  }
  // 3. first use of a renewed SVID: from now on the old one is refused, which has to be on disk before the call goes on
  void promote(const AgentRow& row) {
    AgentRecord agent = row.agent;
    agent.serial = std::exchange(agent.new_serial, {});
    agent.not_after = std::exchange(agent.new_not_after, 0);
    ChangeSet changes;
    AgentTable::update(changes, row, agent);
    context_.store.commit(std::move(changes), promoted_.then<&GateFlow::on_promoted>(this));
  }
  void on_promoted(Result<uint64_t> revision) {
    if (revision) return admit_agent();
    if (revision.error().code == Code::aborted && ++attempts_ < kAttempts) return check_agent();
    // The disk is full or read-only: the agent is who it says all the same, and its old SVID stays valid until this
    // works.
    context_.logger.warn("New agent SVID not made the current one, trying again at the next call",
                         {{"caller_id", caller_.id.text()}, {"error", revision.error().text()}});
    admit_agent();
  }
  void admit_agent() {
    caller_.agent = true;
    proceed("agent", "datastore");
  }

  // 4. the API answers
  void proceed(const char* as, const char* via) {
    if (audit_ != nullptr) audit_->authorized(as, via);
    flow_ = api_.open(call_, caller_);
    if (flow_ != nullptr) return flow_->start();
    std::string_view method = call_.method();
    size_t slash = method.rfind('/');
    call_.finish(fail(Code::unimplemented, "unknown method " + std::string(method.substr(slash + 1)) + " for service " +
                                               std::string(method.substr(1, slash - 1))));
  }

  void refuse_agent(DeniedReason reason, std::string_view why) {
    refuse(permission_denied(denied(call_.method()).message, reason), why);
  }
  void refuse(Error error, std::string_view why = "caller not allowed") {
    context_.logger.from_stranger(LogLevel::warn, "Call refused",
                                  {{"method", std::string(call_.method())},
                                   {"caller_addr", call_.peer().address.text()},
                                   {"caller_id", caller_.id.text()},
                                   {"reason", std::string(why)}});
    call_.finish(std::unexpected(std::move(error)));
  }

  Context& context_;
  Api& api_;
  wire::ServerCall& call_;
  uint8_t allowed_;
  AuditedCall* audit_;
  Caller caller_;
  int attempts_ = 0;
  Pending<uint64_t> promoted_;
  std::unique_ptr<wire::ServerFlow> flow_;  // last: it refers to caller_
};

}  // namespace

Error permission_denied(std::string message, DeniedReason reason) {
  ProtoWriter details;
  details.number(1, static_cast<int64_t>(reason));
  ProtoWriter any;
  any.text(1, "type.googleapis.com/spire.api.types.PermissionDeniedDetails");
  any.bytes(2, details.view());
  ProtoWriter status;
  status.number(1, static_cast<int64_t>(Code::permission_denied));
  status.text(2, message);
  status.item(3, any.view());
  return {Code::permission_denied, std::move(message), status.take()};
}

std::unique_ptr<wire::ServerFlow> GatedService::open(wire::ServerCall& call) {
  uint8_t allowed = allowed_callers(call.method());
  if (allowed == 0) return nullptr;
  if (!context_.config.audit_log_enabled) return std::make_unique<GateFlow>(context_, api_, call, allowed, nullptr);
  auto audited = std::make_unique<AuditedCall>(context_.logger, call);
  audited->set_flow(std::make_unique<GateFlow>(context_, api_, *audited, allowed, audited.get()));
  return audited;
}

}  // namespace limpet::server
