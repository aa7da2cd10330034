// SPDX-License-Identifier: Apache-2.0
// limpet-shim: a plugin's own process. Started by limpet with a socket as descriptor 3 and the plugin's file as 4, and
// of no use to anybody else. It hears what it is to be, gives up what the plugin does not need, and only then maps the
// plugin.
#include <fcntl.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "link.h"
#include "plugin/loader.h"
#include "plugin/shim_codec.h"
#include "plugin_host.h"
#include "sandbox.h"

// libstdc++'s own prints what was thrown, by name: nothing is thrown here.
namespace __gnu_cxx {
void __verbose_terminate_handler();
void __verbose_terminate_handler() { std::abort(); }
}  // namespace __gnu_cxx

namespace limpet::shim {
namespace {

constexpr uint32_t kDescribe = 1, kNetwork = 2, kRequire = 4, kSandboxed = 8;  // as in plugin/shim_proxy.h

struct Hello {
  uint32_t parent = 0;
  uint32_t flags = 0;
  uint32_t services = 0;
  std::string interface_id;
  std::string name;
  std::string path;
  Policy policy;
};

std::vector<std::string> texts(FieldReader& in) {
  std::vector<std::string> out;
  const ReadTexts read(in);
  out.reserve(read.items.size());
  for (const limpet_str t : read.items) out.emplace_back(t.ptr, t.len);
  return out;
}

bool read_hello(Link& link, Hello& out) {
  std::optional<Frame> frame;
  while (!(frame = link.next())) {
    if (!link.receive(true)) return false;
  }
  FieldReader in(frame->payload);
  if (frame->method != Method::hello || in.u32() != kWireVersion) return false;
  if (in.u32() != LIMPET_ABI_MAJOR || in.u32() != LIMPET_ABI_MINOR) return false;
  out.parent = in.u32();
  out.flags = in.u32();
  out.services = in.u32();
  out.interface_id = in.text();
  out.name = in.text();
  out.path = in.text();
  out.policy.uid = in.u32();
  out.policy.gid = in.u32();
  out.policy.devices = texts(in);
  out.policy.read_paths = texts(in);
  out.policy.write_paths = texts(in);
  out.policy.network = (out.flags & kNetwork) != 0;
  out.policy.looks_at_processes = out.interface_id == LIMPET_WORKLOAD_ATTESTOR;
  return in.done();
}

void close_other_descriptors() {
#ifdef SYS_close_range
  if (::syscall(SYS_close_range, kFirstFreeFd, ~0u, 0) == 0) return;
#endif
  rlimit most = {};
  (void)::getrlimit(RLIMIT_NOFILE, &most);
  for (int fd = kFirstFreeFd; fd < static_cast<int>(std::min<rlim_t>(most.rlim_cur, 65'536)); ++fd) ::close(fd);
}

int refuse(Link& link, Code code, const std::string& why) {
  FrameWriter frame(Method::refused, 0);
  frame.u32(static_cast<uint32_t>(code));
  frame.text(why);
  link.send(std::move(frame));
  return 1;
}

void put_texts(FrameWriter& out, const std::vector<std::string>& list) {
  out.u32(static_cast<uint32_t>(list.size()));
  for (const std::string& text : list) out.text(text);
}

// The new user must get at what the configuration promised it: said now, not at the first signature.
std::string out_of_reach(const Policy& policy, const std::string& plugin) {
  const std::string who = policy.uid == UINT32_MAX ? "the daemon's user" : "user " + std::to_string(policy.uid);
  for (const auto* list : {&policy.devices, &policy.write_paths}) {
    for (const std::string& path : *list) {
      if (::faccessat(AT_FDCWD, path.c_str(), R_OK | W_OK, AT_EACCESS) == 0 || errno == EROFS) continue;
      return path + " cannot be written by " + who + ": " + std::strerror(errno) +
             "; change its owner or mode, or set \"user\"";
    }
  }
  if (::faccessat(AT_FDCWD, "/proc/self/fd/4", R_OK, AT_EACCESS) != 0) {  // the dynamic linker opens it anew
    return plugin + " cannot be read by " + who + ": " + std::strerror(errno) +
           "; change its owner or mode, or set \"user\"";
  }
  for (const std::string& path : policy.read_paths) {
    if (::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) == 0) continue;
    return path + " cannot be read by " + who + ": " + std::strerror(errno) +
           "; change its owner or mode, or set \"user\"";
  }
  return {};
}

int describe(Link& link, const limpet_plugin& plugin) {
  FrameWriter frame(Method::described, 0);
  frame.text(plugin.id);
  frame.text(plugin.version);
  frame.text(plugin.license);
  frame.u32(plugin.abi_major);
  frame.u32(plugin.abi_minor);
  uint32_t count = 0;
  while (plugin.components[count] != nullptr) ++count;
  frame.u32(count);
  for (uint32_t i = 0; i < count; ++i) {
    frame.text(plugin.components[i]->interface_id);
    frame.text(plugin.components[i]->name);
    frame.u32(plugin.components[i]->flags);
  }
  link.send(std::move(frame));
  return 0;
}

int run() {
  struct stat socket = {};
  if (::fstat(kSocketFd, &socket) != 0 || !S_ISSOCK(socket.st_mode)) {
    std::fputs("limpet-shim: limpet starts this program for each plugin that runs out of process; see limpet-shim(8)\n",
               stderr);
    return 2;
  }
  close_other_descriptors();
  (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
  Link link(kSocketFd);
  Hello hello;
  if (!read_hello(link, hello))
    return refuse(link, Code::failed_precondition, "limpet-shim is of another version than limpet");
  if (static_cast<uint32_t>(::getppid()) != hello.parent) return 1;  // it died before we could be told
#ifdef __GLIBC__
  (void)mallopt(M_ARENA_MAX, 1);
#endif
  std::vector<std::string> missing;
  if ((hello.flags & kSandboxed) != 0) {
    // from here on a plugin could fill the daemon's own log by way of standard error: it has log records of its host
    const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    missing = enter_sandbox(hello.policy, kPluginFd);
    if (nowhere >= 0) {
      (void)::dup2(nowhere, STDERR_FILENO);
      ::close(nowhere);
    }
    if (static_cast<uint32_t>(::getppid()) != hello.parent) return 1;
  } else {
    missing = {"everything: the sandbox is switched off"};
  }
  if ((hello.flags & kRequire) != 0 && !missing.empty()) {
    std::string list;
    for (const std::string& one : missing) list += (list.empty() ? "" : "; ") + one;
    return refuse(link, Code::failed_precondition, "require_sandbox is set, and its sandbox lacks: " + list);
  }
  if (const std::string path = out_of_reach(hello.policy, hello.path); !path.empty())
    return refuse(link, Code::failed_precondition, path);
  // now, while nobody's code but ours has run: a plugin could write such a frame itself
  FrameWriter greeting(Method::greeting, 0);
  greeting.u32(kWireVersion);
  put_texts(greeting, missing);
  link.send(std::move(greeting));
  const auto plugin = map_plugin(kPluginFd, hello.path);
  if (!plugin) return refuse(link, plugin.error().code, plugin.error().message);
  if ((hello.flags & kDescribe) != 0) return describe(link, **plugin);
  const limpet_component* component = find_component(**plugin, hello.interface_id, hello.name);
  if (component == nullptr) return refuse(link, Code::not_found, "no such component in " + hello.path);
  PluginHost host(link, hello.services);
  if (const limpet_code code = host.create(*component); code != LIMPET_OK)
    return refuse(link, code > 0 && code <= 16 ? static_cast<Code>(code) : Code::internal,
                  "the plugin could not create an instance");
  link.send(FrameWriter(Method::ready, 0));
  return host.run() ? 0 : 1;
}

}  // namespace
}  // namespace limpet::shim

int main() {
  std::signal(SIGPIPE, SIG_IGN);
  const int status = limpet::shim::run();
  // not exit(): what a plugin's libraries do at the end must not keep the process
  ::_exit(status);
}
