// SPDX-License-Identifier: Apache-2.0
#include "wire/health_service.h"

#include <algorithm>
#include <optional>

namespace limpet::wire {
namespace {

constexpr size_t kServiceNameBytes = 1024;

std::optional<uint64_t> take_varint(BytesView& bytes) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
    const uint8_t byte = bytes.front();
    bytes = bytes.subspan(1);
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

struct Field {
  uint64_t number = 0;
  uint64_t varint = 0;
  BytesView bytes;
};

// The next field of a message with only varint, fixed and length-delimited fields.
std::optional<Field> take_field(BytesView& bytes) {
  const auto tag = take_varint(bytes);
  if (!tag || *tag >> 3 == 0) return std::nullopt;
  Field field{.number = *tag >> 3, .varint = 0, .bytes = {}};
  const unsigned type = *tag & 7u;
  if (type == 0) {
    const auto value = take_varint(bytes);
    if (!value) return std::nullopt;
    field.varint = *value;
    return field;
  }
  uint64_t size = type == 1 ? 8 : 4;
  if (type == 2) {
    const auto given = take_varint(bytes);
    if (!given) return std::nullopt;
    size = *given;
  } else if (type != 1 && type != 5) {
    return std::nullopt;
  }
  if (size > bytes.size()) return std::nullopt;
  field.bytes = bytes.first(static_cast<size_t>(size));
  bytes = bytes.subspan(static_cast<size_t>(size));
  return field;
}

Result<std::string> decode_request(BytesView message) {
  std::string service;
  while (!message.empty()) {
    const auto field = take_field(message);
    if (!field) return fail(Code::internal, "grpc: error unmarshalling request: malformed HealthCheckRequest");
    if (field->number == 1) service = as_text(field->bytes);
  }
  if (service.size() > kServiceNameBytes) return fail(Code::invalid_argument, "service name is too long");
  return service;
}

void append_bytes_field(Bytes& out, uint8_t number, BytesView bytes) {
  out.push_back(static_cast<uint8_t>(number << 3 | 2));
  for (size_t rest = bytes.size();; rest >>= 7) {
    out.push_back(static_cast<uint8_t>((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0)));
    if (rest <= 0x7f) break;
  }
  append(out, bytes);
}

Bytes encode_response(ServingStatus status) {
  if (status == ServingStatus::unknown) return {};
  return {1u << 3, static_cast<uint8_t>(status)};
}

std::string_view method_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

// What the three methods share: wait for the request, then answer.
class HealthFlow : public ServerFlow {
 public:
  explicit HealthFlow(ServerCall& call) : call_(call) {}
  void start() override { call_.receive(received_.then<&HealthFlow::on_request>(this)); }

 protected:
  virtual void handle(std::string service) = 0;
  void reply(Bytes message) { call_.send(std::move(message), sent_.then<&HealthFlow::on_sent>(this)); }
  ServerCall& call_;

 private:
  virtual void after_reply(Result<void> sent) { call_.finish(std::move(sent)); }
  void on_sent(Result<void> sent) { after_reply(std::move(sent)); }
  void on_request(Result<std::optional<Bytes>> bytes) {
    if (!bytes) return call_.finish(std::unexpected(std::move(bytes).error()));
    if (!*bytes) return call_.finish(fail(Code::internal, "unary call without a request"));
    auto service = decode_request(**bytes);
    if (!service) return call_.finish(std::unexpected(std::move(service).error()));
    handle(std::move(*service));
  }
  Pending<std::optional<Bytes>> received_;
  Pending<void> sent_;
};

class HealthCheckFlow final : public HealthFlow {
 public:
  HealthCheckFlow(ServerCall& call, HealthService& service) : HealthFlow(call), service_(service) {}

 private:
  void handle(std::string name) override {
    const ServingStatus status = service_.ask_(name);
    if (status == ServingStatus::service_unknown) return call_.finish(fail(Code::not_found, "unknown service"));
    reply(encode_response(status));
  }
  HealthService& service_;
};

class HealthListFlow final : public HealthFlow {
 public:
  HealthListFlow(ServerCall& call, HealthService& service) : HealthFlow(call), service_(service) {}

 private:
  // HealthListResponse{1 map<string, HealthCheckResponse>}
  void handle(std::string) override {
    Bytes out;
    append_entry(out, "");
    for (const std::string& name : service_.names_) append_entry(out, name);
    reply(std::move(out));
  }
  void append_entry(Bytes& out, const std::string& name) {
    Bytes entry;
    append_bytes_field(entry, 1, as_bytes(name));
    append_bytes_field(entry, 2, encode_response(service_.ask_(name)));
    append_bytes_field(out, 1, entry);
  }
  HealthService& service_;
};

// Sends the status now and at each change, for as long as the client listens.
class HealthWatchFlow final : public HealthFlow {
 public:
  HealthWatchFlow(ServerCall& call, HealthService& service) : HealthFlow(call), service_(service) {
    service_.watchers_.push_back(this);
  }
  ~HealthWatchFlow() override { std::erase(service_.watchers_, this); }
  void look() {
    if (!asked_ || sending_) return;
    const ServingStatus now = service_.ask_(name_);
    if (told_ == now) return;
    told_ = now;
    sending_ = true;
    reply(encode_response(now));
  }

 private:
  void handle(std::string name) override {
    name_ = std::move(name);
    asked_ = true;
    look();
  }
  void after_reply(Result<void> sent) override {
    sending_ = false;
    if (!sent) return call_.finish(std::move(sent));
    look();
  }
  HealthService& service_;
  std::string name_;
  std::optional<ServingStatus> told_;
  bool asked_ = false;
  bool sending_ = false;
};

HealthService::HealthService(Ask ask, std::vector<std::string> names)
    : ask_(std::move(ask)), names_(std::move(names)) {}
HealthService::~HealthService() = default;

std::unique_ptr<ServerFlow> HealthService::open(ServerCall& call) {
  const std::string_view method = method_name(call.method());
  if (method == "Check") return std::make_unique<HealthCheckFlow>(call, *this);
  if (method == "Watch") return std::make_unique<HealthWatchFlow>(call, *this);
  if (method == "List") return std::make_unique<HealthListFlow>(call, *this);
  return nullptr;
}

void HealthService::changed() {
  for (HealthWatchFlow* watcher : watchers_) watcher->look();  // only queues: no flow dies in here
}

Bytes encode_health_request(std::string_view service) {
  Bytes out;
  if (!service.empty()) append_bytes_field(out, 1, as_bytes(service));
  return out;
}

Result<ServingStatus> decode_health_response(BytesView message) {
  uint64_t status = 0;
  while (!message.empty()) {
    const auto field = take_field(message);
    if (!field) return fail(Code::internal, "malformed HealthCheckResponse");
    if (field->number == 1) status = field->varint;
  }
  return status <= 3 ? static_cast<ServingStatus>(status) : ServingStatus::unknown;
}

}  // namespace limpet::wire
