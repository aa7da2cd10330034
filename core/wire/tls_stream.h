// SPDX-License-Identifier: Apache-2.0
#pragma once
// A Stream on a Stream: records of an established TLS connection, sealed and opened on the loop. Made by the handshake,
// owned like any stream; loop thread only.

#include "loop/stream.h"
#include "wire/tls_config.h"

namespace limpet::wire {

class TlsStream final : public Stream, private StreamReader {
 public:
  TlsStream(Loop& loop, std::unique_ptr<Stream> inner, std::unique_ptr<TlsCore> core);
  ~TlsStream() override;
  // The inner stream ended while the handshake still owned it: said after what it left behind was read.
  void ended_before(std::optional<Error> error);

  void read(StreamReader& reader) override;
  void pause() override;
  void write(Bytes bytes, Done<void> done) override;
  void shutdown(Done<void> done) override;
  [[nodiscard]] size_t queued() const override { return inner_->queued(); }
  [[nodiscard]] const StreamAddress& peer_address() const override { return inner_->peer_address(); }
  [[nodiscard]] std::optional<PeerCredentials> credentials() const override { return inner_->credentials(); }
  [[nodiscard]] int descriptor() const override { return inner_->descriptor(); }

 private:
  void on_bytes(BytesView bytes) override;
  void on_end(std::optional<Error> error) override;
  void pump();  // opens records and hands them on
  void end(std::optional<Error> error);
  void flush(Done<void> done);

  std::unique_ptr<TlsCore> core_;
  StreamReader* reader_ = nullptr;  // null: paused
  Timer pump_timer_;                // what came with the last handshake message
  bool* gone_ = nullptr;
  bool ended_ = false;
  bool inner_ended_ = false;
  std::optional<Error> inner_error_;
  std::unique_ptr<Stream> inner_;  // last: stops calling us first
};

}  // namespace limpet::wire
