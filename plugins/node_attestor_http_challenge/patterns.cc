// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_http_challenge/patterns.h"

#include <algorithm>

namespace limpet::http_challenge {
namespace {

constexpr size_t kMaxPatterns = 64;
constexpr size_t kMaxBytes = 512;
constexpr std::string_view kSpecial = ".[]\\()*+?{}^$|";
constexpr std::string_view kDigits = "0-9";
constexpr std::string_view kWord = "0-9A-Za-z_";

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

bool is_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

// Reads one expression from left to right.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : rest_(pattern) {}

  Result<std::string> all() {
    while (!rest_.empty()) TRY(one());
    return std::move(out_);
  }

 private:
  char take() {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }
  Result<void> one() {
    const bool after_quantifier = std::exchange(quantified_, false);
    const char c = take();
    if (c == '\\') return escape();
    if (c == '[') return bracket();
    if (c == '?' && after_quantifier) return {};  // as few as possible: whether it matches is the same
    if (c == '(' && rest_.starts_with("?")) {
      if (!rest_.starts_with("?:")) return invalid("\"(?\" other than \"(?:\" is not supported");
      rest_.remove_prefix(2);
    }
    quantified_ = c == '*' || c == '+' || c == '?' || c == '}';
    out_ += c;
    return {};
  }
  Result<void> escape() {
    if (rest_.empty()) return invalid("it ends with a backslash");
    const char c = take();
    if (c == 'd' || c == 'w') {
      out_ += "[" + std::string(c == 'd' ? kDigits : kWord) + "]";
      return {};
    }
    if (is_alnum(c)) return invalid(std::string("\"\\") + c + "\" is not supported");
    if (kSpecial.find(c) != std::string_view::npos) out_ += '\\';
    out_ += c;
    return {};
  }
  // In POSIX a backslash is itself here, so what Go escapes goes to the place where it means itself: ']' first, '^' and
  // '-' last.
  Result<void> bracket() {
    const bool negated = rest_.starts_with("^");
    if (negated) rest_.remove_prefix(1);
    std::string body;
    bool close = false;
    bool caret = false;
    bool dash = false;
    for (bool first = true;; first = false) {
      if (rest_.empty()) return invalid("\"[\" without \"]\"");
      char c = take();
      if (c == ']' && !first) break;
      const bool escaped = c == '\\' && !rest_.empty();
      if (escaped) c = take();
      if (escaped && (c == 'd' || c == 'w')) {
        body += c == 'd' ? kDigits : kWord;
      } else if (escaped && is_alnum(c)) {
        return invalid(std::string("\"\\") + c + "\" is not supported");
      } else if (c == '[' && !rest_.empty() && (rest_[0] == '.' || rest_[0] == '=' || rest_[0] == ':')) {
        return invalid("\"[" + std::string(1, rest_[0]) + "\" in brackets is not supported");
      } else if (c == ']') {
        close = true;
      } else if (c == '^') {
        caret = true;
      } else if (c == '-' && (escaped || first || rest_.starts_with("]"))) {
        dash = true;
      } else {
        body += c;
      }
    }
    if (caret && !negated && !close && body.empty()) return invalid("\"^\" alone in brackets is not supported");
    out_ += std::string(negated ? "[^" : "[") + (close ? "]" : "") + body + (caret ? "^" : "") + (dash ? "-]" : "]");
    return {};
  }

  std::string_view rest_;  // of the caller's text, which outlives this
  std::string out_;
  bool quantified_ = false;
};

}  // namespace

Result<std::string> to_posix(std::string_view pattern) {
  if (pattern.size() > kMaxBytes) return invalid("it is longer than 512 bytes");
  if (pattern.find('\0') != std::string_view::npos) return invalid("it has a NUL");
  return Translator(pattern).all();
}

Result<Patterns> Patterns::compile(const std::vector<std::string>& patterns) {
  if (patterns.size() > kMaxPatterns) return invalid("allowed_dns_patterns: more than 64");
  Patterns out;
  for (const std::string& pattern : patterns) {
    const std::string which = "cannot compile allowed_dns_pattern: \"" + pattern + "\"";
    TRY_ASSIGN_WITHIN(which, const std::string posix, to_posix(pattern));
    auto compiled = std::make_unique<regex_t>();
    if (const int error = regcomp(compiled.get(), posix.c_str(), REG_EXTENDED | REG_NOSUB); error != 0) {
      char text[128] = {};
      regerror(error, compiled.get(), text, sizeof text);
      return invalid(which + ": " + text);
    }
    out.all_.emplace_back(compiled.release());
  }
  return out;
}

bool Patterns::matches(const std::string& name) const {
  return std::ranges::any_of(all_,
                             [&](const auto& one) { return regexec(one.get(), name.c_str(), 0, nullptr, 0) == 0; });
}

}  // namespace limpet::http_challenge
