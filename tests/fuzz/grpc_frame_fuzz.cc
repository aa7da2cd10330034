// SPDX-License-Identifier: Apache-2.0
// gRPC's message frames: what comes out does not depend on how the bytes were cut, and what Outbox writes reads back.
#include "fuzz.h"
#include "wire/grpc_frame.h"

namespace limpet::wire {
namespace {

struct Outcome {
  std::vector<Bytes> messages;
  bool failed = false;
  bool operator==(const Outcome&) const = default;
};

void drain(FrameReader& reader, Outcome& out) {
  while (!out.failed) {
    auto message = reader.next();
    if (!message) {
      out.failed = true;
    } else if (!*message) {
      return;
    } else {
      FUZZ_CHECK((*message)->size() <= limits::kMessageBytes);
      out.messages.push_back(std::move(**message));
    }
  }
}

Outcome read(BytesView bytes, size_t piece) {
  FrameReader reader;
  Outcome out;
  while (!bytes.empty() && !out.failed) {
    const size_t now = std::min(piece, bytes.size());
    reader.feed(bytes.first(now));
    bytes = bytes.subspan(now);
    drain(reader, out);
  }
  return out;
}

void run(BytesView input) {
  const size_t piece = 1u + input[0];
  const Outcome whole = read(input.subspan(1), input.size());
  FUZZ_CHECK(whole == read(input.subspan(1), piece));
  Outbox outbox;
  for (const Bytes& message : whole.messages) outbox.push(message, (piece & 1) != 0);
  Bytes wire;
  while (outbox.bytes() > 0) outbox.take(std::min(piece, outbox.bytes()), wire);
  FUZZ_CHECK(read(wire, wire.size() + 1).messages == whole.messages);
}

}  // namespace
}  // namespace limpet::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0) limpet::wire::run({data, size});
  return 0;
}
