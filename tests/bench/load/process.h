// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the kernel says of a process: processor time of all its threads and resident memory.

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace limpet::bench {

int64_t cpu_ns(pid_t pid);                               // user and system, exact, threads that ended excluded
int64_t memory_kb(pid_t pid, const std::string& field);  // "Rss" or "Pss"

}  // namespace limpet::bench
