// SPDX-License-Identifier: Apache-2.0
#pragma once
// Health states: each part of a role reports its state under a fixed name; the role is as healthy as its worst part.
// Degraded means: serving goes on, an operator should look. Loop thread only.

#include <map>
#include <string>
#include <string_view>

namespace limpet {

enum class HealthState { ok, starting, degraded, failed };

class Health {
 public:
  // "store", "link", "clock", "svid", ...; the reason is for people and empty when ok.
  void report(std::string_view part, HealthState state, std::string reason = {});
  [[nodiscard]] HealthState worst() const;
  [[nodiscard]] bool serving() const { return worst() == HealthState::ok || worst() == HealthState::degraded; }
  struct Part {
    HealthState state;
    std::string reason;
  };
  [[nodiscard]] const std::map<std::string, Part, std::less<>>& parts() const { return parts_; }

 private:
  std::map<std::string, Part, std::less<>> parts_;
};

}  // namespace limpet
