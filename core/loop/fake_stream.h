// SPDX-License-Identifier: Apache-2.0
#pragma once
// Two connected streams in one process, for tests of everything that speaks over a Stream: no sockets, and on a
// FakeLoop nothing moves before the test says so. Each end is owned and destroyed like any stream; the other end then
// reads what was already in the pipe, and the end of the stream after it. Loop thread only.
//
//   MemoryPair pair = connect_memory(loop);
//   pair.a->chunk = 1;                 // what a's reader gets, byte by byte
//   Http2 client(std::move(pair.a)), server(std::move(pair.b));
//   loop.run_ready();

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "loop/stream.h"

namespace limpet {

struct MemoryLink;

class MemoryStream final : public Stream {
 public:
  MemoryStream(std::shared_ptr<MemoryLink> link, int side);
  ~MemoryStream() override;

  void read(StreamReader& reader) override;
  void pause() override;
  void write(Bytes bytes, Done<void> done) override;
  void shutdown(Done<void> done) override;
  [[nodiscard]] size_t queued() const override;
  [[nodiscard]] const StreamAddress& peer_address() const override { return address; }
  [[nodiscard]] std::optional<PeerCredentials> credentials() const override { return peer; }
  [[nodiscard]] int descriptor() const override { return -1; }

  // The connection breaks: both readers get an error at once, what was on its way is lost, writes fail.
  void cut();

  // Knobs, at any time. What this end sees of its peer:
  StreamAddress address{.unix_socket = true, .ip = {}, .port = 0};
  std::optional<PeerCredentials> peer = PeerCredentials{};
  size_t chunk = 64u << 10;     // at most so many bytes in one on_bytes() of this end
  size_t capacity = 64u << 10;  // what "the kernel" holds for this end's reader; more stays queued at the writer

 private:
  friend struct MemoryLink;
  std::shared_ptr<MemoryLink> link_;
  int side_;
  StreamReader* reader_ = nullptr;  // null while paused
};

struct MemoryPair {
  std::unique_ptr<MemoryStream> a;
  std::unique_ptr<MemoryStream> b;
};
MemoryPair connect_memory(Loop& loop);

}  // namespace limpet
