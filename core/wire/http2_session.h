// SPDX-License-Identifier: Apache-2.0
#pragma once
// nghttp2's session with an owner: bytes in through feed(), bytes out through collect(), events to the stream they
// belong to. Counts what a peer can do for free (resets, pings, settings, empty frames) against base/limits.h. Owned by
// an Http2Connection; loop thread only. Handlers must not destroy the session from inside an event.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "wire/grpc_frame.h"

struct nghttp2_session;

namespace limpet::wire {

using HeaderFields = std::vector<std::pair<std::string, std::string>>;

// One stream. Its owner tells the session (forget_stream) before it dies.
class Http2Stream {
 public:
  virtual ~Http2Stream() = default;
  virtual void on_header(std::string_view name, std::string_view value) = 0;
  virtual void on_headers_done() = 0;         // one block of headers or trailers is complete
  virtual void on_data(BytesView bytes) = 0;  // not yet given back: see Http2Session::consume
  virtual void on_peer_done() = 0;            // END_STREAM
  virtual void on_closed(uint32_t code) = 0;  // nothing follows; the id may not be used any more
  virtual void on_taken() = 0;                // bytes left the outbox

  int32_t id = 0;
  Outbox outbox;
  HeaderFields trailers;  // sent after the outbox once `ended`; none: the last DATA frame carries END_STREAM
  bool ended = false;     // nothing more will be pushed
  bool deferred = false;  // the session waits for resume()
  bool peer_done = false;
  bool answered = false;         // servers: HEADERS left
  bool header_overflow = false;  // the header list passed limits::kHeaderBytes; the rest was dropped
  size_t header_bytes = 0;
};

class Http2Events {
 public:
  virtual ~Http2Events() = default;
  // Servers: a request begins. Null refuses the stream.
  virtual Http2Stream* on_request(int32_t id) = 0;
  virtual void on_settings() = 0;  // the peer's SETTINGS arrived
  virtual void on_goaway(int32_t last_stream, uint32_t code, BytesView debug) = 0;
  virtual void on_ping_answered() = 0;
};

class Http2Session {
 public:
  enum class Side { server, client };
  struct Windows {
    int32_t stream = 65'535;       // bytes a peer may send unread, per stream
    int32_t connection = 1 << 20;  // and in all
  };
  Http2Session(Side side, Windows windows, Http2Events& events);
  Http2Session(const Http2Session&) = delete;
  Http2Session& operator=(const Http2Session&) = delete;
  ~Http2Session();

  // Takes what the peer sent. An error ends the connection once collect() has given out the GOAWAY.
  Result<void> feed(BytesView bytes, int64_t now_ms);
  // Appends up to about `limit` bytes (a frame more at most) that are ready to be sent.
  Result<void> collect(Bytes& out, size_t limit);
  [[nodiscard]] bool want_write() const;
  // Neither side has anything more to say: close.
  [[nodiscard]] bool finished() const;

  // Server: HEADERS; `end`: with END_STREAM, a trailers-only answer.
  void respond(Http2Stream& stream, const HeaderFields& fields, bool end);
  // Client: opens the stream and sets its id. False: no id is left.
  bool request(Http2Stream& stream, const HeaderFields& fields);
  void resume(Http2Stream& stream);  // the outbox or `ended` changed
  void reset(Http2Stream& stream, uint32_t code);
  void forget_stream(Http2Stream& stream);  // no more events for it
  // Gives back flow control: `count` bytes of a stream were read.
  void consume_stream(int32_t id, size_t count);

  void ping();
  void shutdown_notice();         // GOAWAY that still admits new streams
  void goaway();                  // final, with the last stream seen
  void terminate(uint32_t code);  // GOAWAY, and nothing after it

 private:
  friend struct Http2Callbacks;
  enum class Count { resets, pings, empties };
  void count(Count what);
  void flooded(const char* what);

  nghttp2_session* session_ = nullptr;
  Http2Events& events_;
  Side side_;
  Bytes* sink_ = nullptr;  // where collect() is writing
  size_t sink_limit_ = 0;
  std::string flood_;  // which bound was hit
  int64_t now_ms_ = 0;
  int64_t window_start_ms_ = 0;
  uint32_t counts_[3] = {};
};

}  // namespace limpet::wire
