// SPDX-License-Identifier: Apache-2.0
#pragma once
// A byte stream with an HTTP/2 session on it: what servers and clients have in common. Glossary: a *turn* delivers what
// is ready to the calls, then collects what the session wants to say and writes it in one piece. A turn runs at the end
// of on_bytes(), so a unary call costs no task of its own; work that starts elsewhere schedules one. Calls are only
// ever delivered to from a turn, so nobody is called back before his own call returned. Loop thread only.

#include <memory>
#include <vector>

#include "loop/loop.h"
#include "loop/stream.h"
#include "wire/http2_session.h"

namespace limpet::wire {

// A stream that has things to deliver to its user.
class Http2Call : public Http2Stream {
 public:
  // From a turn: makes at most one call to the user, as the last thing it does, and may destroy this.
  virtual void deliver() = 0;
  bool ready = false;
};

class Http2Connection : public StreamReader, protected Http2Events {
 public:
  Http2Connection(Loop& loop, std::unique_ptr<Stream> stream, Http2Session::Side side, Http2Session::Windows windows);
  ~Http2Connection() override;
  Http2Connection(const Http2Connection&) = delete;
  Http2Connection& operator=(const Http2Connection&) = delete;

  void on_bytes(BytesView bytes) final;
  void on_end(std::optional<Error> error) final;

  [[nodiscard]] Loop& loop() { return loop_; }
  [[nodiscard]] Http2Session& session() { return session_; }
  void mark_ready(Http2Call& call);  // deliver() at the next chance
  void unlist(Http2Call& call);      // it is about to die
  void schedule();                   // a turn is wanted
  // Sends a PING after `ms` of silence and fails the connection when nothing comes back within 20 s.
  void keep_alive(int64_t ms);

 protected:
  void start_reading();
  // The connection is over; called once, from a turn or the stream. No deletion from inside.
  virtual void on_lost(Error why) = 0;
  // The turn is done and everything that could be written was.
  virtual void on_turn_end() {}
  virtual void on_protocol_error(const Error& why) {}
  // The session has nothing more to say: flush, half-close, then on_lost.
  void close_gracefully();
  void lose(Error why);
  [[nodiscard]] bool lost() const { return lost_; }
  [[nodiscard]] Stream* stream() { return stream_.get(); }
  void on_ping_answered() override {}

 private:
  void turn();
  bool deliver_all();  // false: this was destroyed
  void flush();
  void on_written(Result<void> written);
  void on_closed_down(Result<void> result);
  void on_linger_over();
  void on_keepalive();

  Loop& loop_;
  std::unique_ptr<Stream> stream_;
  Http2Session session_;
  std::vector<Http2Call*> ready_;
  Timer turn_timer_;
  Timer keepalive_timer_;
  Pending<void> written_;
  Pending<void> shut_;
  bool* gone_ = nullptr;  // set while calling out: tells that this was destroyed
  bool busy_ = false;     // inside on_bytes or a turn: one follows anyway
  bool broken_ = false;   // the peer broke the protocol
  bool closing_ = false;
  bool lost_ = false;
  bool ping_out_ = false;
  int64_t keepalive_ms_ = 0;
  int64_t last_read_ms_ = 0;
};

}  // namespace limpet::wire
