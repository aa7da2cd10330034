// SPDX-License-Identifier: Apache-2.0
#include "config/hcl.h"

#include <algorithm>
#include <utility>

namespace limpet {
namespace {

constexpr size_t kLabels = 4;  // of one block

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_utf8(std::string& out, uint32_t code) {
  const auto tail = [&out](uint32_t bits) { out += static_cast<char>(0x80U | (bits & 0x3FU)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0U | (code >> 6U));
    tail(code);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0U | (code >> 12U));
    tail(code >> 6U);
    tail(code);
  } else {
    out += static_cast<char>(0xF0U | (code >> 18U));
    tail(code >> 12U);
    tail(code >> 6U);
    tail(code);
  }
}

// Adds a value under a key: objects of the same name are joined, anything else takes the place of what was there.
void put(HclValue& object, std::string key, HclValue value) {
  const auto found = std::ranges::find(object.keys, key);
  if (found == object.keys.end()) {
    object.keys.push_back(std::move(key));
    object.items.push_back(std::move(value));
    return;
  }
  HclValue& old = object.items[static_cast<size_t>(found - object.keys.begin())];
  if (old.kind != HclValue::Kind::object || value.kind != HclValue::Kind::object) {
    old = std::move(value);
    return;
  }
  for (size_t i = 0; i < value.keys.size(); ++i) put(old, std::move(value.keys[i]), std::move(value.items[i]));
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<HclValue> root() {
    if (text_.size() > kHclBytes) return wrong("the file is larger than " + std::to_string(kHclBytes) + " bytes");
    TRY(skip());
    HclValue object;
    object.line = line_;
    const bool json = eat('{');
    TRY(body(object, json, 1));
    if (!json) return object;
    TRY(skip());
    if (at_ < text_.size()) return wrong("something stands after the last brace");
    return object;
  }

 private:
  std::unexpected<Error> wrong(const std::string& what) const {
    return fail(Code::invalid_argument, "line " + std::to_string(line_) + ": " + what);
  }
  [[nodiscard]] char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  void step() {
    if (text_[at_] == '\n') ++line_;
    ++at_;
  }
  bool eat(char c) {
    if (peek() != c || at_ >= text_.size()) return false;
    step();
    return true;
  }
  void to_line_end() {
    while (at_ < text_.size() && peek() != '\n') step();
  }

  // White space and comments.
  Result<void> skip() {
    while (at_ < text_.size()) {
      if (is_space(peek())) {
        step();
      } else if (peek() == '#' || (peek() == '/' && peek(1) == '/')) {
        to_line_end();
      } else if (peek() == '/' && peek(1) == '*') {
        const size_t end = text_.find("*/", at_ + 2);
        if (end == std::string_view::npos) return wrong("a comment is not closed");
        while (at_ < end + 2) step();
      } else {
        break;
      }
    }
    return {};
  }

  // What stands in an object, its closing brace with it.
  Result<void> body(HclValue& object, bool braced, size_t depth) {
    for (;;) {
      TRY(skip());
      if (braced && eat('}')) return {};
      if (at_ >= text_.size()) {
        if (braced) return wrong("a brace opened in line " + std::to_string(object.line) + " is not closed");
        return {};
      }
      TRY(item(object, depth));
      TRY(skip());
      eat(',');
    }
  }

  // key = value, key: value, or key "label" { ... }
  Result<void> item(HclValue& object, size_t depth) {
    const uint32_t line = line_;
    std::vector<std::string> keys;
    while (peek() == '"' || is_letter(peek())) {
      if (keys.size() > kLabels) return wrong("a block has more than " + std::to_string(kLabels) + " labels");
      TRY_ASSIGN(keys.emplace_back(), word());
      TRY(skip());
    }
    if (keys.empty()) return wrong("a key is expected");
    HclValue value;
    if (peek() == '=' || peek() == ':') {
      if (keys.size() > 1) return wrong("\"" + keys[0] + "\" has a label and a value: a block is expected");
      step();
      TRY(skip());
      TRY_ASSIGN(value, this->value(depth + 1));
    } else if (peek() == '{') {
      TRY_ASSIGN(value, this->value(depth + keys.size()));
    } else {
      return wrong("\"" + keys.back() + "\" is followed by neither a value nor a block");
    }
    value.line = line;
    for (size_t i = keys.size(); i-- > 1;) {
      HclValue outer;
      outer.line = line;
      put(outer, std::move(keys[i]), std::move(value));
      value = std::move(outer);
    }
    put(object, std::move(keys[0]), std::move(value));
    return {};
  }

  Result<std::string> word() {
    if (peek() == '"') return quoted();
    const size_t start = at_;
    while (is_letter(peek()) || is_digit(peek()) || peek() == '-' || peek() == '.') step();
    return std::string(text_.substr(start, at_ - start));
  }

  Result<HclValue> value(size_t depth) {
    if (depth > kHclDepth) return wrong("values nest more than " + std::to_string(kHclDepth) + " deep");
    if (++values_ > kHclValues) return wrong("more than " + std::to_string(kHclValues) + " values");
    HclValue out;
    out.line = line_;
    if (eat('{')) {
      TRY(body(out, true, depth));
    } else if (eat('[')) {
      out.kind = HclValue::Kind::list;
      TRY(list(out, depth));
    } else if (peek() == '"') {
      out.kind = HclValue::Kind::text;
      TRY_ASSIGN(out.text, quoted());
    } else if (peek() == '<' && peek(1) == '<') {
      out.kind = HclValue::Kind::text;
      TRY_ASSIGN(out.text, heredoc());
    } else {
      TRY(bare(out));
    }
    return out;
  }

  Result<void> list(HclValue& out, size_t depth) {
    for (;;) {
      TRY(skip());
      if (eat(']')) return {};
      if (at_ >= text_.size()) return wrong("a list opened in line " + std::to_string(out.line) + " is not closed");
      TRY_ASSIGN(out.items.emplace_back(), value(depth + 1));
      TRY(skip());
      if (!eat(',') && peek() != ']') return wrong("a comma or \"]\" is expected in a list");
    }
  }

  // A number, true or false.
  Result<void> bare(HclValue& out) {
    const size_t start = at_;
    while (is_letter(peek()) || is_digit(peek()) || peek() == '-' || peek() == '+' || peek() == '.') step();
    out.text = text_.substr(start, at_ - start);
    if (out.text == "true" || out.text == "false") {
      out.kind = HclValue::Kind::boolean;
    } else if (!out.text.empty() && !is_letter(out.text[0])) {
      out.kind = HclValue::Kind::number;
    } else {
      return wrong("a value is expected: text stands in quotes");
    }
    return {};
  }

  Result<std::string> quoted() {
    step();
    std::string out;
    while (at_ < text_.size() && peek() != '"') {
      if (peek() == '\n' || peek() == '\0') return wrong("a text ends with its line: a quote is missing");
      if (peek() == '\\') {
        TRY(escape(out));
      } else {
        out += peek();
        step();
      }
    }
    if (!eat('"')) return wrong("a text is not closed");
    return out;
  }

  Result<void> escape(std::string& out) {
    constexpr std::string_view kNames = "\"\\/nrtbfav";
    constexpr std::string_view kMeant = "\"\\/\n\r\t\b\f\a\v";
    const char name = peek(1);
    if (at_ + 1 >= text_.size()) return wrong("a text is not closed");
    at_ += 1;
    if (const size_t known = kNames.find(name); known != std::string_view::npos) {
      at_ += 1;
      out += kMeant[known];
      return {};
    }
    const size_t digits = name == 'x' ? 2 : name == 'u' ? 4 : name == 'U' ? 8 : 0;
    if (digits == 0) return wrong("an unknown escape in a text");
    at_ += 1;
    TRY_ASSIGN(uint32_t code, hex(digits));
    if (code >= 0xD800 && code < 0xDC00 && peek() == '\\' && peek(1) == 'u') {  // JSON's two halves of one character
      at_ += 2;
      TRY_ASSIGN(const uint32_t low, hex(4));
      if (low < 0xDC00 || low > 0xDFFF) return wrong("half a character in a text");
      code = 0x10000 + ((code - 0xD800) << 10U) + (low - 0xDC00);
    }
    if (code == 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return wrong("no such character in a text");
    append_utf8(out, code);
    return {};
  }

  Result<uint32_t> hex(size_t digits) {
    uint32_t code = 0;
    for (size_t i = 0; i < digits; ++i) {
      const int digit = hex_digit(peek());
      if (digit < 0) return wrong("an escape with too few digits");
      code = (code << 4U) | static_cast<uint32_t>(digit);
      ++at_;
    }
    return code;
  }

  // <<EOF or <<-EOF up to a line with nothing but EOF; the second takes the indentation off that all lines share.
  Result<std::string> heredoc() {
    at_ += 2;
    const bool indented = eat('-');
    const size_t start = at_;
    while (is_letter(peek()) || is_digit(peek())) step();
    const std::string_view anchor = text_.substr(start, at_ - start);
    if (peek() == '\r') step();
    if (anchor.empty() || !eat('\n')) return wrong("the name of a heredoc is expected, and the end of its line");
    std::vector<std::string_view> lines;
    size_t shared = std::string_view::npos;
    while (at_ < text_.size()) {
      const size_t from = at_;
      to_line_end();
      std::string_view one = text_.substr(from, at_ - from);
      if (!one.empty() && one.back() == '\r') one.remove_suffix(1);
      const size_t indent = std::min(one.find_first_not_of(" \t"), one.size());
      if (one.substr(indent) == anchor) return joined(lines, indented ? shared : 0);
      if (indent < one.size()) shared = std::min(shared, indent);
      lines.push_back(one);
      eat('\n');
    }
    return wrong("the heredoc \"" + std::string(anchor) + "\" is not closed");
  }
  static std::string joined(const std::vector<std::string_view>& lines, size_t cut) {
    std::string out;
    for (const std::string_view line : lines) {
      out += line.substr(std::min(cut, line.size()));
      out += '\n';
    }
    return out;
  }

  std::string_view text_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  size_t values_ = 0;
};

}  // namespace

const HclValue* HclValue::find(std::string_view key) const {
  const auto found = std::ranges::find(keys, key);
  return found == keys.end() ? nullptr : &items[static_cast<size_t>(found - keys.begin())];
}

Result<HclValue> parse_hcl(std::string_view text) { return Parser(text).root(); }

std::string expand_env(std::string_view text, const std::function<const char*(const char* name)>& lookup) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool braced = text[i] == '$' && i + 1 < text.size() && text[i + 1] == '{';
    const size_t start = i + (braced ? 2 : 1);
    size_t end = start;
    while (text[i] == '$' && end < text.size() && (is_letter(text[end]) || is_digit(text[end]))) ++end;
    if (end <= start || (braced && (end >= text.size() || text[end] != '}'))) {
      out += text[i];
      continue;
    }
    const char* value = lookup(std::string(text.substr(start, end - start)).c_str());
    if (value != nullptr) out += value;
    i = braced ? end : end - 1;
  }
  return out;
}

}  // namespace limpet
