// SPDX-License-Identifier: Apache-2.0
// fake_systemd FOLDER: a message bus at FOLDER/bus and a service manager on it, until standard input ends. Says
// "ready", and then of whom it was asked: "pidfd 4711" by descriptor, "pid 4711" by number.
#include <cinttypes>
#include <cstdio>

#include "fake_manager.h"

namespace {

using namespace limpet::workload_attestor_systemd::test;

// Whose pidfd it is, as the kernel tells its holder; 0: it is none, or of a process that has ended.
int process_of(int fd) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
  for (std::string line; std::getline(info, line);) {
    int pid = 0;
    if (std::sscanf(line.c_str(), "Pid: %d", &pid) == 1) return pid;
  }
  return 0;
}

bool tell(sd_bus_message* call, const std::string& member) {
  int fd = -1;
  uint32_t pid = 0;
  if (member == "GetUnitByPIDFD" && sd_bus_message_read(call, "h", &fd) > 0) std::printf("pidfd %d\n", process_of(fd));
  if (member == "GetUnitByPID" && sd_bus_message_read(call, "u", &pid) > 0) std::printf("pid %" PRIu32 "\n", pid);
  std::fflush(stdout);
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const TestBus bus(argv[1]);
  const FakeManager manager(bus.address(), tell);
  std::puts("ready");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  return 0;
}
