// SPDX-License-Identifier: Apache-2.0
#pragma once
// allowed_dns_patterns: regular expressions as Go writes them, matched by the C library's. As in SPIRE a pattern may
// match anywhere in the name: ^ and $ tie it to the ends. Immutable once compiled; any thread.

#include <regex.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace limpet::http_challenge {

// A Go expression as a POSIX extended one. INVALID_ARGUMENT names what has no counterpart.
Result<std::string> to_posix(std::string_view pattern);

class Patterns {
 public:
  static Result<Patterns> compile(const std::vector<std::string>& patterns);
  [[nodiscard]] bool empty() const { return all_.empty(); }
  [[nodiscard]] bool matches(const std::string& name) const;

 private:
  struct Free {
    void operator()(regex_t* compiled) const {
      regfree(compiled);
      delete compiled;
    }
  };
  std::vector<std::unique_ptr<regex_t, Free>> all_;
};

}  // namespace limpet::http_challenge
