// SPDX-License-Identifier: Apache-2.0
#include "process.h"

#include <filesystem>
#include <fstream>

#include "h2_client.h"

namespace limpet::bench {

int64_t cpu_ns(pid_t pid) {
  int64_t sum = 0;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", error)) {
    int64_t ran = 0;
    std::ifstream(task.path() / "schedstat") >> ran;
    sum += ran;
  }
  if (error) die("process " + std::to_string(pid) + " is gone");
  return sum;
}

int64_t memory_kb(pid_t pid, const std::string& field) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/smaps_rollup");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(field + ":")) return std::stoll(line.substr(field.size() + 1));
  }
  die("no " + field + " for process " + std::to_string(pid));
}

}  // namespace limpet::bench
