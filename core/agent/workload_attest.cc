// SPDX-License-Identifier: Apache-2.0
#include "agent/workload_attest.h"

#include <utility>

#include "wire/peer_info.h"

namespace limpet::agent {

class WorkloadAttest::Asked {
 public:
  Asked(WorkloadAttest& owner, WorkloadAttestor& attestor) : owner_(owner), attestor_(attestor) {}
  void start(const WorkloadReference& workload) { attestor_.attest(workload, answer_.then<&Asked::on_answer>(this)); }
  [[nodiscard]] const std::string& name() const { return attestor_.name(); }
  [[nodiscard]] bool waiting() const { return answer_.armed(); }

 private:
  void on_answer(Result<std::vector<std::string>> values) { owner_.on_answer(*this, std::move(values)); }
  WorkloadAttest& owner_;
  WorkloadAttestor& attestor_;
  Pending<std::vector<std::string>> answer_;
};

WorkloadAttest::WorkloadAttest(Loop& loop, Logger& log, const std::vector<WorkloadAttestor*>& attestors,
                               Metrics& metrics)
    : loop_(loop), log_(log), attestors_(attestors), metrics_(metrics), deadline_(loop) {}
WorkloadAttest::~WorkloadAttest() = default;

void WorkloadAttest::start(const wire::Peer& peer, Done<SelectorSet> done) {
  peer_ = &peer;
  asked_ms_ = loop_.now_ms();
  done_ = std::move(done);
  if (!peer.credentials || attestors_.empty()) {
    deadline_.start<&WorkloadAttest::end>(0, this);
    return;
  }
  deadline_.start<&WorkloadAttest::on_deadline>(kDeadlineMs, this);
  WorkloadReference workload;
  workload.pid = peer.credentials->pid;
  workload.pidfd = peer.pidfd;
  workload.uid = peer.credentials->uid;
  workload.gid = peer.credentials->gid;
  waiting_ = attestors_.size();
  for (WorkloadAttestor* attestor : attestors_) {
    asked_.push_back(std::make_unique<Asked>(*this, *attestor));
    asked_.back()->start(workload);
  }
}

void WorkloadAttest::on_answer(Asked& asked, Result<std::vector<std::string>> values) {
  metrics_.call("workload_api_workload_attestor", values ? Code::ok : values.error().code, loop_.now_ms() - asked_ms_,
                {{"attestor", asked.name()}});
  if (!values)
    log_.from_stranger(LogLevel::warn, "A workload attestor failed",
                       {{"attestor", asked.name()},
                        {"pid", std::to_string(peer_->credentials->pid)},
                        {"error", values.error().text()}});
  else
    for (std::string& value : *values) selectors_.push_back({asked.name(), std::move(value)});
  answered_ = answered_ || values.has_value();
  if (--waiting_ == 0) end();
}

void WorkloadAttest::on_deadline() {
  for (const auto& asked : asked_)
    if (asked->waiting())
      log_.from_stranger(LogLevel::warn, "A workload attestor did not answer within 10 s",
                         {{"attestor", asked->name()}});
  end();
}

void WorkloadAttest::end() {
  Done<SelectorSet> done = std::move(done_);  // its call may destroy this
  const bool known = wire::is_still_the_same(*peer_) && (answered_ || asked_.empty());
  metrics_.call("workload_api_workload_attestation", known ? Code::ok : Code::unavailable, loop_.now_ms() - asked_ms_);
  if (!known) return done(fail(Code::unavailable, "workload attestation failed"));
  metrics_.sample("workload_api_discovered_selectors", static_cast<double>(selectors_.size()));
  done(make_selector_set(std::move(selectors_)));
}

}  // namespace limpet::agent
