// SPDX-License-Identifier: Apache-2.0
#include <nghttp2/nghttp2.h>

#include <charconv>

#include "wire/client_channel.h"
#include "wire/grpc_status.h"

namespace limpet::wire {
namespace {

constexpr size_t kOutboxMark = 64u << 10;  // unsent bytes before send() waits

HeaderFields request_fields(const std::string& authority, std::string_view method, const CallOptions& options,
                            bool encrypted) {
  HeaderFields fields{
      {":method", "POST"},       {":scheme", encrypted ? "https" : "http"}, {":path", std::string(method)},
      {":authority", authority}, {"content-type", "application/grpc"},      {"user-agent", "limpet/" LIMPET_VERSION},
      {"te", "trailers"},
  };
  if (options.timeout_ms > 0) fields.emplace_back("grpc-timeout", format_timeout(options.timeout_ms));
  for (const auto& field : options.metadata) fields.push_back(field);
  return fields;
}

}  // namespace

ClientCallImpl::ClientCallImpl(Loop& loop, ClientChannel* channel, std::string_view method, CallOptions options,
                               Error refused)
    : channel_(channel), deadline_(loop), wake_timer_(loop) {
  if (channel_ != nullptr) {
    const auto fields = request_fields(channel_->authority_, method, options, !channel_->peer_chain_.empty());
    if (!channel_->session().request(*this, fields)) channel_ = nullptr;
  }
  if (channel_ == nullptr) {
    end(std::move(refused));
  } else if (options.timeout_ms > 0) {
    deadline_.start<&ClientCallImpl::on_deadline>(options.timeout_ms, this);
  }
}

ClientCallImpl::~ClientCallImpl() { cancel_stream(); }

// Lets go of the channel; a stream that is still open is cancelled.
void ClientCallImpl::cancel_stream() {
  ClientChannel* channel = std::exchange(channel_, nullptr);
  if (channel == nullptr) return;
  channel->unlist(*this);
  ready = false;
  channel->session().forget_stream(*this);
  channel->session().reset(*this, NGHTTP2_CANCEL);
  channel->calls_.erase(id);
  channel->schedule();
}

void ClientCallImpl::wake() {
  if (channel_ != nullptr) {
    channel_->mark_ready(*this);
  } else if (!wake_timer_.running()) {
    wake_timer_.start<&ClientCallImpl::on_wake>(0, this);
  }
}

// ---- from the user ----

void ClientCallImpl::send(Bytes message, Done<void> done) {
  send_done_ = std::move(done);
  sending_ = true;
  if (channel_ == nullptr || end_) return wake();
  outbox.push(std::move(message), false);
  channel_->session().resume(*this);
  if (outbox.bytes() < kOutboxMark) wake();
  channel_->schedule();
}

void ClientCallImpl::close_send() {
  ended = true;
  if (channel_ == nullptr) return;
  channel_->session().resume(*this);
  channel_->schedule();
}

void ClientCallImpl::receive(Done<std::optional<Bytes>> done) {
  receive_done_ = std::move(done);
  receiving_ = true;
  if (channel_ != nullptr) {
    channel_->session().consume_stream(id, std::exchange(unread_, 0));
    channel_->schedule();
  }
  if (end_ || peer_done || reader_.buffered() > 0) wake();
}

// ---- from the peer ----

void ClientCallImpl::on_header(std::string_view name, std::string_view value) {
  if (name == ":status") {
    http_status_ = value;
  } else if (name == "content-type") {
    content_type_ = value;
  } else if (name == "grpc-status") {
    status_ = parse_status(value);
  } else if (name == "grpc-message") {
    error_.message = percent_decode(value);
  } else if (name == "grpc-status-details-bin") {
    if (auto details = decode_bin(value)) error_.details = std::move(*details);
  }
}

void ClientCallImpl::on_data(BytesView bytes) {
  if (end_) return channel_->session().consume_stream(id, bytes.size());
  reader_.feed(bytes);
  if (receiving_) {
    channel_->session().consume_stream(id, bytes.size());
    channel_->mark_ready(*this);
  } else {
    unread_ += bytes.size();
  }
}

void ClientCallImpl::on_peer_done() { wake(); }

void ClientCallImpl::on_closed(uint32_t code) {
  ClientChannel* channel = channel_;
  channel->unlist(*this);
  ready = false;
  channel->calls_.erase(id);
  channel_ = nullptr;
  if (!peer_done && !end_) end_ = error_for_reset(code);
  deadline_.stop();
  wake();
}

void ClientCallImpl::on_taken() {
  if (sending_ && outbox.bytes() < kOutboxMark) wake();
}

void ClientCallImpl::on_deadline() {
  end(Error{Code::deadline_exceeded, "context deadline exceeded"});
  cancel_stream();
  wake();
}

// ---- the end ----

void ClientCallImpl::fail_with(Error why) {
  if (!peer_done) end(std::move(why));
  wake();
}

void ClientCallImpl::end(Error status) {
  if (!end_) end_ = std::move(status);
  deadline_.stop();
}

// What the headers and trailers add up to once the server has ended the stream.
Error ClientCallImpl::final_status() const {
  if (header_overflow) {
    return Error{Code::internal, "peer header list size exceeded limit"};
  }
  if (status_) return Error{*status_, error_.message, error_.details};
  int http_status = 0;
  std::from_chars(http_status_.data(), http_status_.data() + http_status_.size(), http_status);
  if (http_status != 200 || !content_type_.starts_with("application/grpc")) {
    return error_for_http_status(http_status, content_type_);
  }
  return Error{Code::internal, "server closed the stream without sending trailers"};
}

// ---- to the user ----

void ClientCallImpl::deliver() {
  if (sending_ && (end_ || peer_done || channel_ == nullptr || outbox.bytes() < kOutboxMark)) {
    sending_ = false;
    if (receiving_) wake();
    Done<void> done = std::move(send_done_);
    // As in grpc-go a send on a call that ended only says so; receive() has the status.
    if (end_ || peer_done || channel_ == nullptr) return done(fail(Code::unavailable, "EOF"));
    return done({});
  }
  if (!receiving_) return;
  std::optional<Bytes> message;
  if (!end_ || end_->code == Code::ok) {
    auto next = reader_.next();
    if (!next) {
      end(std::move(next).error());
      cancel_stream();
    } else if (*next) {
      message = std::move(*next);
    } else if (peer_done) {
      end(reader_.buffered() > 0 ? Error{Code::internal, "unexpected EOF"} : final_status());
    } else if (!end_) {
      return;  // more has to come
    }
  }
  receiving_ = false;
  Done<std::optional<Bytes>> done = std::move(receive_done_);
  if (message) return done(std::move(message));
  if (end_->code == Code::ok) return done(std::optional<Bytes>());
  done(std::unexpected(*end_));
}

}  // namespace limpet::wire
