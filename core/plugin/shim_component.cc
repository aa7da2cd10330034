// SPDX-License-Identifier: Apache-2.0
// Who the child runs as, and what it is told first.
#include "plugin/shim_component.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "plugin/shim_proxy.h"

#ifndef LIMPET_SHIM_PROGRAM
#define LIMPET_SHIM_PROGRAM "/usr/libexec/limpet/limpet-shim"
#endif

namespace limpet::shim {
namespace {

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

namespace {
Result<PluginDescription> look(const Settings& settings, const PluginFile& file, const std::string& path,
                               std::string_view interface_id) {
  TRY_ASSIGN(const Account account, account_of(settings.user));
  return look_into(settings.program.empty() ? program_beside_us() : settings.program, file.fd(), path,
                   hello_frame(settings, account, interface_id, "", path, 0, true), settings.look_ms);
}
}  // namespace

Result<PluginDescription> Component::describe(const Settings& settings, const std::string& path,
                                              std::string_view sha256) {
  TRY_ASSIGN(const PluginFile file, sha256.empty() ? PluginFile::open_any(path) : PluginFile::open(path, sha256));
  return describe(settings, file, path);
}

Result<PluginDescription> Component::describe(const Settings& settings, const PluginFile& file,
                                              const std::string& path) {
  TRY_ASSIGN(PluginDescription found, look(settings, file, path, ""));
  found.sha256 = file.sha256();
  return found;
}

Result<std::unique_ptr<Component>> Component::open(UvLoop& loop, Settings settings, const std::string& path,
                                                   std::string_view sha256, std::string_view interface_id,
                                                   std::string_view name) {
  std::unique_ptr<Component> made(new Component(loop, std::move(settings)));
  if (made->settings_.program.empty()) made->settings_.program = program_beside_us();
  made->path_ = path;
  TRY_ASSIGN(made->file_, PluginFile::open(path, sha256));
  TRY_ASSIGN(made->facts_, look(made->settings_, made->file_, path, interface_id));
  made->interface_ = interface_id;
  made->name_text_ = name;
  made->label_ = std::string(name) + " of " + made->facts_.id;
  for (const auto& c : made->facts_.components) {
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
