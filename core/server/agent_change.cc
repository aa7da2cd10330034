// SPDX-License-Identifier: Apache-2.0
// DeleteAgent and BanAgent: read the record, write what becomes of it, again when somebody else was faster.
#include "proto/google/protobuf/empty.pb.h"
#include "proto/spire_agent.pb.h"
#include "server/agent_api.h"
#include "server/wire_values.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

constexpr int kAttempts = 8;

template <class Request>
class ChangeAgentFlow : public wire::UnaryFlow<Request, google_protobuf_Empty> {
 public:
  ChangeAgentFlow(Context& context, wire::ServerCall& call)
      : wire::UnaryFlow<Request, google_protobuf_Empty>(call), context_(context) {}

 protected:
  virtual void change(ChangeSet& changes, const Snapshot& snapshot, const AgentRow& row) = 0;
  [[nodiscard]] virtual std::string_view what() const = 0;  // "remove agent"
  Context& context_;

 private:
  void handle(const Request& request) override {
    auto id = wire::read_id(request.has_id, request.id);
    if (id) {
      if (auto good = check_agent_id(*id, context_.trust_domain); !good) id = std::unexpected(std::move(good).error());
    }
    if (!id) return this->refuse({Code::invalid_argument, "invalid agent ID: " + id.error().message});
    id_ = id->text();
    attempt();
  }
  void attempt() {
    ChangeSet changes;
    {
      Snapshot snapshot = context_.store.read();
      auto row = find_agent(snapshot, id_);
      if (!row && row.error().code == Code::not_found) return this->refuse({Code::not_found, "agent not found"});
      if (!row) return this->refuse({Code::internal, failed(row.error())});
      change(changes, snapshot, *row);
    }
    context_.store.commit(std::move(changes), committed_.template then<&ChangeAgentFlow::on_committed>(this));
  }
  void on_committed(Result<uint64_t> revision) {
    if (!revision && revision.error().code == Code::aborted && ++attempts_ < kAttempts) return attempt();
    if (!revision) return this->refuse({Code::internal, failed(revision.error())});
    context_.logger.info("Agent changed", {{"action", std::string(what())}, {"spiffe_id", id_}});
    this->reply(wire::Message<google_protobuf_Empty>());
  }
  [[nodiscard]] std::string failed(const Error& error) const {
    return "failed to " + std::string(what()) + ": " + error.message;
  }

  std::string id_;
  int attempts_ = 0;
  Pending<uint64_t> committed_;
};

class BanAgentFlow final : public ChangeAgentFlow<spire_api_server_agent_v1_BanAgentRequest> {
 public:
  using ChangeAgentFlow::ChangeAgentFlow;

 private:
  void change(ChangeSet& changes, const Snapshot&, const AgentRow& row) override {
    AgentRecord banned = row.agent;
    banned.serial.clear();
    banned.new_serial.clear();
    banned.new_not_after = 0;
    AgentTable::update(changes, row, banned);
  }
  [[nodiscard]] std::string_view what() const override { return "ban agent"; }
};

class DeleteAgentFlow final : public ChangeAgentFlow<spire_api_server_agent_v1_DeleteAgentRequest> {
 public:
  using ChangeAgentFlow::ChangeAgentFlow;

 private:
  void change(ChangeSet& changes, const Snapshot& snapshot, const AgentRow& row) override {
    AgentTable::remove(changes, row);
    if (row.agent.attestation_type != "join_token") return;
    // the alias that CreateJoinToken made for this agent is of no use to any other one
    const auto agent = SpiffeId::parse(row.agent.id);
    if (!agent) return;
    for (const Entry* child : context_.index.children_of(*agent)) {
      const auto entry = find_entry(snapshot, child->id);
      if (entry && is_alias(entry->entry, *agent)) EntryTable::remove(changes, *entry);
      if (entry || entry.error().code == Code::not_found) continue;
      context_.logger.warn("Alias entry of a deleted agent not looked for", {{"error", entry.error().text()}});
    }
  }
  static bool is_alias(const Entry& entry, const SpiffeId& agent) {
    return entry.parent_id.text() == agent.text() && entry.selectors == SelectorSet{{"spiffe_id", agent.text()}};
  }
  [[nodiscard]] std::string_view what() const override { return "remove agent"; }
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_ban_agent(Context& context, wire::ServerCall& call) {
  return std::make_unique<BanAgentFlow>(context, call);
}
std::unique_ptr<wire::ServerFlow> open_delete_agent(Context& context, wire::ServerCall& call) {
  return std::make_unique<DeleteAgentFlow>(context, call);
}

}  // namespace limpet::server
