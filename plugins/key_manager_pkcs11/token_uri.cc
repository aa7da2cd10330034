// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/token_uri.h"

#include "base/bytes.h"

namespace limpet::pkcs11 {
namespace {

constexpr std::string_view kScheme = "pkcs11:";
constexpr size_t kMaxBytes = 2048;
constexpr size_t kMaxLabelBytes = 32;  // as PKCS#11's token information has room for

std::unexpected<Error> bad(const std::string& why) { return fail(Code::invalid_argument, "token: " + why); }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Result<std::string> unescape(std::string_view name, std::string_view text) {
  std::string out;
  while (!text.empty()) {
    if (text[0] != '%') {
      out += text[0];
      text.remove_prefix(1);
      continue;
    }
    if (text.size() < 3 || hex_digit(text[1]) < 0 || hex_digit(text[2]) < 0)
      return bad("\"%\" without two hex digits in \"" + std::string(name) + "\"");
    out += static_cast<char>(hex_digit(text[1]) * 16 + hex_digit(text[2]));
    text.remove_prefix(3);
  }
  if (out.empty() || out.find('\0') != std::string::npos || !is_utf8(out))
    return bad("\"" + std::string(name) + "\" is empty or no text");
  return out;
}

// Takes the text up to the separator off the front.
std::string_view take(std::string_view& rest, char separator) {
  const size_t end = rest.find(separator);
  const std::string_view out = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return out;
}

std::string* place_of(TokenUri& uri, std::string_view name, bool query) {
  if (query && name == "module-path") return &uri.module_path;
  if (query && name == "pin-source") return &uri.pin_file;
  if (query) return nullptr;
  if (name == "token") return &uri.token.label;
  if (name == "serial") return &uri.token.serial;
  if (name == "manufacturer") return &uri.token.manufacturer;
  if (name == "model") return &uri.token.model;
  return nullptr;
}

Result<void> read_attribute(TokenUri& uri, std::string_view text, bool query) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) return bad("\"" + std::string(text) + "\" is no attribute with a value");
  const std::string_view name = text.substr(0, equals);
  if (name == "pin-value") return bad("a PIN does not belong into the configuration: use pin_file or pin_env");
  std::string* place = place_of(uri, name, query);
  if (place == nullptr) {
    return bad("attribute \"" + std::string(name) +
               "\" is not known; known: " + (query ? "module-path, pin-source" : "token, serial, manufacturer, model"));
  }
  if (!place->empty()) return bad("attribute \"" + std::string(name) + "\" stands there twice");
  TRY_ASSIGN(*place, unescape(name, text.substr(equals + 1)));
  return {};
}

// "file:/path", "file:///path" or the path.
Result<void> read_pin_source(std::string& source) {
  std::string_view path = source;
  if (path.starts_with("file:")) path.remove_prefix(5);
  if (path.starts_with("///")) path.remove_prefix(2);
  if (!path.starts_with("/")) return bad("\"pin-source\" must be a file by its whole path");
  source = std::string(path);
  return {};
}

}  // namespace

Result<TokenUri> parse_token(std::string_view text) {
  TokenUri uri;
  if (!text.starts_with(kScheme)) {
    if (text.empty() || text.size() > kMaxLabelBytes || !is_utf8(text))
      return bad("set the token's label, of 1 to 32 bytes, or a pkcs11: URI");
    uri.token.label = std::string(text);
    return uri;
  }
  if (text.size() > kMaxBytes) return bad("longer than 2,048 bytes");
  std::string_view query = text.substr(kScheme.size());
  std::string_view path = take(query, '?');
  while (!path.empty()) TRY(read_attribute(uri, take(path, ';'), false));
  while (!query.empty()) TRY(read_attribute(uri, take(query, '&'), true));
  if (uri.token == TokenMatch()) return bad("the URI names no token: add token= or serial=");
  if (!uri.pin_file.empty()) TRY(read_pin_source(uri.pin_file));
  return uri;
}

std::string describe(const TokenMatch& token) {
  std::string out = "token";
  const auto add = [&out](const char* name, const std::string& value) {
    if (value.empty()) return;
    out += (out == "token" ? "" : ",") + std::string(name) + " \"" + value + "\"";
  };
  add("", token.label);
  add(" serial", token.serial);
  add(" manufacturer", token.manufacturer);
  add(" model", token.model);
  return out;
}

}  // namespace limpet::pkcs11
