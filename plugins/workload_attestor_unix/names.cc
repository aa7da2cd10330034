// SPDX-License-Identifier: Apache-2.0
// Names from the system's user and group databases.
#include "workload_attestor_unix/names.h"

#include <grp.h>
#include <pwd.h>
#include <time.h>

#include <cerrno>
#include <vector>

#include "base/bytes.h"

namespace limpet::workload_attestor_unix {
namespace {

constexpr int64_t kKnownSeconds = 60;    // renamed accounts show within a minute
constexpr int64_t kUnknownSeconds = 10;  // new ones sooner
constexpr size_t kMaxKnown = 4096;
constexpr size_t kMaxBuffer = 1u << 20;  // a group with very many members

int64_t now_s() {
  timespec t = {};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec;
}

std::string ask(NameKind kind, uint32_t id) {
  for (std::vector<char> buffer(4096); buffer.size() <= kMaxBuffer; buffer.resize(buffer.size() * 4)) {
    passwd user = {};
    group grp = {};
    passwd* found_user = nullptr;
    group* found_group = nullptr;
    const int why = kind == NameKind::user ? ::getpwuid_r(id, &user, buffer.data(), buffer.size(), &found_user)
                                           : ::getgrgid_r(id, &grp, buffer.data(), buffer.size(), &found_group);
    if (why == ERANGE) continue;
    const char* name = found_user != nullptr ? found_user->pw_name : found_group != nullptr ? found_group->gr_name : "";
    return is_utf8(name) ? name : "";
  }
  return {};
}

}  // namespace

bool Names::recall(NameKind kind, uint32_t id, std::string& out) {
  const std::lock_guard lock(mutex_);
  const auto place = known_.find({kind, id});
  if (place == known_.end() || place->second.until_s <= now_s()) return false;
  out = place->second.name;
  return true;
}

std::string Names::resolve(NameKind kind, uint32_t id) {
  std::string name;
  if (recall(kind, id, name)) return name;
  name = ask(kind, id);
  const std::lock_guard lock(mutex_);
  if (known_.size() >= kMaxKnown) known_.clear();
  known_[{kind, id}] = {name, now_s() + (name.empty() ? kUnknownSeconds : kKnownSeconds)};
  return name;
}

}  // namespace limpet::workload_attestor_unix
