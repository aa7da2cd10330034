// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_http_challenge/messages.h"

#include <arpa/inet.h>
#include <yyjson.h>

#include <algorithm>
#include <array>

#include "kit/go_json.h"

namespace limpet::http_challenge {
namespace {

constexpr size_t kMaxAgentName = 32;
constexpr size_t kMaxHostName = 253;  // RFC 1035

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }
bool is_word(char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '_'; }

// As inet_aton reads one: decimal, octal, or hexadecimal after 0x.
bool is_number(std::string_view label) {
  return label.starts_with("0x") ? std::ranges::all_of(label.substr(2), is_hex) : std::ranges::all_of(label, is_digit);
}

bool all_numbers(std::string_view name) {
  for (size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.')) {
    if (!is_number(name.substr(0, dot))) return false;
    name.remove_prefix(dot + 1);
  }
  return is_number(name);
}

std::string text_of(const in_addr& address) {
  std::array<char, INET_ADDRSTRLEN> text = {};
  return ::inet_ntop(AF_INET, &address, text.data(), text.size()) != nullptr ? text.data() : "";
}

Result<std::string> text_of(yyjson_val* parent, const char* name) {
  yyjson_val* value = kit::GoJson::member(parent, name);
  if (value == nullptr) return std::string();
  if (!yyjson_is_str(value)) return fail(Code::invalid_argument, std::string(name) + " is not a string");
  return std::string(yyjson_get_str(value), yyjson_get_len(value));
}

Result<int64_t> number_of(yyjson_val* parent, const char* name) {
  yyjson_val* value = kit::GoJson::member(parent, name);
  if (value == nullptr) return 0;
  if (!yyjson_is_int(value) || (yyjson_is_uint(value) && yyjson_get_uint(value) > INT64_MAX))
    return fail(Code::invalid_argument, std::string(name) + " is not a whole number");
  return yyjson_get_sint(value);
}

}  // namespace

std::string Place::path() const {
  return "/.well-known/spiffe/nodeattestor/http_challenge/" + agentname + "/challenge";
}

std::string Place::url() const { return "http://" + hostname + ":" + std::to_string(port) + path(); }

std::string encode_payload(const Place& place) {
  return "{\"hostname\":\"" + place.hostname + "\",\"agentname\":\"" + place.agentname +
         "\",\"port\":" + std::to_string(place.port) + "}";
}

Result<Place> decode_payload(BytesView json) {
  TRY_ASSIGN(const kit::GoJson document, kit::GoJson::parse(json));
  Place out;
  TRY_ASSIGN(out.hostname, text_of(document.root(), "hostname"));
  TRY_ASSIGN(out.agentname, text_of(document.root(), "agentname"));
  TRY_ASSIGN(out.port, number_of(document.root(), "port"));
  return out;
}

std::string encode_challenge(std::string_view nonce) { return "{\"nonce\":\"" + std::string(nonce) + "\"}"; }

// The nonce will be served to whoever asks: nothing but base64url is.
Result<std::string> decode_challenge(BytesView json) {
  TRY_ASSIGN(const kit::GoJson document, kit::GoJson::parse(json));
  TRY_ASSIGN(std::string nonce, text_of(document.root(), "nonce"));
  const bool sound = std::ranges::all_of(nonce, [](char c) { return is_word(c) || c == '='; });
  if (nonce.empty() || nonce.size() > kMaxNonceText || !sound)
    return fail(Code::invalid_argument, "the nonce is not 1 to 64 characters of base64url");
  return nonce;
}

bool is_agent_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxAgentName && is_letter(name.front()) && std::ranges::all_of(name, is_word);
}

std::string host_name_problem(std::string_view name) {
  if (name.empty()) return "hostname must be set";
  if (name.find('/') != std::string_view::npos) return "hostname can not contain a slash";
  if (name.find(':') != std::string_view::npos) return "hostname can not contain a colon";
  if (name.size() > kMaxHostName) return "hostname is longer than 253 bytes";
  const bool sound = std::ranges::all_of(name, [](char c) { return is_word(c) || c == '.'; });
  if (!sound || name.find_first_not_of('.') == std::string_view::npos)
    return "hostname has only letters, digits, \"-\", \"_\" and \".\"";
  return {};
}

std::string host_spelling_problem(std::string_view as_sent) {
  std::string name(as_sent);
  for (char& c : name) c = is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c;
  if (name.starts_with('.') || name.ends_with('.') || name.find("..") != std::string::npos)
    return "hostname has a dot at an end or two in a row";
  if (name == "localhost" || name.ends_with(".localhost")) return "hostname is a name of the server's own machine";
  if (!all_numbers(name)) return {};
  in_addr address = {};
  if (::inet_pton(AF_INET, name.c_str(), &address) != 1 || text_of(address) != name)
    return "hostname is a number but no IPv4 address as in \"192.0.2.1\"";
  if (ntohl(address.s_addr) >> 24 == 0) return "hostname is a loopback address";  // Linux takes 0.0.0.0 for one
  return {};
}

}  // namespace limpet::http_challenge
