// SPDX-License-Identifier: Apache-2.0
#include "plugin/poll_watches.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "loop/uv_watch.h"

namespace limpet {
namespace {
constexpr size_t kMaxWatches = 64;  // of one instance: a broken plugin must not use up the process's descriptors
}

// Watches a duplicate: two instances may then watch the same file, and a plugin that closes its descriptor too early
// cannot bring events of the host's next one upon itself.
struct PollWatches::Watch {
  explicit Watch(int fd) : duplicate(fd) {}
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() {
    watch.reset();
    ::close(duplicate);
  }

  const int duplicate;
  std::unique_ptr<FdWatch> watch;
};

PollWatches::PollWatches() = default;
PollWatches::~PollWatches() = default;

int32_t PollWatches::watch(UvLoop& loop, int32_t fd, uint32_t events, Fn fn, void* arg, std::weak_ptr<void> owner) {
  const uint32_t wanted = events & (LIMPET_POLL_READ | LIMPET_POLL_WRITE);
  if (wanted == 0 || fn == nullptr) return LIMPET_INVALID_ARGUMENT;
  watches_.erase(fd);
  if (watches_.size() >= kMaxWatches) return LIMPET_RESOURCE_EXHAUSTED;
  const int duplicate = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (duplicate < 0) return errno == EBADF ? LIMPET_INVALID_ARGUMENT : LIMPET_RESOURCE_EXHAUSTED;
  auto made = std::make_unique<Watch>(duplicate);
  auto opened =
      FdWatch::open(loop, duplicate, [wanted, fd, fn, arg, owner = std::move(owner)](bool readable, bool writable) {
        const auto keep = owner.lock();
        const uint32_t happened = wanted & ((readable ? LIMPET_POLL_READ : 0) | (writable ? LIMPET_POLL_WRITE : 0));
        if (happened != 0) fn(arg, fd, happened);
      });
  if (!opened) return LIMPET_INVALID_ARGUMENT;
  made->watch = std::move(*opened);
  made->watch->want((wanted & LIMPET_POLL_READ) != 0, (wanted & LIMPET_POLL_WRITE) != 0);
  watches_.emplace(fd, std::move(made));
  return LIMPET_OK;
}

void PollWatches::unwatch(int32_t fd) { watches_.erase(fd); }
void PollWatches::clear() { watches_.clear(); }

}  // namespace limpet
