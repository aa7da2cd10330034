// SPDX-License-Identifier: Apache-2.0
#include "wire/server_call.h"

#include <algorithm>

#include "base/cut.h"
#include "base/limits.h"
#include "wire/grpc_status.h"

namespace limpet::wire {
namespace {

// A stream holds this much unsent before send() waits.
constexpr size_t kOutboxMark = 64u << 10;
constexpr std::string_view kContentType = "application/grpc";

bool is_grpc_content_type(std::string_view type) {
  if (!type.starts_with(kContentType)) return false;
  type.remove_prefix(kContentType.size());
  return type.empty() || type.front() == '+' || type.front() == ';';
}

// nghttp2 sends no block of headers above 64 KiB: a longer status would never arrive. Percent-encoding makes three
// bytes of one.
constexpr size_t kMostMessage = 8192;
constexpr size_t kMostDetails = 16384;

HeaderFields status_fields(const Error* error) {
  HeaderFields fields;
  fields.emplace_back("grpc-status", std::to_string(error == nullptr ? 0 : static_cast<int>(error->code)));
  if (error == nullptr) return fields;
  if (!error->message.empty())
    fields.emplace_back("grpc-message", percent_encode(cut_text(error->message, kMostMessage)));
  if (!error->details.empty() && error->details.size() <= kMostDetails)
    fields.emplace_back("grpc-status-details-bin", encode_bin(error->details));
  return fields;
}

}  // namespace

ServerCallImpl::ServerCallImpl(ServerConnection& connection) : connection_(connection), deadline_(connection.loop()) {}

ServerCallImpl::~ServerCallImpl() {
  tell_over(Code::cancelled);
  connection_.unlist(*this);
  connection_.queued_bytes_ -= counted_out_;
  connection_.held_in(0 - counted_in_);
}

int64_t ServerCallImpl::time_left_ms() const {
  if (deadline_ms_ == INT64_MAX) return INT64_MAX;
  return std::max<int64_t>(0, deadline_ms_ - connection_.loop().now_ms());
}

// ---- from the peer ----

void ServerCallImpl::on_header(std::string_view name, std::string_view value) {
  if (headers_done_) return;  // trailers of a request mean nothing in gRPC
  if (name == ":path") {
    path_ = value;
  } else if (name == ":method") {
    verb_ = value;
  } else if (name == "content-type") {
    content_type_ = value;
  } else if (name == "grpc-encoding") {
    encoding_ = value;
  } else if (name == "grpc-timeout") {
    const auto timeout = parse_timeout(value);
    timeout_malformed_ = !timeout;
    if (timeout) deadline_ms_ = connection_.loop().now_ms() + *timeout;
  } else if (!name.starts_with(':') && !name.starts_with("grpc-") && name != "te") {
    metadata_.emplace_back(name, value);
    header_bytes_ += name.size() + value.size() + sizeof metadata_[0];
  }
}

void ServerCallImpl::on_headers_done() {
  if (std::exchange(headers_done_, true)) return;
  account();
  connection_.mark_ready(*this);
}

void ServerCallImpl::on_data(BytesView bytes) {
  if (finished_) return connection_.session().consume_stream(id, bytes.size());
  reader_.feed(bytes);
  account();
  if (receiving_) {
    connection_.session().consume_stream(id, bytes.size());
    connection_.mark_ready(*this);
  } else {
    unread_ += bytes.size();
  }
}

void ServerCallImpl::on_peer_done() {
  if (receiving_) connection_.mark_ready(*this);
}

void ServerCallImpl::on_closed(uint32_t) {
  closed_ = true;
  tell_over(Code::cancelled);
  connection_.mark_ready(*this);
}

void ServerCallImpl::on_taken() {
  account();
  if (sending_ && outbox.bytes() < kOutboxMark) connection_.mark_ready(*this);
}

// Keeps the connection's counters of what is held for this call.
void ServerCallImpl::account() {
  connection_.queued_bytes_ += outbox.bytes() - counted_out_;
  counted_out_ = outbox.bytes();
  const size_t held = reader_.buffered() + header_bytes_;
  connection_.held_in(held - counted_in_);
  counted_in_ = held;
}

// ---- to the flow ----

void ServerCallImpl::deliver() {
  if (closed_) return connection_.remove(*this);
  if (finished_) return flow_.reset();
  if (!opened_) return open();
  if (sending_ && outbox.bytes() < kOutboxMark) {
    sending_ = false;
    if (receiving_) connection_.mark_ready(*this);
    Done<void> done = std::move(send_done_);
    return done({});
  }
  if (receiving_) deliver_message();
}

std::optional<ServerCallImpl::Refusal> ServerCallImpl::check_headers() const {
  if (header_overflow) {
    return Refusal{"200",
                   {Code::resource_exhausted,
                    "request headers larger than max (" + std::to_string(limits::kHeaderBytes) + " bytes)"}};
  }
  if (!is_grpc_content_type(content_type_)) {
    return Refusal{"415", {Code::invalid_argument, "invalid gRPC request content-type \"" + content_type_ + '"'}};
  }
  if (verb_ != "POST") {
    return Refusal{"405",
                   {Code::internal, "Received a HEADERS frame with :method \"" + verb_ + "\" which should be POST"}};
  }
  if (timeout_malformed_) return Refusal{"400", {Code::internal, "malformed grpc-timeout"}};
  if (!encoding_.empty() && encoding_ != "identity") {
    return Refusal{"200",
                   {Code::unimplemented, "grpc: Decompressor is not installed for grpc-encoding \"" + encoding_ + '"'}};
  }
  return std::nullopt;
}

void ServerCallImpl::open() {
  opened_ = true;
  if (auto refusal = check_headers()) return end(&refusal->error, refusal->http_status);
  std::string().swap(content_type_);
  std::string().swap(verb_);
  // until its first message is there a call only holds its place
  deadline_.start<&ServerCallImpl::on_deadline>(std::min(time_left_ms(), limits::kRequestMs), this);
  auto flow = connection_.owner_.open_flow(*this);
  if (!flow) return end(&flow.error(), "200");
  flow_ = std::move(*flow);
  opened_ms_ = connection_.loop().now_ms();
  connection_.owner_.on_call_begun(*this);
  flow_->start();
}

// The status of a call that a flow answers, once.
void ServerCallImpl::tell_over(Code status) {
  const int64_t since = std::exchange(opened_ms_, -1);
  if (since >= 0) connection_.owner_.on_call_over(*this, status, connection_.loop().now_ms() - since);
}

void ServerCallImpl::deliver_message() {
  auto message = reader_.next();
  account();
  if (!message) return end(&message.error(), "200");
  if (!*message && !peer_done) {
    if (connection_.buffered_bytes_ > limits::kReceiveBytes) {
      const Error full{Code::resource_exhausted, "messages in flight on this connection exceed " +
                                                     std::to_string(limits::kReceiveBytes) + " bytes"};
      return end(&full, "200");
    }
    if (connection_.buffered_bytes_ > limits::kReceiveBytesFair &&
        connection_.owner_.held_in() > limits::kReceiveBytesInAll) {
      const Error full{Code::resource_exhausted, "messages in flight on all connections exceed " +
                                                     std::to_string(limits::kReceiveBytesInAll) + " bytes"};
      return end(&full, "200");
    }
    return;
  }
  if (!*message && reader_.buffered() > 0) {
    const Error cut{Code::internal, "unexpected EOF"};
    return end(&cut, "200");
  }
  receiving_ = false;
  if (!std::exchange(asked_, true)) {
    deadline_.stop();
    if (deadline_ms_ != INT64_MAX) deadline_.start<&ServerCallImpl::on_deadline>(time_left_ms(), this);
  }
  Done<std::optional<Bytes>> done = std::move(receive_done_);
  done(std::move(*message));
}

void ServerCallImpl::on_deadline() {
  const bool silent = !asked_ && deadline_ms_ > connection_.loop().now_ms();
  if (silent && !receiving_)  // the flow did not ask yet: a rate limit, say
    return deadline_.start<&ServerCallImpl::on_deadline>(std::min(time_left_ms(), limits::kRequestMs), this);
  const Error late{Code::deadline_exceeded,
                   silent ? "no request came within " + std::to_string(limits::kRequestMs / 1000) + " s"
                          : "context deadline exceeded"};
  end(&late, "200");
}

// ---- from the flow ----

void ServerCallImpl::receive(Done<std::optional<Bytes>> done) {
  receive_done_ = std::move(done);
  receiving_ = true;
  if (finished_ || closed_) return;
  connection_.session().consume_stream(id, std::exchange(unread_, 0));
  if (reader_.buffered() > 0 || peer_done) connection_.mark_ready(*this);
  connection_.schedule();  // the window update
}

void ServerCallImpl::send(Bytes message, Done<void> done, bool secret) {
  send_done_ = std::move(done);
  sending_ = true;
  if (finished_ || closed_) return;
  if (connection_.queued_bytes_ > limits::kSendQueueBytes) {
    const Error full{Code::resource_exhausted, "the client reads too slowly: more than " +
                                                   std::to_string(limits::kSendQueueBytes) + " bytes are unsent"};
    return end(&full, "200");
  }
  outbox.push(std::move(message), secret);
  account();
  if (!std::exchange(responded_, true)) {
    connection_.session().respond(*this, {{":status", "200"}, {"content-type", std::string(kContentType)}}, false);
  }
  connection_.session().resume(*this);
  if (outbox.bytes() < kOutboxMark) connection_.mark_ready(*this);
  connection_.schedule();
}

void ServerCallImpl::finish(Result<void> status) { end(status ? nullptr : &status.error(), "200"); }

// Sends the status and lets the flow go at the next delivery.
void ServerCallImpl::end(const Error* error, const char* http_status) {
  if (finished_ || closed_) return;
  finished_ = true;
  tell_over(error == nullptr ? Code::ok : error->code);
  deadline_.stop();
  HeaderFields fields = status_fields(error);
  if (responded_) {
    trailers = std::move(fields);
    ended = true;
    connection_.session().resume(*this);
  } else {
    responded_ = true;
    fields.insert(fields.begin(), {{":status", http_status}, {"content-type", std::string(kContentType)}});
    connection_.session().respond(*this, fields, true);
  }
  connection_.session().consume_stream(id, std::exchange(unread_, 0));
  connection_.mark_ready(*this);
}

}  // namespace limpet::wire
