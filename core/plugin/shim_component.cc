// SPDX-License-Identifier: Apache-2.0
// Who the child runs as, what it is told first, and the look into a file that a throw-away child takes.
#include "plugin/shim_component.h"

#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "plugin/shim_child.h"
#include "plugin/shim_codec.h"
#include "plugin/shim_proxy.h"

#ifndef LIMPET_SHIM_PROGRAM
#define LIMPET_SHIM_PROGRAM "/usr/libexec/limpet/limpet-shim"
#endif

namespace limpet::shim {
namespace {

constexpr int kDescribeMs = 10'000;

void put_texts(FrameWriter& out, const std::vector<std::string>& texts) {
  out.u32(static_cast<uint32_t>(texts.size()));
  for (const std::string& text : texts) out.text(text);
}

struct Account {
  uint32_t uid = kKeepId;
  uint32_t gid = kKeepId;
};

bool look_up(const std::string& name, Account& out) {
  std::array<char, 2048> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) return false;
  out = {entry.pw_uid, entry.pw_gid};
  return true;
}

// Only root can give a process another user; for others the child says that this protection is missing.
Result<Account> account_of(const std::string& user) {
  Account out;
  if (::geteuid() != 0) return out;
  if (user.empty()) {
    if (!look_up("limpet-shim", out) && !look_up("nobody", out)) out = {65534, 65534};
    return out;
  }
  uint32_t number = 0;
  const char* end = user.data() + user.size();
  const auto parsed = std::from_chars(user.data(), end, number);
  if (parsed.ec == std::errc() && parsed.ptr == end) return Account{number, number};
  if (look_up(user, out)) return out;
  return fail(Code::invalid_argument, "\"user\" is \"" + user + "\": there is no such user; useradd makes one");
}

Bytes hello_frame(const Settings& s, const Account& account, std::string_view interface_id, std::string_view name,
                  std::string_view path, uint32_t services, bool describe) {
  FrameWriter out(Method::hello, 0);
  out.u32(kWireVersion);
  out.u32(LIMPET_ABI_MAJOR);
  out.u32(LIMPET_ABI_MINOR);
  out.u32(static_cast<uint32_t>(::getpid()));
  out.u32((describe ? kHelloDescribe : 0) | (s.network ? kHelloNetwork : 0) | (s.require_sandbox ? kHelloRequire : 0) |
          (s.sandbox ? kHelloSandbox : 0));
  out.u32(services);
  out.text(interface_id);
  out.text(name);
  out.text(path);
  out.u32(account.uid);
  out.u32(account.gid);
  put_texts(out, s.devices);
  put_texts(out, s.read_paths);
  put_texts(out, s.write_paths);
  return std::move(out).finish();
}

// Waits for the one frame a describing child answers with.
class Conversation {
 public:
  explicit Conversation(Started started) : started_(started) {}
  ~Conversation() {
    ::close(started_.fd);
    ::kill(started_.pid, SIGKILL);
    while (::waitpid(started_.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;

  bool say(const Bytes& frame) {
    return ::send(started_.fd, frame.data(), frame.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(frame.size());
  }
  std::optional<Frame> hear() {
    uint8_t buffer[4096];
    for (;;) {
      if (auto frame = splitter_.next()) return frame;
      pollfd ready = {started_.fd, POLLIN, 0};
      if (splitter_.broken() || ::poll(&ready, 1, kDescribeMs) <= 0) return std::nullopt;
      const ssize_t got = ::recv(started_.fd, buffer, sizeof buffer, 0);
      if (got <= 0) return std::nullopt;
      splitter_.add({buffer, static_cast<size_t>(got)});
    }
  }

 private:
  Started started_;
  FrameSplitter splitter_;
};

Result<PluginFacts> read_facts(const Frame& frame, const std::string& path) {
  FieldReader in(frame.payload);
  if (frame.method == Method::refused) {
    const uint32_t code = in.u32();
    const std::string why(in.text());
    if (!in.done() || code == 0 || code > 16) return fail(Code::internal, "plugin " + path + ": its process babbles");
    return fail(static_cast<Code>(code), why);
  }
  PluginFacts out;
  out.id = in.text();
  out.version = in.text();
  out.license = in.text();
  const size_t count = in.count(12, 64);
  for (size_t i = 0; i < count; ++i) {
    ComponentFacts c;
    c.interface_id = in.text();
    c.name = in.text();
    c.flags = in.u32();
    out.components.push_back(std::move(c));
  }
  for (const limpet_str text : ReadTexts(in).items) out.missing.emplace_back(text.ptr, text.len);
  if (frame.method != Method::described || !in.done())
    return fail(Code::internal, "plugin " + path + ": its process babbles");
  return out;
}

Result<PluginFacts> look_into(const Settings& settings, const PluginFile& file, const std::string& path,
                              std::string_view interface_id) {
  TRY_ASSIGN(const Account account, account_of(settings.user));
  TRY_ASSIGN(const Started started,
             start_process(settings.program.empty() ? program_beside_us() : settings.program, file.fd()));
  Conversation child(started);
  if (!child.say(hello_frame(settings, account, interface_id, "", path, 0, true)))
    return fail(Code::unavailable, "plugin " + path + ": its process does not listen");
  const auto frame = child.hear();
  if (!frame) return fail(Code::failed_precondition, "plugin " + path + ": its process died while it was looked at");
  return read_facts(*frame, path);
}

}  // namespace

std::string program_beside_us() {
  std::array<char, 4096> self{};
  const ssize_t size = ::readlink("/proc/self/exe", self.data(), self.size());
  if (size > 0 && static_cast<size_t>(size) < self.size()) {
    const std::string_view here(self.data(), static_cast<size_t>(size));
    std::string beside = std::string(here.substr(0, here.rfind('/'))) + "/limpet-shim";
    if (::access(beside.c_str(), X_OK) == 0) return beside;
  }
  return LIMPET_SHIM_PROGRAM;
}

Result<PluginFacts> Component::describe(const Settings& settings, const std::string& path, std::string_view sha256) {
  TRY_ASSIGN(const PluginFile file, PluginFile::open(path, sha256));
  return look_into(settings, file, path, "");
}

Result<std::unique_ptr<Component>> Component::open(UvLoop& loop, Settings settings, const std::string& path,
                                                   std::string_view sha256, std::string_view interface_id,
                                                   std::string_view name) {
  std::unique_ptr<Component> made(new Component(loop, std::move(settings)));
  if (made->settings_.program.empty()) made->settings_.program = program_beside_us();
  made->path_ = path;
  TRY_ASSIGN(made->file_, PluginFile::open(path, sha256));
  TRY_ASSIGN(made->facts_, look_into(made->settings_, made->file_, path, interface_id));
  made->interface_ = interface_id;
  made->name_text_ = name;
  made->label_ = std::string(name) + " of " + made->facts_.id;
  for (const ComponentFacts& c : made->facts_.components) {
    if (c.interface_id != interface_id || c.name != name) continue;
    made->fill(c.flags);
  }
  return made;
}

Bytes Component::hello(uint32_t services) const {
  const auto account = account_of(settings_.user);
  return hello_frame(settings_, account ? *account : Account{65534, 65534}, interface_, name_text_, path_, services,
                     false);
}

}  // namespace limpet::shim
