// SPDX-License-Identifier: Apache-2.0
// Asking the service manager, and judging what it says.
#include "workload_attestor_systemd/attest_systemd.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/bytes.h"
#include "kit/kit.h"
#include "kit/process_watch.h"

namespace limpet::workload_attestor_systemd {
namespace {

using std::chrono::milliseconds;

constexpr const char* kSystemBus = "unix:path=/run/dbus/system_bus_socket";
constexpr const char* kManagerPath = "/org/freedesktop/systemd1";
constexpr const char* kManagerInterface = "org.freedesktop.systemd1.Manager";
constexpr const char* kUnitInterface = "org.freedesktop.systemd1.Unit";
constexpr size_t kMaxUnitName = 255;  // systemd's own bound
constexpr size_t kMaxPath = 4096;
constexpr size_t kInvocationIdBytes = 16;

// A path of a socket, as the only address: libsystemd would also take ones that start programs, and lists.
Result<void> check_address(const std::string& address) {
  const bool known = address.starts_with("unix:path=/") || address.starts_with("unix:abstract=");
  if (known && address.find_first_of(";,") == std::string::npos && address.size() <= 200) return {};
  return fail(Code::invalid_argument, "bus_address: \"" + address.substr(0, 200) +
                                          "\" is not the address of a socket; write unix:path=/run/...");
}

bool fit_for_selector(std::string_view text) {
  return is_utf8(text) && std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

std::unexpected<BusError> strange(const char* what, const char* why) {
  return std::unexpected(BusError{Trouble::broken, {}, std::string("the manager's answer to ") + what + " " + why});
}

// The interface that knows the slice of this kind of unit; nullptr: such units are in none.
const char* slice_interface(std::string_view id) {
  static constexpr std::pair<std::string_view, const char*> kKinds[] = {
      {".service", "org.freedesktop.systemd1.Service"}, {".scope", "org.freedesktop.systemd1.Scope"},
      {".slice", "org.freedesktop.systemd1.Slice"},     {".socket", "org.freedesktop.systemd1.Socket"},
      {".mount", "org.freedesktop.systemd1.Mount"},     {".swap", "org.freedesktop.systemd1.Swap"}};
  for (const auto& [suffix, interface] : kKinds) {
    if (id.ends_with(suffix)) return interface;
  }
  return nullptr;
}

}  // namespace

SystemdAttestor::SystemdAttestor(const limpet_host* host)
    : host_(host), bus_(std::make_unique<Bus>(kSystemBus)), address_(kSystemBus) {}

Result<void> SystemdAttestor::configure(const limpet_config& config) {
  kit::ConfigReader reader(kit::view(config.json));
  std::string address = reader.text("bus_address");
  const int64_t timeout_ms = reader.number("timeout_ms", kDefaultTimeoutMs);
  TRY(reader.finish());
  if (timeout_ms < 100 || timeout_ms > 60'000)
    return fail(Code::invalid_argument, "timeout_ms must be between 100 and 60000");
  if (address.empty()) address = kSystemBus;
  TRY(check_address(address));
  if (config.dry_run != 0) return {};
  timeout_ms_ = std::min(timeout_ms, kMostTimeoutMs);
  if (address == address_) return {};
  auto bus = std::make_unique<Bus>(address);
  const std::lock_guard lock(mutex_);
  bus_ = std::move(bus);
  address_ = std::move(address);
  by_pidfd_ = true;
  presence_ = Presence::unknown;
  silent_until_ = {};
  return {};
}

void SystemdAttestor::cancel(const limpet_op* op) {
  const std::lock_guard lock(mutex_);
  if (op == current_) bus_->cancel();
}

void SystemdAttestor::attest(limpet_op* op, const limpet_workload& w, limpet_selectors_done done) {
  if (w.reference_type.len > 0) return done(op, nullptr, {});  // attested by reference, not by pid: not ours
  const int64_t left = std::clamp<int64_t>(host_->time_left_ms(host_, op), 0, timeout_ms_);
  {
    const std::lock_guard lock(mutex_);
    current_ = op;
  }
  const auto result = selectors(w, left);
  {
    const std::lock_guard lock(mutex_);
    current_ = nullptr;  // before done: the op's address may be another's afterwards
    bus_->resume();
  }
  kit::end(op, done, result);
}

Result<SystemdAttestor::Selectors> SystemdAttestor::selectors(const limpet_workload& w, int64_t left_ms) {
  TRY_ASSIGN(const auto watch, kit::ProcessWatch::begin(w.pid, w.pidfd));
  const auto now = std::chrono::steady_clock::now();
  if (now < silent_until_) {
    return fail(Code::unavailable, "the bus at " + address_ + " did not answer lately; it is asked again within " +
                                       std::to_string(2 * timeout_ms_) + " ms");
  }
  const Bus::Time deadline = now + milliseconds(left_ms);
  const bool was_connected = bus_->connected();
  auto found = ask(w, deadline);
  // A connection from before may have died since: once more with a new one. One that dies twice is an error.
  if (!found && found.error().trouble == Trouble::lost && was_connected) found = ask(w, deadline);
  if (!found) return conclude(std::move(found).error(), w.pid, left_ms);
  note_present();
  TRY(watch.still_there());  // the manager may have looked at the number's next owner
  return std::move(*found);
}

BusResult<SystemdAttestor::Selectors> SystemdAttestor::ask(const limpet_workload& w, Bus::Time deadline) {
  TRY(bus_->connect(deadline));
  TRY_ASSIGN(const Unit unit, find_unit(w, deadline));
  Selectors out{"id:" + unit.id};
  TRY_ASSIGN(const std::string fragment, text_property(unit.path, kUnitInterface, "FragmentPath", kMaxPath, deadline));
  if (!fragment.empty()) out.push_back("fragment_path:" + fragment);  // scopes and transient units have no file
  if (const char* interface = slice_interface(unit.id)) {
    TRY_ASSIGN(const std::string slice, text_property(unit.path, interface, "Slice", kMaxUnitName, deadline));
    if (!slice.empty()) out.push_back("slice:" + slice);  // init.scope and -.slice are in none
  }
  TRY_ASSIGN(const std::string invocation, invocation_id(unit.path, deadline));
  if (!invocation.empty()) out.push_back("invocation_id:" + invocation);
  return out;
}

BusResult<SystemdAttestor::Unit> SystemdAttestor::find_unit(const limpet_workload& w, Bus::Time deadline) {
  Unit unit;
  if (w.pidfd >= 0 && by_pidfd_) {
    auto found = find_by_pidfd(w.pidfd, deadline);
    if (!found && found.error().name == SD_BUS_ERROR_UNKNOWN_METHOD) {
      by_pidfd_ = false;  // systemd before 253
    } else if (!found) {
      return std::unexpected(std::move(found).error());
    } else {
      unit.path = std::move(*found);
    }
  }
  if (unit.path.empty()) {
    TRY_ASSIGN(unit.path, find_by_pid(static_cast<uint32_t>(w.pid), deadline));
  }
  TRY_ASSIGN(unit.id, text_property(unit.path, kUnitInterface, "Id", kMaxUnitName, deadline));
  if (unit.id.empty()) return strange("Id", "is empty");
  return unit;
}

BusResult<std::string> SystemdAttestor::find_by_pidfd(int pidfd, Bus::Time deadline) {
  TRY_ASSIGN(MessagePtr call, bus_->new_call(kManagerPath, kManagerInterface, "GetUnitByPIDFD"));
  if (const int r = sd_bus_message_append_basic(call.get(), 'h', &pidfd); r < 0) {
    // a bus that passes no descriptors; the number will do
    if (r == -EOPNOTSUPP) return std::unexpected(BusError{Trouble::refused, SD_BUS_ERROR_UNKNOWN_METHOD, {}});
    return broken("passing the pidfd", r);
  }
  TRY_ASSIGN(const MessagePtr answer, bus_->call(std::move(call), deadline));
  const char* path = nullptr;
  if (sd_bus_message_read(answer.get(), "o", &path) <= 0) return strange("GetUnitByPIDFD", "has no object path");
  if (std::strlen(path) > kMaxPath) return strange("GetUnitByPIDFD", "is too long");
  return std::string(path);
}

BusResult<std::string> SystemdAttestor::find_by_pid(uint32_t pid, Bus::Time deadline) {
  TRY_ASSIGN(MessagePtr call, bus_->new_call(kManagerPath, kManagerInterface, "GetUnitByPID"));
  if (const int r = sd_bus_message_append_basic(call.get(), 'u', &pid); r < 0) return broken("passing the pid", r);
  TRY_ASSIGN(const MessagePtr answer, bus_->call(std::move(call), deadline));
  const char* path = nullptr;
  if (sd_bus_message_read(answer.get(), "o", &path) <= 0) return strange("GetUnitByPID", "is no object path");
  if (std::strlen(path) > kMaxPath) return strange("GetUnitByPID", "is too long");
  return std::string(path);
}

BusResult<MessagePtr> SystemdAttestor::property(const std::string& path, const char* interface, const char* name,
                                                Bus::Time deadline) {
  TRY_ASSIGN(MessagePtr call, bus_->new_call(path, "org.freedesktop.DBus.Properties", "Get"));
  if (const int r = sd_bus_message_append(call.get(), "ss", interface, name); r < 0) return broken("naming it", r);
  return bus_->call(std::move(call), deadline);
}

BusResult<std::string> SystemdAttestor::text_property(const std::string& path, const char* interface, const char* name,
                                                      size_t limit, Bus::Time deadline) {
  TRY_ASSIGN(const MessagePtr answer, property(path, interface, name, deadline));
  const char* text = nullptr;
  if (sd_bus_message_read(answer.get(), "v", "s", &text) <= 0) return strange(name, "is no text");
  if (strnlen(text, limit + 1) > limit) return strange(name, "is too long");
  if (!fit_for_selector(text)) return strange(name, "has control characters");
  return std::string(text);
}

BusResult<std::string> SystemdAttestor::invocation_id(const std::string& path, Bus::Time deadline) {
  TRY_ASSIGN(const MessagePtr answer, property(path, kUnitInterface, "InvocationID", deadline));
  const void* bytes = nullptr;
  size_t size = 0;
  if (sd_bus_message_enter_container(answer.get(), 'v', "ay") <= 0 ||
      sd_bus_message_read_array(answer.get(), 'y', &bytes, &size) < 0) {
    return strange("InvocationID", "is no list of bytes");
  }
  if (size != 0 && size != kInvocationIdBytes) return strange("InvocationID", "has not 16 bytes");
  return hex_encode({static_cast<const uint8_t*>(bytes), size});
}

// A call that waited for others before it may have had a moment only: that says nothing of the manager.
Result<SystemdAttestor::Selectors> SystemdAttestor::too_late(int64_t left_ms) {
  if (left_ms < timeout_ms_) {
    return fail(Code::deadline_exceeded, "systemd at " + address_ + " did not answer in the " +
                                             std::to_string(left_ms) + " ms that were left when its turn came");
  }
  bus_->disconnect();
  silent_until_ = std::chrono::steady_clock::now() + milliseconds(2 * timeout_ms_);
  return fail(Code::deadline_exceeded, "systemd at " + address_ + " did not answer in time; see whether it hangs");
}

// What the host is told when the manager was not asked, or gave no unit.
Result<SystemdAttestor::Selectors> SystemdAttestor::conclude(BusError error, pid_t pid, int64_t left_ms) {
  const std::string process = "process " + std::to_string(pid);
  switch (error.trouble) {
    case Trouble::absent:
      if (presence_ == Presence::present) {
        return fail(Code::unavailable, "systemd is not on the bus any more: " + error.name + error.text);
      }
      note_absent(error.name + error.text);
      return Selectors{};
    case Trouble::late:
      return too_late(left_ms);
    case Trouble::cancelled:
      return fail(Code::cancelled, "the attestation was cancelled");
    case Trouble::lost:
      return fail(Code::unavailable, "the bus at " + address_ + " went away: " + error.text);
    case Trouble::broken:
      return fail(Code::internal, process + ": " + error.text);
    case Trouble::refused:
      break;
  }
  note_present();
  if (error.name == "org.freedesktop.systemd1.NoUnitForPID") return Selectors{};
  const std::string text = process + ": systemd says " + error.name + ": " + error.text;
  if (error.name == "org.freedesktop.systemd1.NoSuchProcess" || error.name == "org.freedesktop.systemd1.NoSuchUnit" ||
      error.name == SD_BUS_ERROR_UNKNOWN_OBJECT) {
    return fail(Code::not_found, text);
  }
  if (error.name == SD_BUS_ERROR_ACCESS_DENIED) {
    return fail(Code::permission_denied, text + "; see the bus's policy for the agent's user");
  }
  return fail(Code::internal, text);
}

void SystemdAttestor::note_present() {
  if (presence_ == Presence::absent) kit::log(host_, 3, "systemd answers now; workloads get its selectors");
  presence_ = Presence::present;
}

// Once, not for each workload: a machine without systemd is as good as any.
void SystemdAttestor::note_absent(const std::string& why) {
  if (presence_ == Presence::unknown) {
    kit::log(host_, 3, "no systemd on the bus; workloads get no selectors of it until it is there (" + why + ")");
  }
  presence_ = Presence::absent;
}

}  // namespace limpet::workload_attestor_systemd
