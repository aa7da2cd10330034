// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the tests of streams share: an end that remembers what it read and how its writes went. Loop thread only.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loop/stream.h"

namespace limpet {

// One end of a connection: owns the stream, keeps all it read, and calls `changed` after each event.
class StreamEnd final : public StreamReader {
 public:
  explicit StreamEnd(std::unique_ptr<Stream> s = nullptr) { take(std::move(s)); }

  void take(std::unique_ptr<Stream> s) {
    stream = std::move(s);
    if (stream != nullptr && reads) stream->read(*this);
  }
  void write(std::string_view text) {
    writes.push_back(std::make_unique<Wait>(*this));
    stream->write(to_bytes(text), writes.back()->pending.then<&Wait::on_done>(writes.back().get()));
  }
  void shutdown() {
    writes.push_back(std::make_unique<Wait>(*this));
    stream->shutdown(writes.back()->pending.then<&Wait::on_done>(writes.back().get()));
  }

  void on_bytes(BytesView bytes) override {
    got += as_text(bytes);
    largest = std::max(largest, bytes.size());
    if (got.size() >= close_after) stream.reset();
    if (changed) changed();
  }
  void on_end(std::optional<Error> error) override {
    end = error ? error->message : "end";
    ends++;
    if (close_at_end) stream.reset();
    if (changed) changed();
  }

  struct Wait {
    explicit Wait(StreamEnd& e) : owner(e) {}
    void on_done(Result<void> result) {
      owner.results.push_back(result ? "ok" : result.error().message);
      if (owner.changed) owner.changed();
    }
    StreamEnd& owner;
    Pending<void> pending;
  };

  std::string got;
  std::string end;  // "end", or the error's message; empty: not ended
  int ends = 0;
  size_t largest = 0;                // most bytes in one on_bytes()
  std::vector<std::string> results;  // of writes and shutdowns, in order of their answers
  size_t close_after = SIZE_MAX;     // destroys the stream inside on_bytes()
  bool close_at_end = false;         // destroys the stream inside on_end()
  bool reads = true;
  std::function<void()> changed;
  std::vector<std::unique_ptr<Wait>> writes;
  std::unique_ptr<Stream> stream;
};

}  // namespace limpet
