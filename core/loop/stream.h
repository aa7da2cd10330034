// SPDX-License-Identifier: Apache-2.0
#pragma once
// Byte streams: a connected TCP or Unix socket, the listener that accepts them and the dialler that opens them.
// Streams push what they read to a StreamReader and queue what is written; the one who owns a stream destroys it to
// close it (pending writes are dropped; use shutdown() first to flush). Loop thread only.
// UvStream (loop/uv_stream.h) is the real one; MemoryStream (loop/fake_stream.h) connects two ends in one process.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "loop/loop.h"

namespace limpet {

// The process at the other end of a Unix socket, as the kernel saw it when it connected.
struct PeerCredentials {
  int32_t pid = -1;
  uint32_t uid = 0;
  uint32_t gid = 0;
};

struct StreamAddress {
  bool unix_socket = false;
  std::string ip;  // "127.0.0.1" or "::1"; empty for a Unix socket
  uint16_t port = 0;
  [[nodiscard]] std::string text() const;  // "127.0.0.1:8081", "[::1]:8081" or "unix"
};

class StreamReader {
 public:
  virtual ~StreamReader() = default;
  // Bytes arrived; the view dies when this returns. The reader may destroy the stream.
  virtual void on_bytes(BytesView bytes) = 0;
  // The peer closed its half (nullopt), or the stream failed. Called at most once; nothing follows.
  virtual void on_end(std::optional<Error> error) = 0;
};

class Stream {
 public:
  virtual ~Stream() = default;
  // Starts reading into `reader`, which outlives the stream or calls pause() first.
  virtual void read(StreamReader& reader) = 0;
  virtual void pause() = 0;
  // Queues bytes. `done` fires when the kernel took them.
  virtual void write(Bytes bytes, Done<void> done) = 0;
  // Half-close after everything queued was written.
  virtual void shutdown(Done<void> done) = 0;
  // Bytes queued and not yet taken by the kernel.
  [[nodiscard]] virtual size_t queued() const = 0;
  [[nodiscard]] virtual const StreamAddress& peer_address() const = 0;
  // Unix sockets: who connected. nullopt on TCP.
  [[nodiscard]] virtual std::optional<PeerCredentials> credentials() const = 0;
  // The descriptor, for SO_PEERPIDFD and the like; -1 where there is none. Borrowed.
  [[nodiscard]] virtual int descriptor() const = 0;
};

class ListenerClient {
 public:
  virtual ~ListenerClient() = default;
  virtual void on_connection(std::unique_ptr<Stream> stream) = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;  // stops listening; a Unix socket's file is removed if it is still ours
  // The port in use, for TCP listeners opened on port 0.
  [[nodiscard]] virtual uint16_t port() const = 0;
};

}  // namespace limpet
