// SPDX-License-Identifier: Apache-2.0
#include "loop/uv_watch.h"

#include "loop/uv_internal.h"

namespace limpet {

struct FdWatch::Handle {
  UvHandle<uv_poll_t> poll;
};

FdWatch::FdWatch(Ready ready)
    : ready_(std::make_shared<Ready>(std::move(ready))), handle_(std::make_unique<Handle>()) {}

Result<std::unique_ptr<FdWatch>> FdWatch::open(UvLoop& loop, int fd, Ready ready) {
  std::unique_ptr<FdWatch> made(new FdWatch(std::move(ready)));
  int status = 0;
  made->handle_->poll =
      make_uv_handle<uv_poll_t>([&](uv_poll_t* poll) { return uv_poll_init(loop.raw(), poll, fd); }, &status);
  if (status != 0)
    return fail(Code::invalid_argument, std::string("this descriptor cannot be watched: ") + uv_strerror(status));
  made->handle_->poll->data = made.get();
  return made;
}

FdWatch::~FdWatch() {
  if (handle_->poll != nullptr) uv_poll_stop(handle_->poll.get());
}

void FdWatch::want(bool readable, bool writable) {
  const int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
  if (events == 0) {
    uv_poll_stop(handle_->poll.get());
    return;
  }
  uv_poll_start(handle_->poll.get(), events, [](uv_poll_t* poll, int status, int happened) {
    auto* self = static_cast<FdWatch*>(poll->data);
    if (self == nullptr) return;
    const auto ready = self->ready_;
    // an error shows as both: the next read or write says which
    (*ready)(status != 0 || (happened & UV_READABLE) != 0, status != 0 || (happened & UV_WRITABLE) != 0);
  });
}

}  // namespace limpet
