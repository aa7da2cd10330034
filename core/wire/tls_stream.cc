// SPDX-License-Identifier: Apache-2.0
#include "wire/tls_stream.h"

#include <array>

#include "base/secret.h"

namespace limpet::wire {

TlsStream::TlsStream(Loop& loop, std::unique_ptr<Stream> inner, std::unique_ptr<TlsCore> core)
    : core_(std::move(core)), pump_timer_(loop), inner_(std::move(inner)) {}

TlsStream::~TlsStream() {
  if (gone_ != nullptr) *gone_ = true;
}

void TlsStream::ended_before(std::optional<Error> error) {
  inner_ended_ = true;
  inner_error_ = std::move(error);
}

void TlsStream::read(StreamReader& reader) {
  reader_ = &reader;
  pump_timer_.start<&TlsStream::pump>(0, this);
  if (!ended_ && !inner_ended_) inner_->read(*this);
}

void TlsStream::pause() {
  reader_ = nullptr;
  pump_timer_.stop();
  inner_->pause();
}

void TlsStream::on_bytes(BytesView bytes) {
  append(core_->in, bytes);
  pump();
}

void TlsStream::on_end(std::optional<Error> error) { end(std::move(error)); }

void TlsStream::end(std::optional<Error> error) {
  if (std::exchange(ended_, true)) return;
  inner_->pause();
  if (reader_ != nullptr) std::exchange(reader_, nullptr)->on_end(std::move(error));
}

void TlsStream::pump() {
  std::array<uint8_t, 16384> plain;  // a record's most
  bool gone = false;
  gone_ = &gone;
  while (reader_ != nullptr && !ended_) {
    auto size = core_->read(plain.data(), plain.size());
    if (!core_->out.empty()) flush({});  // an alert, or the answer to a key update
    if (!size || !*size) {
      gone_ = nullptr;
      return end(size ? std::nullopt : std::optional<Error>(std::move(size).error()));
    }
    if (**size == 0) break;
    reader_->on_bytes({plain.data(), **size});
    if (gone) return;
  }
  gone_ = nullptr;
  if (inner_ended_ && reader_ != nullptr) end(std::move(inner_error_));
}

void TlsStream::write(Bytes bytes, Done<void> done) {
  // A failure here shows as a failure to read as well; the peer's half of the connection is gone either way.
  auto sealed = core_->write(bytes);
  wipe(bytes);
  if (!sealed) return inner_->shutdown(std::move(done));
  flush(std::move(done));
}

void TlsStream::shutdown(Done<void> done) {
  core_->close_notify();
  if (!core_->out.empty()) flush({});
  inner_->shutdown(std::move(done));
}

void TlsStream::flush(Done<void> done) { inner_->write(std::exchange(core_->out, Bytes()), std::move(done)); }

}  // namespace limpet::wire
