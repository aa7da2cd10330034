// SPDX-License-Identifier: Apache-2.0
// Both halves of node attestation. A session is opened by its first call, because only there, on a BLOCKING plugin's
// own thread, may the plugin take its time.
#include "plugin/node_attestor.h"

#include "plugin/borrow.h"

namespace limpet {
namespace {

void on_bytes(limpet_op* op, const limpet_status* err, limpet_bytes bytes) {
  answer_op<Bytes>(op, err, [&] { return take(op->owner->label(), bytes); });
}

void refuse_open(limpet_op* op, limpet_bytes_done done) {
  const limpet_status status = {sizeof(limpet_status), LIMPET_RESOURCE_EXHAUSTED,
                                lend("the plugin could not open a session"), 0, 0};
  done(op, &status, {});
}

class AgentSession final : public NodeAttestorAgentSession {
 public:
  explicit AgentSession(std::shared_ptr<Instance> instance)
      : instance_(std::move(instance)),
        table_(instance_->table<limpet_node_attestor_agent>()),
        session_(instance_->add_session(table_->close)) {}
  ~AgentSession() override { instance_->drop_session(session_); }

  void payload(Done<Bytes> done) override {
    instance_->run<Bytes>(
        [table = table_, session = session_](limpet_instance* self, limpet_op* op) {
          if (session->raw == nullptr) session->raw = table->open(self);
          if (session->raw == nullptr) return refuse_open(op, &on_bytes);
          table->payload(session->raw, op, &on_bytes);
        },
        limits::kNodeAttestMs, std::move(done), session_);
  }

  void answer(Bytes challenge, Done<Bytes> done) override {
    instance_->run<Bytes>(
        [table = table_, session = session_, asked = std::move(challenge)](limpet_instance*, limpet_op* op) {
          if (session->raw == nullptr) return refuse_open(op, &on_bytes);
          table->answer(session->raw, op, lend(asked), &on_bytes);
        },
        limits::kNodeAttestMs, std::move(done), session_);
  }

 private:
  std::shared_ptr<Instance> instance_;  // kept with the facade, which closes it
  const limpet_node_attestor_agent* table_;
  Session* session_;
};

class Agent final : public NodeAttestorAgent {
 public:
  explicit Agent(std::shared_ptr<Instance> instance) : instance_(std::move(instance)) {}
  ~Agent() override { instance_->close(); }
  [[nodiscard]] const std::string& name() const override { return instance_->name(); }
  std::unique_ptr<NodeAttestorAgentSession> open() override { return std::make_unique<AgentSession>(instance_); }

 private:
  std::shared_ptr<Instance> instance_;
};

// ---- server half ----

Result<AttestStep> take_step(const std::string& label, const limpet_attest_step* step) {
  if (step == nullptr || !LIMPET_HAS(step, limpet_attest_step, can_reattest))
    return bad_answer(label, "no step, or a short one");
  AttestStep out;
  out.attested = step->attested != 0;
  if (!out.attested) {
    TRY_ASSIGN(out.challenge, take(label, step->challenge));
    return out;
  }
  TRY_ASSIGN(out.agent_path, take(label, step->agent_path));
  if (out.agent_path.empty() || out.agent_path[0] != '/')
    return bad_answer(label, "an agent path that does not start with '/'");
  TRY_ASSIGN(out.selectors, take(label, step->selectors));
  out.can_reattest = step->can_reattest != 0;
  return out;
}

void on_step(limpet_op* op, const limpet_status* err, const limpet_attest_step* step) {
  answer_op<AttestStep>(op, err, [&] { return take_step(op->owner->label(), step); });
}

class ServerSession final : public NodeAttestorServerSession {
 public:
  ServerSession(std::shared_ptr<Instance> instance, std::string peer_ip)
      : instance_(std::move(instance)),
        peer_ip_(std::move(peer_ip)),
        table_(instance_->table<limpet_node_attestor_server>()),
        session_(instance_->add_session(table_->close)) {}
  ~ServerSession() override { instance_->drop_session(session_); }

  void step(Bytes from_agent, Done<AttestStep> done) override {
    instance_->run<AttestStep>(
        [table = table_, session = session_, said = std::move(from_agent), ip = peer_ip_,
         domain = instance_->trust_domain()](limpet_instance* self, limpet_op* op) {
          const limpet_attempt attempt = {sizeof(limpet_attempt), 0, lend(ip), {}, lend(domain)};
          if (session->raw == nullptr) session->raw = table->open(self, &attempt);
          if (session->raw != nullptr) return table->step(session->raw, op, lend(said), &on_step);
          const limpet_status status = {sizeof(limpet_status), LIMPET_RESOURCE_EXHAUSTED,
                                        lend("the plugin could not open a session"), 0, 0};
          on_step(op, &status, nullptr);
        },
        limits::kNodeAttestMs, std::move(done), session_);
  }

 private:
  std::shared_ptr<Instance> instance_;  // kept with the facade, which closes it
  const std::string peer_ip_;
  const limpet_node_attestor_server* table_;
  Session* session_;
};

class Server final : public NodeAttestorServer {
 public:
  explicit Server(std::shared_ptr<Instance> instance) : instance_(std::move(instance)) {}
  ~Server() override { instance_->close(); }
  [[nodiscard]] const std::string& name() const override { return instance_->name(); }
  std::unique_ptr<NodeAttestorServerSession> open(const std::string& peer_ip) override {
    return std::make_unique<ServerSession>(instance_, peer_ip);
  }

 private:
  std::shared_ptr<Instance> instance_;
};

}  // namespace

std::unique_ptr<NodeAttestorAgent> make_node_attestor_agent(std::shared_ptr<Instance> instance) {
  return std::make_unique<Agent>(std::move(instance));
}
std::unique_ptr<NodeAttestorServer> make_node_attestor_server(std::shared_ptr<Instance> instance) {
  return std::make_unique<Server>(std::move(instance));
}

}  // namespace limpet
