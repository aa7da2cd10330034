// SPDX-License-Identifier: Apache-2.0
#pragma once
// TLS on a byte stream, with mbedTLS on memory buffers. TlsHandshake runs the handshake: every step is one worker job,
// one at a time per connection, and a bounded number of connections at once; the rest wait in order. What comes out is
// a Stream again, whose records are sealed and opened on the loop. Loop thread only.

#include <list>
#include <memory>
#include <vector>

#include "loop/loop.h"
#include "loop/stream.h"
#include "wire/tls.h"

namespace limpet::wire {

struct TlsConnected {
  std::unique_ptr<Stream> stream;
  std::vector<Bytes> chain;  // the peer's verified chain, leaf first; empty: it gave none
  bool http2 = true;         // ALPN chose h2
};

// Handshakes with a key outside the process, a TPM's or an HSM's: each of their steps may wait seconds for the device,
// on a worker. So few workers of libuv's four are theirs at a time, the others stay free for everybody else; who finds
// none waits here, in order, for as long as his handshake's own limit lets him. Loop thread only.
class RemoteTurns {
 public:
  static constexpr size_t kAtOnce = 2;
  class Waiter {
   public:
    virtual void on_turn() = 0;  // it has a turn now

   protected:
    ~Waiter() = default;
  };
  bool take(Waiter& waiter);    // true: at once; false: on_turn() will be called
  void give_back();             // a turn that was taken
  void forget(Waiter& waiter);  // one that waits

 private:
  std::list<Waiter*> waiting_;
  size_t taken_ = 0;
};

// What handshakes of one endpoint share: the mbedTLS configuration of the identity last seen, and the queue of those
// that wait for a turn. A member of the server or of the dial; outlives its handshakes.
class TlsContexts {
 public:
  explicit TlsContexts(TlsEndpoint endpoint = {});
  ~TlsContexts();
  TlsContexts(const TlsContexts&) = delete;
  TlsContexts& operator=(const TlsContexts&) = delete;
  struct State;  // the handshakes' own

 private:
  friend class TlsHandshake;
  std::unique_ptr<State> state_;
};

class TlsHandshake {
 public:
  virtual ~TlsHandshake() = default;  // drops the connection
  // The answer: UNAUTHENTICATED (the verifier's or the peer's objection), DEADLINE_EXCEEDED or UNAVAILABLE. The
  // handshake is destroyed by its owner after the answer.
  static std::unique_ptr<TlsHandshake> accept(Loop& loop, TlsContexts& contexts, TlsPolicy& policy,
                                              std::unique_ptr<Stream> stream, Done<TlsConnected> done);
  static std::unique_ptr<TlsHandshake> connect(Loop& loop, TlsContexts& contexts, TlsPolicy& policy,
                                               std::unique_ptr<Stream> stream, Done<TlsConnected> done);
};

}  // namespace limpet::wire
