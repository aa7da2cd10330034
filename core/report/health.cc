// SPDX-License-Identifier: Apache-2.0
#include "report/health.h"

namespace limpet {

void Health::report(std::string_view part, HealthState state, std::string reason) {
  if (state == HealthState::ok) reason.clear();
  const auto found = parts_.find(part);
  if (found == parts_.end()) {
    parts_.emplace(part, Part{state, std::move(reason)});
  } else {
    found->second = Part{state, std::move(reason)};
  }
}

HealthState Health::worst() const {
  if (parts_.empty()) return HealthState::starting;  // nobody has said anything yet
  // A part that has failed outweighs one that starts, which outweighs one that is degraded: only the last still serves.
  const auto weight = [](HealthState state) {
    switch (state) {
      case HealthState::ok:
        return 0;
      case HealthState::degraded:
        return 1;
      case HealthState::starting:
        return 2;
      case HealthState::failed:
        return 3;
    }
    return 3;
  };
  HealthState worst = HealthState::ok;
  for (const auto& [name, part] : parts_) {
    if (weight(part.state) > weight(worst)) worst = part.state;
  }
  return worst;
}

void Health::note(std::string_view name, std::string text) {
  if (text.empty()) {
    if (const auto place = notes_.find(name); place != notes_.end()) notes_.erase(place);
    return;
  }
  notes_.insert_or_assign(std::string(name), std::move(text));
}

std::vector<Health::Fact> Health::facts() const {
  std::vector<Fact> out = look_ ? look_() : std::vector<Fact>();
  for (const auto& [name, text] : notes_) out.push_back({name, text});
  return out;
}

}  // namespace limpet
