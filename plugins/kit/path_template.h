// SPDX-License-Identifier: Apache-2.0
#pragma once
// agent_path_template: the part of Go's templates that SPIRE's own examples use, text with {{ .Field.Field }} in it.
// Anything else between the braces is a configuration error. Immutable once parsed; any thread.

#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace limpet::kit {

class PathTemplate {
 public:
  // `known` are the fields without their first dot. INVALID_ARGUMENT names what is wrong and what is known.
  static Result<PathTemplate> parse(std::string_view text, std::initializer_list<std::string_view> known);
  [[nodiscard]] bool uses(std::string_view field) const;
  // A field without a value is empty. The result starts with '/'.
  [[nodiscard]] std::string render(const std::map<std::string, std::string, std::less<>>& values) const;

 private:
  struct Part {
    bool field = false;
    std::string text;
  };
  std::vector<Part> parts_;
};

}  // namespace limpet::kit
