// SPDX-License-Identifier: Apache-2.0
// What the child says comes through a pipe as texts, each ended by a NUL: "ok" and the description, or "error", a code
// and a message. The plugin's code may write there too, so it is taken for hostile.
#include "plugin/describe.h"

#include <fcntl.h>
#include <limpet_plugin.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstring>
#include <optional>

#include "base/bytes.h"
#include "base/errno_text.h"
#include "plugin/loader.h"

namespace limpet {
namespace {

constexpr size_t kMaxSaid = 64u << 10;  // 64 components with the longest names
constexpr rlim_t kMemory = rlim_t{512} << 20;

void limit(decltype(RLIMIT_CORE) resource, rlim_t most) {
  const rlimit value = {most, most};
  (void)::setrlimit(resource, &value);
}

// ---- in the child ----
void confine(int64_t ms) {
  (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
  (void)::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  (void)::setpgid(0, 0);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_NOFILE, 64);
  limit(RLIMIT_CPU, static_cast<rlim_t>(ms / 1000 + 1));
#if !defined(__SANITIZE_ADDRESS__)  // whose shadow alone is larger
  limit(RLIMIT_AS, kMemory);
#endif
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd <= 2 && nothing >= 0; ++fd) (void)::dup2(nothing, fd);
  for (const int signal : {SIGTERM, SIGINT, SIGPIPE, SIGXFSZ}) (void)std::signal(signal, SIG_DFL);
}

void add(std::string& said, std::string_view text) { said.append(text.substr(0, text.find('\0'))).push_back('\0'); }

std::string said_of(const PluginDescription& d) {
  std::string out;
  for (const std::string& text : {std::string("ok"), d.sha256, d.id, d.version, d.license, std::to_string(d.abi_major),
                                  std::to_string(d.abi_minor)})
    add(out, text);
  for (const auto& c : d.components) {
    add(out, c.interface_id);
    add(out, c.name);
    add(out, std::to_string((c.blocking ? LIMPET_BLOCKING : 0) | (c.serial ? LIMPET_SERIAL : 0)));
  }
  return out;
}

[[noreturn]] void look(const std::string& path, int out, int64_t ms) {
  confine(ms);
  std::string said;
  std::string digest;
  const auto loaded = [&]() -> Result<const limpet_plugin*> {
    TRY_ASSIGN(PluginFile file, PluginFile::open_any(path, digest));
    return map_plugin(std::move(file).release(), path);
  }();
  if (loaded) {
    PluginDescription description = description_of(**loaded);
    description.sha256 = digest;
    said = said_of(description);
  } else {
    add(said, "error");
    add(said, std::to_string(static_cast<int>(loaded.error().code)));
    add(said, loaded.error().message);
  }
  (void)!::write(out, said.data(), said.size());  // at most what a pipe holds
  ::_exit(0);
}

// ---- in the parent ----
using Clock_ = std::chrono::steady_clock;

// Until the child closes its end; nullopt: not in time.
std::optional<std::string> hear(int in, int64_t ms) {
  const auto end = Clock_::now() + std::chrono::milliseconds(ms);
  std::string said;
  char buffer[4096];
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock_::now()).count();
    pollfd ready = {in, POLLIN, 0};
    if (left <= 0 || ::poll(&ready, 1, static_cast<int>(left)) == 0) return std::nullopt;
    const ssize_t got = ::read(in, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return said;
    if (said.size() < kMaxSaid) said.append(buffer, static_cast<size_t>(got));
  }
}

// The plugin's code may have left processes behind: they are in the child's group.
int reap(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  (void)::kill(-child, SIGKILL);
  return status;
}

std::string end_of(int status) {
  if (WIFSIGNALED(status)) {
    return "its code ended the process that looked at it with signal " + std::to_string(WTERMSIG(status)) + " (" +
           ::strsignal(WTERMSIG(status)) + ")";
  }
  return "its code ended the process that looked at it with exit code " + std::to_string(WEXITSTATUS(status));
}

std::optional<uint32_t> number(std::string_view text) {
  uint32_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return out;
}

std::vector<std::string_view> texts_of(std::string_view said) {
  std::vector<std::string_view> out;
  while (!said.empty()) {
    const size_t end = said.find('\0');
    if (end == std::string_view::npos) return {};
    out.push_back(said.substr(0, end));
    said.remove_prefix(end + 1);
  }
  return out;
}

std::optional<Result<PluginDescription>> understand(std::string_view said) {
  const std::vector<std::string_view> texts = texts_of(said);
  for (const std::string_view text : texts) {
    if (!is_utf8(text)) return std::nullopt;
  }
  if (texts.size() == 3 && texts[0] == "error") {
    const auto code = number(texts[1]);
    if (!code || *code == 0 || *code > 16) return std::nullopt;
    return fail(static_cast<Code>(*code), std::string(texts[2]));
  }
  if (texts.size() < 10 || texts[0] != "ok" || (texts.size() - 7) % 3 != 0) return std::nullopt;
  const auto major = number(texts[5]);
  const auto minor = number(texts[6]);
  if (!major || !minor) return std::nullopt;
  PluginDescription out;
  out.sha256 = texts[1];
  out.id = texts[2];
  out.version = texts[3];
  out.license = texts[4];
  out.abi_major = *major;
  out.abi_minor = *minor;
  for (size_t i = 7; i < texts.size(); i += 3) {
    const auto flags = number(texts[i + 2]);
    if (!flags) return std::nullopt;
    out.components.push_back({std::string(texts[i]), std::string(texts[i + 1]), (*flags & LIMPET_BLOCKING) != 0,
                              (*flags & LIMPET_SERIAL) != 0});
  }
  return out;
}

std::unexpected<Error> cannot_look(const std::string& path) {
  return fail(Code::unavailable, "plugin " + path + ": no process can be started to look at it: " + errno_text(errno));
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
    out.components.push_back(
        {c.interface_id, c.name, (c.flags & LIMPET_BLOCKING) != 0, (c.flags & LIMPET_SERIAL) != 0});
  }
  return out;
}

Result<PluginDescription> describe_plugin_file(const std::string& path, int64_t ms) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return cannot_look(path);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    look(path, ends[1], ms);
  }
  ::close(ends[1]);
  if (child < 0) {
    ::close(ends[0]);
    return cannot_look(path);
  }
  (void)::setpgid(child, child);  // whoever comes first
  const std::optional<std::string> said = hear(ends[0], ms);
  ::close(ends[0]);
  if (!said) {
    (void)::kill(-child, SIGKILL);
    (void)::kill(child, SIGKILL);
  }
  const int status = reap(child);
  const std::string what = "plugin " + path + " refused: ";
  if (!said) {
    return fail(Code::deadline_exceeded,
                what + "its code did not return within " + std::to_string(ms / 1000) + " s of being loaded");
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return fail(Code::internal, what + end_of(status));
  if (said->empty()) return fail(Code::internal, what + end_of(status) + " before it was looked at");
  auto understood = understand(*said);
  if (!understood) return fail(Code::internal, what + "what its process said cannot be understood");
  return std::move(*understood);
}

}  // namespace limpet
