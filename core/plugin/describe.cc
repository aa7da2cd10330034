// SPDX-License-Identifier: Apache-2.0
// What the child says comes in frames (plugin/shim_wire.h): its greeting, before the plugin's code runs, then the
// description or a refusal. That second one may be written by the plugin's code, so it is taken for hostile.
#include "plugin/describe.h"

#include <limpet_plugin.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <utility>

#include "plugin/shim_child.h"
#include "plugin/shim_codec.h"

namespace limpet {

namespace {
PluginDescription::Component component_of(std::string interface_id, std::string name, uint32_t flags) {
  return {.interface_id = std::move(interface_id),
          .name = std::move(name),
          .flags = flags,
          .blocking = (flags & LIMPET_BLOCKING) != 0,
          .serial = (flags & LIMPET_SERIAL) != 0};
}
}  // namespace

PluginDescription description_of(const limpet_plugin& plugin) {
  PluginDescription out;
  out.id = plugin.id;
  out.version = plugin.version;
  out.license = plugin.license;
  out.abi_major = plugin.abi_major;
  out.abi_minor = plugin.abi_minor;
  for (size_t i = 0; plugin.components[i] != nullptr; ++i) {
    const limpet_component& c = *plugin.components[i];
    out.components.push_back(component_of(c.interface_id, c.name, c.flags));
  }
  return out;
}

namespace shim {
namespace {

constexpr size_t kTextBytes = 255, kNameBytes = 64, kComponents = 64;  // as the loader's
constexpr size_t kWhyBytes = 8192;                                     // with a path in it
constexpr int kReapEveryMs = 5;

using std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

class Look {
 public:
  Look(Started started, const std::string& path, int64_t ms)
      : started_(started), refused_("plugin " + path + " refused: "), ms_(ms), end_(Steady::now() + milliseconds(ms)) {}
  ~Look() {
    ::close(started_.fd);
    if (reaped_) return;
    ::kill(started_.pid, SIGKILL);
    while (::waitpid(started_.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  Look(const Look&) = delete;
  Look& operator=(const Look&) = delete;

  // A child that does not listen is seen when nothing comes from it.
  void say(const Bytes& frame) { (void)::send(started_.fd, frame.data(), frame.size(), MSG_NOSIGNAL); }
  Result<Frame> expect(Method method);
  [[nodiscard]] std::unexpected<Error> babble() const {
    return fail(Code::internal, refused_ + "what its process said cannot be understood");
  }

 private:
  std::optional<Frame> hear();
  std::unexpected<Error> why_silent();
  [[nodiscard]] int left_ms() const {
    return static_cast<int>(
        std::max<int64_t>(0, std::chrono::duration_cast<milliseconds>(end_ - Steady::now()).count()));
  }

  Started started_;
  const std::string refused_;
  const int64_t ms_;
  const Steady::time_point end_;
  FrameSplitter splitter_;
  bool reaped_ = false;
};

// Nothing: it hung up, writes what is no frame, or is late.
std::optional<Frame> Look::hear() {
  uint8_t buffer[4096];
  for (;;) {
    if (auto frame = splitter_.next()) return frame;
    pollfd ready = {started_.fd, POLLIN, 0};
    if (splitter_.broken() || ::poll(&ready, 1, left_ms()) == 0) return std::nullopt;
    const ssize_t got = ::recv(started_.fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return std::nullopt;
    splitter_.add({buffer, static_cast<size_t>(got)});
  }
}

// It may have closed the socket and live on: its end is waited for as long as there is time.
std::unexpected<Error> Look::why_silent() {
  if (splitter_.broken()) return babble();
  int status = 0;
  while (!(reaped_ = ::waitpid(started_.pid, &status, WNOHANG) == started_.pid)) {
    if (left_ms() == 0) {
      return fail(Code::deadline_exceeded,
                  refused_ + "its code did not return within " + std::to_string(ms_ / 1000) + " s of being loaded");
    }
    (void)::poll(nullptr, 0, std::min(kReapEveryMs, left_ms()));
  }
  std::string how = "exit code " + std::to_string(WEXITSTATUS(status)) + " before it was looked at";
  if (WIFSIGNALED(status))
    how = "signal " + std::to_string(WTERMSIG(status)) + " (" + ::strsignal(WTERMSIG(status)) + ")";
  return fail(Code::internal, refused_ + "its code ended the process that looked at it with " + how);
}

std::string text_of(FieldReader& in, size_t most) {
  const std::string_view text = in.text();
  if (text.empty() || text.size() > most || !is_utf8(text) || text.find('\0') != text.npos) in.fail();
  return in.good() ? std::string(text) : std::string();
}

Result<Frame> Look::expect(Method method) {
  const auto frame = hear();
  if (!frame) return why_silent();
  if (frame->method == method) return *frame;
  FieldReader in(frame->payload);
  const uint32_t code = in.u32();
  const std::string why = text_of(in, kWhyBytes);
  if (frame->method != Method::refused || !in.done() || code == 0 || code > 16) return babble();
  return fail(static_cast<Code>(code), why);
}

bool read_description(const Frame& frame, PluginDescription& out) {
  FieldReader in(frame.payload);
  out.id = text_of(in, kTextBytes);
  out.version = text_of(in, kTextBytes);
  out.license = text_of(in, kTextBytes);
  out.abi_major = in.u32();
  out.abi_minor = in.u32();
  const size_t count = in.count(12, kComponents);
  for (size_t i = 0; i < count && in.good(); ++i) {
    std::string interface_id = text_of(in, kNameBytes);
    std::string name = text_of(in, kNameBytes);
    out.components.push_back(component_of(std::move(interface_id), std::move(name), in.u32()));
  }
  return in.done();
}

}  // namespace

Result<PluginDescription> look_into(const std::string& program, int plugin_fd, const std::string& path,
                                    const Bytes& hello, int64_t ms) {
  TRY_ASSIGN(const Started started, start_process(program, plugin_fd));
  Look look(started, path, ms);
  look.say(hello);
  PluginDescription out;
  TRY_ASSIGN(const Frame greeting, look.expect(Method::greeting));
  if (!read_greeting(greeting, out.missing)) return look.babble();
  TRY_ASSIGN(const Frame described, look.expect(Method::described));
  if (!read_description(described, out)) return look.babble();
  return out;
}

}  // namespace shim
}  // namespace limpet
