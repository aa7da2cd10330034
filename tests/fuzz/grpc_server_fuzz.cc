// SPDX-License-Identifier: Apache-2.0
// A hostile client: raw bytes into a gRPC server's connection. The first byte says in what pieces they arrive and
// whether the HTTP/2 preface, which random bytes would never find, goes before them.
#include <string_view>

#include "echo_service.h"
#include "fuzz.h"
#include "loop/fake_loop.h"
#include "loop/fake_stream.h"
#include "wire/grpc_server.h"
#include "wire/health_service.h"

namespace limpet::wire {
namespace {

constexpr std::string_view kPreface("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);

// The test service without the method that takes numbers from its client on trust.
class HostileEcho final : public Service {
 public:
  std::unique_ptr<ServerFlow> open(ServerCall& call) override {
    return call.method().ends_with("/Stream") ? nullptr : echo.open(call);
  }
  EchoService echo;
};

class Sink final : public StreamReader {
 public:
  void on_bytes(BytesView) override {}
  void on_end(std::optional<Error>) override {}
};

void run(BytesView input) {
  const uint8_t how = input[0];
  FakeLoop loop;
  HostileEcho echo;
  {
    Sink sink;
    GrpcServer server(loop, {});
    server.add("test.Echo", echo);
    auto pair = connect_memory(loop);
    pair.b->chunk = (how & 2) != 0 ? 1u + (how >> 3) : 64u << 10;
    if ((how & 4) == 0) pair.a->read(sink);  // else: a client that never reads
    server.on_connection(std::move(pair.b));
    if ((how & 1) != 0) pair.a->write(to_bytes(kPreface), {});
    pair.a->write(to_bytes(input.subspan(1)), {});
    loop.run_ready();
    loop.advance(1'500);
    if ((how & 8) != 0) pair.a->shutdown({});
    if ((how & 16) != 0) pair.a->cut();
    loop.advance(60'000);
    if ((how & 32) != 0) {
      pair.a.reset();
      loop.advance(1);
    }
  }
  FUZZ_CHECK(echo.echo.stats.live == 0);
}

}  // namespace
}  // namespace limpet::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0) limpet::wire::run({data, size});
  return 0;
}
