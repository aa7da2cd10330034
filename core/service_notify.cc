// SPDX-License-Identifier: Apache-2.0
#include "service_notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "base/errno_text.h"

namespace limpet {
namespace {

// A whole number in the environment; 0: none, or nonsense.
int64_t number_in(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return 0;
  const char* end = text + std::strlen(text);
  int64_t number = 0;
  const auto [stop, error] = std::from_chars(text, end, number);
  return error == std::errc() && stop == end && number > 0 ? number : 0;
}

int64_t monotonic_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

}  // namespace

ServiceNotify::ServiceNotify(Loop& loop) : timer_(loop) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || *path == '\0') return;
  usable_ = open(path);
  if (!usable_) return;
  const int64_t pid = number_in("WATCHDOG_PID");
  if (pid != 0 && pid != ::getpid()) return;  // meant for another process
  const int64_t due_us = number_in("WATCHDOG_USEC");
  if (due_us == 0) return;
  watchdog_ms_ = std::max<int64_t>(due_us / 2000, 1);
  on_watchdog();
}

ServiceNotify::~ServiceNotify() {
  if (socket_ >= 0) ::close(socket_);
}

// A path, or "@name" in the abstract namespace.
Result<void> ServiceNotify::open(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = std::strlen(path);
  if ((path[0] != '/' && path[0] != '@') || length < 2 || length >= sizeof address.sun_path)
    return fail(Code::invalid_argument, "NOTIFY_SOCKET is neither a path nor @name, or too long: " + std::string(path));
  std::memcpy(address.sun_path, path, length);
  const bool abstract = path[0] == '@';
  if (abstract) address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length + (abstract ? 0 : 1));
  socket_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket_ >= 0 && ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), size) == 0) return {};
  const int error = errno;
  if (socket_ >= 0) ::close(std::exchange(socket_, -1));
  return fail(Code::unavailable, "NOTIFY_SOCKET " + std::string(path) + ": " + errno_text(error));
}

void ServiceNotify::send(std::string_view lines) {
  if (socket_ >= 0) (void)::send(socket_, lines.data(), lines.size(), MSG_NOSIGNAL);
}

void ServiceNotify::ready() { send("READY=1\n"); }
void ServiceNotify::stopping() { send("STOPPING=1\n"); }

// With the time, as Type=notify-reload asks for.
void ServiceNotify::reloading() { send("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(monotonic_us()) + "\n"); }

void ServiceNotify::status(const std::string& text) {
  if (text == status_) return;
  status_ = text;
  std::string line = "STATUS=" + text.substr(0, 1000);
  std::ranges::replace(line, '\n', ' ');
  send(line + "\n");
}

void ServiceNotify::on_watchdog() {
  send("WATCHDOG=1\n");
  timer_.start<&ServiceNotify::on_watchdog>(watchdog_ms_, this);
}

}  // namespace limpet
