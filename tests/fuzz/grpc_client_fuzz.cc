// SPDX-License-Identifier: Apache-2.0
// A hostile server: raw bytes answered to a client that has three calls open. The first byte says in what pieces they
// arrive and whether a SETTINGS frame goes before them.
#include <string_view>

#include "echo_service.h"
#include "fuzz.h"
#include "loop/fake_loop.h"
#include "loop/fake_stream.h"
#include "wire/client_channel.h"

namespace limpet::wire {
namespace {

constexpr std::string_view kSettings("\0\0\0\4\0\0\0\0\0", 9);

class Sink final : public StreamReader {
 public:
  void on_bytes(BytesView) override {}
  void on_end(std::optional<Error>) override {}
};

void run(BytesView input) {
  const uint8_t how = input[0];
  FakeLoop loop;
  Sink sink;
  auto pair = connect_memory(loop);
  pair.a->chunk = (how & 2) != 0 ? 1u + (how >> 3) : 64u << 10;
  if ((how & 4) == 0) pair.b->read(sink);
  auto channel = std::make_unique<ClientChannel>(loop, std::move(pair.a), "localhost", std::vector<Bytes>());
  EchoClient unary(channel->open("/test.Echo/Unary", {.timeout_ms = 30'000, .metadata = {}}));
  EchoClient bidi(channel->open("/test.Echo/Bidi", {}));
  EchoClient dropped(channel->open("/test.Echo/Hold", {}));
  for (EchoClient* call : {&unary, &bidi, &dropped}) {
    call->send("hello");
    call->listen();
  }
  unary.close_send();
  loop.run_ready();
  if ((how & 1) != 0) pair.b->write(to_bytes(kSettings), {});
  pair.b->write(to_bytes(input.subspan(1)), {});
  loop.run_ready();
  dropped.cancel();
  loop.advance(31'000);
  FUZZ_CHECK(unary.ended());  // its deadline has passed
  if ((how & 8) != 0) pair.b->shutdown({});
  loop.advance(30'000);
  if ((how & 16) != 0) {
    channel.reset();
    loop.run_ready();
    loop.advance(1);
    FUZZ_CHECK(bidi.ended());
  }
}

}  // namespace
}  // namespace limpet::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0) limpet::wire::run({data, size});
  return 0;
}
