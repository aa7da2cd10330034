// SPDX-License-Identifier: Apache-2.0
// Connecting, sending and waiting.
#include "workload_attestor_systemd/bus.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace limpet::workload_attestor_systemd {
namespace {

constexpr const char* kManager = "org.freedesktop.systemd1";
constexpr size_t kMaxErrorText = 200;

std::string bounded(const char* text) {
  if (text == nullptr) return {};
  return std::string(text, strnlen(text, kMaxErrorText));
}

std::unexpected<BusError> trouble(Trouble kind, std::string text) {
  return std::unexpected(BusError{kind, {}, std::move(text)});
}

bool is_absence(int error) { return error == ENOENT || error == ECONNREFUSED || error == ENOTDIR; }

}  // namespace

std::unexpected<BusError> broken(const std::string& what, int negative_errno) {
  return trouble(Trouble::broken, what + ": " + std::strerror(-negative_errno));
}

Bus::Bus(std::string address) : address_(std::move(address)), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Bus::~Bus() {
  bus_.reset();
  if (wake_ >= 0) ::close(wake_);
}

void Bus::cancel() {
  cancelled_ = true;
  const uint64_t one = 1;
  // it fails only when it is set already, or was never made: then the deadline ends the wait
  [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
}

void Bus::resume() {
  uint64_t drained = 0;
  [[maybe_unused]] const ssize_t got = ::read(wake_, &drained, sizeof drained);
  cancelled_ = false;
}

BusResult<void> Bus::connect(Time deadline) {
  if (bus_ != nullptr) return {};
  sd_bus* made = nullptr;
  if (const int r = sd_bus_new(&made); r < 0) return broken("sd_bus_new", r);
  bus_.reset(made);
  int r = sd_bus_set_address(made, address_.c_str());
  if (r >= 0) r = sd_bus_set_bus_client(made, 1);
  if (r >= 0) r = sd_bus_negotiate_fds(made, 1);
  if (r >= 0) r = sd_bus_start(made);
  if (r < 0) {
    bus_.reset();
    if (is_absence(-r)) return trouble(Trouble::absent, "no bus at " + address_ + ": " + std::strerror(-r));
    return broken("cannot connect to the bus at " + address_, r);
  }
  auto ready = wait([made] { return sd_bus_is_ready(made) > 0; }, deadline);
  if (!ready) bus_.reset();  // half a greeting is of no use to the next one
  return ready;
}

BusResult<MessagePtr> Bus::new_call(const std::string& path, const char* interface, const char* member) {
  sd_bus_message* made = nullptr;
  if (const int r = sd_bus_message_new_method_call(bus_.get(), &made, kManager, path.c_str(), interface, member); r < 0)
    return broken(std::string("making the call ") + member, r);
  MessagePtr message(made);
  sd_bus_message_set_auto_start(made, 0);  // asking must not start a manager
  return message;
}

BusResult<MessagePtr> Bus::call(MessagePtr message, Time deadline) {
  MessagePtr answer;
  const auto keep = [](sd_bus_message* reply, void* place, sd_bus_error*) {
    static_cast<MessagePtr*>(place)->reset(sd_bus_message_ref(reply));
    return 1;
  };
  sd_bus_slot* waiting = nullptr;
  // libsystemd's own time limit is the longest there is: the deadline below is ours
  if (const int r = sd_bus_call_async(bus_.get(), &waiting, message.get(), keep, &answer, UINT64_MAX); r < 0) {
    bus_.reset();
    return trouble(Trouble::lost, std::string("sending to the bus: ") + std::strerror(-r));
  }
  {
    const SlotPtr slot(waiting);
    auto waited = wait([&answer] { return answer != nullptr; }, deadline);
    if (!waited) {
      if (waited.error().trouble == Trouble::lost) bus_.reset();
      return std::unexpected(std::move(waited).error());
    }
  }
  const sd_bus_error* error = sd_bus_message_get_error(answer.get());
  if (error == nullptr) return answer;
  BusError told{Trouble::refused, bounded(error->name), bounded(error->message)};
  if (told.name == SD_BUS_ERROR_SERVICE_UNKNOWN || told.name == SD_BUS_ERROR_NAME_HAS_NO_OWNER) {
    told.trouble = Trouble::absent;
  } else if (told.name == SD_BUS_ERROR_NO_REPLY || told.name == SD_BUS_ERROR_DISCONNECTED) {
    told.trouble = Trouble::lost;  // the manager, or the bus, went away with our question
    bus_.reset();
  }
  return std::unexpected(std::move(told));
}

// Lets libsystemd work until `ready`. A flood of messages cannot hold it beyond the deadline.
template <class Ready>
BusResult<void> Bus::wait(Ready ready, Time deadline) {
  for (;;) {
    const int worked = sd_bus_process(bus_.get(), nullptr);
    if (worked < 0) return trouble(Trouble::lost, std::string("the bus connection: ") + std::strerror(-worked));
    if (ready()) return {};
    if (cancelled_) return trouble(Trouble::cancelled, "cancelled");
    if (std::chrono::steady_clock::now() >= deadline) return trouble(Trouble::late, "no answer in time");
    if (worked > 0) continue;
    if (auto slept = sleep(deadline); !slept) return slept;
  }
}

BusResult<void> Bus::sleep(Time deadline) {
  using std::chrono::milliseconds;
  const int fd = sd_bus_get_fd(bus_.get());
  const int events = sd_bus_get_events(bus_.get());
  if (fd < 0 || events < 0) return trouble(Trouble::lost, "the bus connection has ended");
  pollfd fds[] = {{fd, static_cast<short>(events), 0}, {wake_, POLLIN, 0}};
  int64_t ms = std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now()).count() + 1;
  uint64_t own = UINT64_MAX;  // libsystemd's next moment: absolute, of the same clock
  if (sd_bus_get_timeout(bus_.get(), &own) > 0 && own != UINT64_MAX) {
    const Time moment{std::chrono::microseconds(static_cast<int64_t>(std::min<uint64_t>(own, INT64_MAX / 1000)))};
    const int64_t until = std::chrono::duration_cast<milliseconds>(moment - std::chrono::steady_clock::now()).count();
    ms = std::min(ms, until + 1);
  }
  const int limit = static_cast<int>(std::clamp<int64_t>(ms, 0, 60'000));
  if (::poll(fds, 2, limit) < 0 && errno != EINTR) return broken("waiting for the bus", -errno);
  return {};
}

}  // namespace limpet::workload_attestor_systemd
