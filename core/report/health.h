// SPDX-License-Identifier: Apache-2.0
#pragma once
// Health states: each part of a role reports its state under a fixed name; the role is as healthy as its worst part.
// Degraded means: serving goes on, an operator should look. Loop thread only.

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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

  // What there is to know beside the states: a time, a number, a word.
  struct Fact {
    std::string name;  // "last_contact"
    std::string text;
    std::optional<double> number = {};  // in place of the text
  };
  // Looked up whenever somebody asks; what it looks at outlives the listener. The last one given counts.
  void set_facts(std::function<std::vector<Fact>()> look) { look_ = std::move(look); }
  // A word that holds until the next one of that name; an empty one takes it back.
  void note(std::string_view name, std::string text);
  // What was looked up now, and the notes by name.
  [[nodiscard]] std::vector<Fact> facts() const;

 private:
  std::function<std::vector<Fact>()> look_;
  std::map<std::string, std::string, std::less<>> notes_;
  std::map<std::string, Part, std::less<>> parts_;
};

}  // namespace limpet
