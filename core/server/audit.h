// SPDX-License-Identifier: Apache-2.0
#pragma once
// The audit log (audit_log_enabled): one record for every call of a server API, and one for each item of a batch, with
// SPIRE's field names: who called, as whom, what, and how it ended. Calls that are refused are told as well, which
// SPIRE leaves out. An AuditedCall stands between a call and the gate and looks at what passes; loop thread only.

#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "report/log.h"
#include "server/audit_fields.h"
#include "wire/grpc.h"

namespace limpet::server {

class AuditedCall final : public wire::ServerFlow, public wire::ServerCall {
 public:
  AuditedCall(Logger& logger, wire::ServerCall& call);
  ~AuditedCall() override;  // tells of a call that went away before it was answered
  // The flow that answers; it sees this object as its call. Before start().
  void set_flow(std::unique_ptr<wire::ServerFlow> flow) { flow_ = std::move(flow); }
  // What the gate found out: "admin" by "entries".
  void authorized(const char* as, const char* via);

  // ServerFlow
  void start() override;

  // ServerCall
  [[nodiscard]] std::string_view method() const override { return call_.method(); }
  [[nodiscard]] const wire::Peer& peer() const override { return call_.peer(); }
  [[nodiscard]] const wire::Metadata& metadata() const override { return call_.metadata(); }
  [[nodiscard]] int64_t time_left_ms() const override { return call_.time_left_ms(); }
  void receive(Done<std::optional<Bytes>> done) override;
  void send(Bytes message, Done<void> done, bool secret) override;
  void finish(Result<void> status) override;

 private:
  void on_received(Result<std::optional<Bytes>> message);
  void see_request(BytesView message);
  void tell_items(BytesView response);
  void tell(const AuditFields& more, Code status, const std::string& message);

  Logger& logger_;
  wire::ServerCall& call_;
  const AuditMethod& method_;
  AuditFields caller_;  // who, what, and the request's id: of every record
  AuditFields fields_;  // of the messages, where it is no batch
  Bytes batch_;         // the request, where it is one
  bool asked_ = false;  // the first message came
  bool told_ = false;
  Done<std::optional<Bytes>> receive_done_;
  Pending<std::optional<Bytes>> received_;
  std::unique_ptr<wire::ServerFlow> flow_;  // last: it refers to all this
};

}  // namespace limpet::server
