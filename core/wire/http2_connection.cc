// SPDX-License-Identifier: Apache-2.0
#include "wire/http2_connection.h"

#include <algorithm>

namespace limpet::wire {
namespace {

constexpr size_t kWritePiece = 64u << 10;     // one write to the stream
constexpr size_t kUnwrittenMark = 64u << 10;  // the stream holds this much: the session waits
constexpr int64_t kLingerMs = 2'000;          // for the last bytes of a closing connection
constexpr int64_t kPingTimeoutMs = 20'000;    // grpc-go's default
constexpr int kRoundsPerTurn = 16;            // then others get the loop
constexpr size_t kDeliveriesPerRound = 4096;

}  // namespace

Http2Connection::Http2Connection(Loop& loop, std::unique_ptr<Stream> stream, Http2Session::Side side,
                                 Http2Session::Windows windows)
    : loop_(loop),
      stream_(std::move(stream)),
      session_(side, windows, *this),
      turn_timer_(loop),
      keepalive_timer_(loop),
      last_read_ms_(loop.now_ms()) {}

Http2Connection::~Http2Connection() {
  if (gone_ != nullptr) *gone_ = true;
}

void Http2Connection::start_reading() {
  stream_->read(*this);
  schedule();  // our SETTINGS
}

void Http2Connection::on_bytes(BytesView bytes) {
  if (lost_ || closing_) return;
  last_read_ms_ = loop_.now_ms();
  ping_out_ = false;
  busy_ = true;
  auto fed = session_.feed(bytes, last_read_ms_);
  busy_ = false;
  if (!fed) {
    broken_ = true;
    on_protocol_error(fed.error());
  }
  turn();
}

void Http2Connection::on_end(std::optional<Error> error) {
  if (closing_) {
    stream_->pause();
    return;
  }
  std::string why = "error reading from server: ";
  why += error ? error->message : "EOF";
  lose(Error{Code::unavailable, std::move(why)});
}

void Http2Connection::mark_ready(Http2Call& call) {
  if (call.ready) return;
  call.ready = true;
  ready_.push_back(&call);
  schedule();
}

void Http2Connection::unlist(Http2Call& call) {
  if (!call.ready) return;
  std::replace(ready_.begin(), ready_.end(), &call, static_cast<Http2Call*>(nullptr));
}

void Http2Connection::schedule() {
  if (!busy_ && !turn_timer_.running()) turn_timer_.start<&Http2Connection::turn>(0, this);
}

void Http2Connection::turn() {
  turn_timer_.stop();
  busy_ = true;
  int rounds = 0;
  do {
    if (!deliver_all()) return;
    flush();
  } while (!ready_.empty() && ++rounds < kRoundsPerTurn);
  busy_ = false;
  if (!ready_.empty()) {
    schedule();
  } else {
    std::vector<Http2Call*>().swap(ready_);  // idle connections hold no buffers
  }
  if (lost_) {
    stream_.reset();
  } else if (broken_) {
    close_gracefully();  // the GOAWAY is written
  } else {
    on_turn_end();
  }
}

bool Http2Connection::deliver_all() {
  bool gone = false;
  gone_ = &gone;
  size_t i = 0;
  for (; i < ready_.size() && i < kDeliveriesPerRound; ++i) {  // deliveries may add more
    Http2Call* call = std::exchange(ready_[i], nullptr);
    if (call == nullptr) continue;
    call->ready = false;
    call->deliver();
    if (gone) return false;
  }
  gone_ = nullptr;
  ready_.erase(ready_.begin(), ready_.begin() + static_cast<ptrdiff_t>(i));
  return true;
}

void Http2Connection::flush() {
  while (!lost_ && !closing_ && stream_->queued() < kUnwrittenMark) {
    Bytes out;
    out.reserve(512);
    if (auto collected = session_.collect(out, kWritePiece); !collected) {
      return lose(Error{Code::unavailable, collected.error().message});
    }
    if (out.empty()) return;
    // The answer is only of use when the next flush might have to wait for it.
    const bool tell = stream_->queued() + out.size() >= kUnwrittenMark || session_.want_write();
    stream_->write(std::move(out), tell ? written_.then<&Http2Connection::on_written>(this) : Done<void>());
  }
}

void Http2Connection::on_written(Result<void> written) {
  if (!written) return lose(Error{Code::unavailable, "error writing: " + written.error().message});
  turn();
}

void Http2Connection::close_gracefully() {
  if (closing_ || lost_) return;
  closing_ = true;
  turn_timer_.stop();
  keepalive_timer_.start<&Http2Connection::on_linger_over>(kLingerMs, this);
  stream_->shutdown(shut_.then<&Http2Connection::on_closed_down>(this));
}

void Http2Connection::on_closed_down(Result<void>) {
  closing_ = false;
  lose(Error{Code::unavailable, "the connection is closing"});
}
void Http2Connection::on_linger_over() { on_closed_down({}); }

void Http2Connection::lose(Error why) {
  if (std::exchange(lost_, true)) return;
  keepalive_timer_.stop();
  stream_->pause();
  schedule();
  on_lost(std::move(why));
}

void Http2Connection::keep_alive(int64_t ms) {
  keepalive_ms_ = ms;
  if (ms > 0 && !lost_ && !closing_) keepalive_timer_.start<&Http2Connection::on_keepalive>(ms, this);
}

void Http2Connection::on_keepalive() {
  const int64_t silence = loop_.now_ms() - last_read_ms_;
  if (ping_out_) return lose(Error{Code::unavailable, "keepalive ping failed to receive ACK within timeout"});
  if (silence < keepalive_ms_) {
    keepalive_timer_.start<&Http2Connection::on_keepalive>(keepalive_ms_ - silence, this);
    return;
  }
  ping_out_ = true;
  session_.ping();
  schedule();
  keepalive_timer_.start<&Http2Connection::on_keepalive>(kPingTimeoutMs, this);
}

}  // namespace limpet::wire
