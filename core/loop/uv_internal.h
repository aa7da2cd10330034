// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the files on libuv share among themselves; nobody else includes this. Loop thread only.

#include <uv.h>

#include <memory>
#include <unordered_map>

#include "base/errno_text.h"
#include "loop/stream.h"
#include "loop/uv_loop.h"

namespace limpet {

// A libuv handle must live until its close callback ran. The owner lets go of it at once: `data` is null from then on,
// which is how a callback that comes late knows that nobody is there any more.
template <class Handle>
struct UvClose {
  void operator()(Handle* handle) const {
    auto* base = reinterpret_cast<uv_handle_t*>(handle);
    base->data = nullptr;
    uv_close(base, [](uv_handle_t* closed) { delete reinterpret_cast<Handle*>(closed); });
  }
};
template <class Handle>
using UvHandle = std::unique_ptr<Handle, UvClose<Handle>>;

// Makes a handle with `init` (uv_xxx_init and its arguments bound); null and the status when that fails.
template <class Handle, class Init>
UvHandle<Handle> make_uv_handle(Init init, int* status = nullptr) {
  auto plain = std::make_unique<Handle>();
  const int result = init(plain.get());
  if (status != nullptr) *status = result;
  return UvHandle<Handle>(result == 0 ? plain.release() : nullptr);
}

// A socket of either family; libuv casts between these types itself.
union UvSocket {
  uv_handle_t handle;
  uv_stream_t stream;
  uv_tcp_t tcp;
  uv_pipe_t pipe;
};

// Something in flight that nobody holds but the loop (a dial): it ends by taking itself out of the table.
class UvOperation {
 public:
  virtual ~UvOperation() = default;
};

// Hangs at uv_loop_t::data.
struct UvShared {
  static constexpr size_t kReadBuffer = 64u << 10;  // one for all streams: a view of it lives for one callback only
  std::unique_ptr<char[]> read_buffer;
  std::unordered_map<UvOperation*, std::unique_ptr<UvOperation>> operations;
  size_t requests = 0;  // thread pool requests whose callback has not run: the loop may not die before

  static UvShared& of(uv_loop_t* loop) { return *static_cast<UvShared*>(loop->data); }
  std::unique_ptr<UvOperation> take(UvOperation* operation) {
    const auto found = operations.find(operation);
    if (found == operations.end()) return nullptr;
    auto owned = std::move(found->second);
    operations.erase(found);
    return owned;
  }
};

// Takes a connected socket; nodelay and keepalive are set on TCP.
std::unique_ptr<Stream> make_uv_stream(UvLoop& loop, UvHandle<UvSocket> socket, bool unix_socket);

// "127.0.0.1" and the port of a socket address; unix_socket when it is none of IPv4 and IPv6.
StreamAddress address_of(const sockaddr* address);

}  // namespace limpet
