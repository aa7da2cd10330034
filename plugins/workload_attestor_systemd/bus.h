// SPDX-License-Identifier: Apache-2.0
#pragma once
// One connection to a message bus, and method calls on it that end in time: libsystemd's own waiting cannot be woken,
// so the waiting is done here. Used by one thread at a time; cancel() and resume() may come from any.

#include <systemd/sd-bus.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>

#include "base/result.h"

namespace limpet::workload_attestor_systemd {

struct Unref {
  void operator()(sd_bus* bus) const { sd_bus_close_unref(bus); }
  void operator()(sd_bus_message* message) const { sd_bus_message_unref(message); }
  void operator()(sd_bus_slot* slot) const { sd_bus_slot_unref(slot); }
};
using BusPtr = std::unique_ptr<sd_bus, Unref>;
using MessagePtr = std::unique_ptr<sd_bus_message, Unref>;
using SlotPtr = std::unique_ptr<sd_bus_slot, Unref>;

// What a method call came to, when it was no answer.
enum class Trouble {
  absent,     // no bus, or nobody has the name
  lost,       // the connection ended
  late,       // no answer before the deadline
  cancelled,  //
  refused,    // the other side answered with an error: `name` says which
  broken,     // the answer, or our own machine, is not as it should be
};
struct BusError {
  Trouble trouble = Trouble::broken;
  std::string name;  // of a D-Bus error: "org.freedesktop.DBus.Error.AccessDenied"
  std::string text;  // bounded; may come from the other side
};
template <class T>
using BusResult = std::expected<T, BusError>;

class Bus {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit Bus(std::string address);
  ~Bus();
  Bus(const Bus&) = delete;
  Bus& operator=(const Bus&) = delete;

  [[nodiscard]] bool connected() const { return bus_ != nullptr; }
  // Until the bus has said hello. Returns at once where there is a connection already.
  BusResult<void> connect(Time deadline);
  void disconnect() { bus_.reset(); }

  // A call to the manager, to be filled in; needs a connection.
  BusResult<MessagePtr> new_call(const std::string& path, const char* interface, const char* member);
  // Sends it and waits for the answer. After lost the connection is closed; after late it is not, and an answer that
  // comes still is dropped.
  BusResult<MessagePtr> call(MessagePtr message, Time deadline);

  void cancel();  // ends the wait of now with `cancelled`
  void resume();  // waits are possible again

 private:
  template <class Ready>
  BusResult<void> wait(Ready ready, Time deadline);
  BusResult<void> sleep(Time deadline);

  const std::string address_;
  BusPtr bus_;
  int wake_ = -1;  // eventfd
  std::atomic<bool> cancelled_{false};
};

// The error for a negative errno that libsystemd returned.
std::unexpected<BusError> broken(const std::string& what, int negative_errno);

}  // namespace limpet::workload_attestor_systemd
