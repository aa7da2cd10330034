// SPDX-License-Identifier: Apache-2.0
// A workload attestor in C++: it tells the control group of a process and every group above it, as selectors
// "cgroup:path:/system.slice/nginx.service" and "cgroup:path:/system.slice". Only the unified hierarchy is read.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <limpet.hpp>

namespace {

class CgroupAttestor {
 public:
  explicit CgroupAttestor(limpet::Host host) : host_(host) {}

  // There is nothing to configure.
  limpet::Status configure(const limpet::Config& config) {
    std::string text;
    for (const char c : limpet::view(config.json)) {
      if (c != ' ' && c != '\n' && c != '\t' && c != '\r') text += c;
    }
    if (!text.empty() && text != "{}") {
      return {LIMPET_INVALID_ARGUMENT, "the plugin cgroup has no configuration: remove the table \"data\"", 0};
    }
    return {};
  }

  void attest(const limpet_workload& workload, limpet::SelectorsReply reply) {
    if (workload.reference_type.len > 0) return reply.ok();  // not named by a pid: not our kind
    const std::string path = "/proc/" + std::to_string(workload.pid) + "/cgroup";
    std::string text;
    if (!read_file(path, text) || has_exited(workload.pidfd)) {  // the number may be another process's by now
      return reply.fail(LIMPET_NOT_FOUND, "process " + std::to_string(workload.pid) + " has exited");
    }
    std::vector<std::string> selectors;
    for (std::string group = unified(text); !group.empty(); group.erase(group.rfind('/'))) {
      selectors.push_back("path:" + group);
    }
    host_.log(4, "Control group read", {{"path", path}});
    reply.ok(selectors);
  }

 private:
  static bool read_file(const std::string& path, std::string& out) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    char piece[4096];
    ssize_t n = 0;
    while (out.size() < 65536 && (n = ::read(fd, piece, sizeof piece)) > 0) out.append(piece, static_cast<size_t>(n));
    ::close(fd);
    return n >= 0;
  }
  // A pidfd becomes readable when its process ends.
  static bool has_exited(int pidfd) {
    pollfd p = {pidfd, POLLIN, 0};
    return pidfd >= 0 && ::poll(&p, 1, 0) != 0;
  }
  // The path in the line "0::/path"; empty for the root group or without such a line.
  static std::string unified(const std::string& text) {
    const size_t at = text.rfind("0::/", 0) == 0 ? 0 : text.find("\n0::/");
    if (at == std::string::npos) return {};
    const size_t from = text.find('/', at);
    std::string path = text.substr(from, text.find('\n', from) - from);
    return path == "/" ? std::string() : path;
  }

  limpet::Host host_;
};

const limpet_component attestor = limpet::workload_attestor<CgroupAttestor>("cgroup");

}  // namespace

LIMPET_PLUGIN("org.example.cgroup", "1.0.0", "Apache-2.0", &attestor)
