// SPDX-License-Identifier: Apache-2.0
#include "server/audit.h"

#include <unistd.h>

#include <array>
#include <vector>

#include "crypto/key.h"
#include "crypto/x509.h"
#include "store/codec.h"

namespace limpet::server {
namespace {

// The program of a process; empty when it is gone or not ours to see (another pid namespace).
std::string program_of(int32_t pid) {
  std::array<char, 4096> path{};
  const std::string link = "/proc/" + std::to_string(pid) + "/exe";
  const ssize_t size = pid > 0 ? ::readlink(link.c_str(), path.data(), path.size()) : -1;
  return size > 0 ? std::string(path.data(), static_cast<size_t>(size)) : std::string();
}

void add_caller(AuditFields& fields, const wire::Peer& peer) {
  if (peer.credentials) {
    fields["caller_uid"] = std::to_string(peer.credentials->uid);
    fields["caller_gid"] = std::to_string(peer.credentials->gid);
    if (std::string path = program_of(peer.credentials->pid); !path.empty()) fields["caller_path"] = std::move(path);
    return;
  }
  fields["caller_addr"] = peer.address.text();
  if (peer.chain.empty()) return;
  const auto certificate = Certificate::parse(peer.chain.front());
  if (certificate && !certificate->uris.empty()) fields["caller_id"] = certificate->uris.front();
}

// "/spire.api.server.entry.v1.Entry/GetEntry" -> "entry.v1.Entry" and "GetEntry"
void add_method(AuditFields& fields, std::string_view path) {
  constexpr std::string_view kPrefix = "/spire.api.server.";
  if (path.starts_with(kPrefix)) path.remove_prefix(kPrefix.size());
  const size_t slash = path.rfind('/');
  fields["service"] = path.substr(0, slash);
  fields["method"] = path.substr(slash + 1);
}

}  // namespace

AuditedCall::AuditedCall(Logger& logger, wire::ServerCall& call)
    : logger_(logger), call_(call), method_(audit_method(call.method())) {}

AuditedCall::~AuditedCall() {
  flow_.reset();
  if (told_) return;
  const bool late = call_.time_left_ms() <= 0;
  tell(fields_, late ? Code::deadline_exceeded : Code::cancelled,
       late ? "context deadline exceeded" : "context canceled");
}

void AuditedCall::authorized(const char* as, const char* via) {
  caller_["authorized_as"] = as;
  caller_["authorized_via"] = via;
}

void AuditedCall::start() {
  add_caller(caller_, call_.peer());
  add_method(caller_, call_.method());
  caller_["request_id"] = random_uuid();
  caller_["type"] = "audit";
  flow_->start();
}

void AuditedCall::receive(Done<std::optional<Bytes>> done) {
  receive_done_ = std::move(done);
  call_.receive(received_.then<&AuditedCall::on_received>(this));
}

void AuditedCall::on_received(Result<std::optional<Bytes>> message) {
  if (message && *message && !std::exchange(asked_, true)) see_request(**message);
  Done<std::optional<Bytes>> done = std::move(receive_done_);
  done(std::move(message));
}

void AuditedCall::see_request(BytesView message) {
  if (method_.items != 0) {
    batch_ = to_bytes(message);
  } else {
    read_audit_fields(fields_, method_.request, message);
  }
}

void AuditedCall::send(Bytes message, Done<void> done, bool secret) {
  if (method_.items != 0) {
    tell_items(message);
  } else if (!method_.response.empty()) {
    read_audit_fields(fields_, method_.response, message);
  }
  call_.send(std::move(message), std::move(done), secret);
}

// Each item of the request with its result, which stands at the same place in the response.
void AuditedCall::tell_items(BytesView response) {
  ProtoReader items(batch_);
  ProtoReader results(response);
  while (results.next()) {
    if (results.field() != 1) continue;
    AuditFields fields;
    while (items.next()) {
      if (items.field() != method_.items) continue;
      read_audit_fields(fields, method_.request, items.bytes());
      break;
    }
    Code status = Code::ok;
    std::string why;
    for (ProtoReader result(results.bytes()); result.next();) {
      if (result.field() != 1) continue;
      for (ProtoReader in(result.bytes()); in.next();) {
        if (in.field() == 1) status = static_cast<Code>(in.number());
        if (in.field() == 2) why = in.text();
      }
    }
    if (status == Code::ok) read_audit_fields(fields, method_.response, results.bytes());
    tell(fields, status, why);
    told_ = true;
  }
}

void AuditedCall::finish(Result<void> status) {
  if (!std::exchange(told_, true))
    tell(fields_, status ? Code::ok : status.error().code, status ? "" : status.error().message);
  call_.finish(std::move(status));
}

void AuditedCall::tell(const AuditFields& more, Code status, const std::string& message) {
  AuditFields all = more;
  all.insert(caller_.begin(), caller_.end());
  all["status"] = status == Code::ok ? "success" : "error";
  if (status != Code::ok) {
    all["status_code"] = code_name(status);
    all["status_message"] = message;
  }
  std::vector<LogField> fields;
  fields.reserve(all.size());
  for (auto& [name, value] : all) fields.push_back({name, std::move(value)});
  logger_.log(LogLevel::info, "API accessed", std::span<const LogField>(fields));
}

}  // namespace limpet::server
