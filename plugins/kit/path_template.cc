// SPDX-License-Identifier: Apache-2.0
#include "kit/path_template.h"

#include <algorithm>

namespace limpet::kit {
namespace {

constexpr size_t kMaxBytes = 2048;

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::unexpected<Error> invalid(std::string message) {
  return fail(Code::invalid_argument, "agent_path_template: " + std::move(message));
}

}  // namespace

Result<PathTemplate> PathTemplate::parse(std::string_view text, std::initializer_list<std::string_view> known) {
  if (text.size() > kMaxBytes) return invalid("longer than 2,048 bytes");
  PathTemplate out;
  while (!text.empty()) {
    const size_t open = text.find("{{");
    if (open != 0) out.parts_.push_back({false, std::string(text.substr(0, open))});
    if (open == std::string_view::npos) break;
    const size_t close = text.find("}}", open);
    if (close == std::string_view::npos) return invalid("\"{{\" without \"}}\"");
    const std::string_view field = trim(text.substr(open + 2, close - open - 2));
    if (field.empty() || field[0] != '.' || std::ranges::find(known, field.substr(1)) == known.end()) {
      std::string names;
      for (std::string_view name : known) names += (names.empty() ? "." : ", .") + std::string(name);
      return invalid("unknown field \"" + std::string(field) + "\"; known: " + names);
    }
    out.parts_.push_back({true, std::string(field.substr(1))});
    text.remove_prefix(close + 2);
  }
  if (out.parts_.empty()) return invalid("it is empty");
  return out;
}

bool PathTemplate::uses(std::string_view field) const {
  return std::ranges::any_of(parts_, [&](const Part& part) { return part.field && part.text == field; });
}

std::string PathTemplate::render(const std::map<std::string, std::string, std::less<>>& values) const {
  std::string out;
  for (const Part& part : parts_) {
    if (!part.field) {
      out += part.text;
    } else if (const auto value = values.find(part.text); value != values.end()) {
      out += value->second;
    }
  }
  return out.starts_with("/") ? out : "/" + out;
}

}  // namespace limpet::kit
