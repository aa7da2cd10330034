// SPDX-License-Identifier: Apache-2.0
#pragma once
// TLS handshakes in one process, both ends on one real loop, for tests that have many at once.

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "loop/fake_stream.h"
#include "loop/uv_loop.h"
#include "wire/tls_session.h"

namespace limpet::wire {

struct Side {
  std::optional<Result<TlsConnected>> result;
  std::unique_ptr<TlsHandshake> handshake;
  Pending<TlsConnected> pending;
  std::move_only_function<void()> told;  // once there is a result
  void on_done(Result<TlsConnected> got) {
    result = std::move(got);
    if (told) told();
  }
};

struct Pair {
  TlsContexts client_contexts;  // one a dial, as dials have it
  Side server, client;

  void start(UvLoop& loop, TlsContexts& server_contexts, TlsPolicy& server_policy, TlsPolicy& client_policy) {
    auto streams = connect_memory(loop);
    server.handshake = TlsHandshake::accept(loop, server_contexts, server_policy, std::move(streams.b),
                                            server.pending.then<&Side::on_done>(&server));
    client.handshake = TlsHandshake::connect(loop, client_contexts, client_policy, std::move(streams.a),
                                             client.pending.then<&Side::on_done>(&client));
  }
  [[nodiscard]] bool done() const { return server.result && client.result; }
};

inline bool all_done(const std::vector<std::unique_ptr<Pair>>& pairs) {
  return std::ranges::all_of(pairs, [](const auto& pair) { return pair->done(); });
}

// A timer that goes off again and again, and counts.
struct Ticker {
  explicit Ticker(UvLoop& l, int64_t ms = 1) : loop(l), every_ms(ms), timer(l) {}
  void on_time() {
    ++turns;
    if (until()) return loop.stop();
    timer.start<&Ticker::on_time>(every_ms, this);
  }
  // Runs the loop until it holds, looking at each tick; the test's own time limit is the only one.
  void run(std::move_only_function<bool()> condition) {
    until = std::move(condition);
    timer.start<&Ticker::on_time>(0, this);
    loop.run();
  }
  UvLoop& loop;
  const int64_t every_ms;
  Timer timer;
  std::move_only_function<bool()> until;
  size_t turns = 0;
};

}  // namespace limpet::wire
