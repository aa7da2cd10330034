// SPDX-License-Identifier: Apache-2.0
#include "requests.h"

#include <cstddef>
#include <optional>

namespace limpet::bench {

namespace {

void add_number(std::string& out, uint64_t value) {
  for (; value > 0x7f; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void add_field(std::string& out, int number, const std::string& bytes) {
  add_number(out, static_cast<uint64_t>(number) << 3 | 2);
  add_number(out, bytes.size());
  out += bytes;
}

std::string pair(const std::string& first, const std::string& second) {
  std::string out;
  add_field(out, 1, first);
  add_field(out, 2, second);
  return out;
}

std::optional<uint64_t> take_number(const std::string& in, size_t& at) {
  uint64_t value = 0;
  for (int shift = 0; at < in.size() && shift < 64; shift += 7) {
    const auto byte = static_cast<uint8_t>(in[at++]);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

}  // namespace

std::string batch_create(const EntryKind& kind, int64_t first_number, int count) {
  std::string out;
  for (int64_t number = first_number; number < first_number + count; ++number) {
    std::string entry;
    add_field(entry, 2, pair(kind.trust_domain, "/" + kind.prefix + "/" + std::to_string(number)));
    const std::string parent =
        kind.parents > 1 ? "/spire/agent/bench/" + std::to_string(number % kind.parents) : kind.parent_path;
    add_field(entry, 3, pair(kind.trust_domain, parent));
    const int64_t uid = kind.uid >= 0 ? kind.uid : 100'000 + number;
    add_field(entry, 4, pair("unix", "uid:" + std::to_string(uid)));
    add_field(out, 1, entry);
  }
  return out;
}

std::string mint_x509(const std::string& csr_der) {
  std::string out;
  add_field(out, 1, csr_der);
  return out;
}

std::string mint_jwt(const std::string& trust_domain, const std::string& path, const std::string& audience) {
  return pair(pair(trust_domain, path), audience);
}

std::string fetch_jwt(const std::string& audience) {
  std::string out;
  add_field(out, 1, audience);
  return out;
}

std::string validate_jwt(const std::string& audience, const std::string& token) { return pair(audience, token); }

std::string refresh_bundle(const std::string& trust_domain) {
  std::string out;
  add_field(out, 1, trust_domain);
  return out;
}

std::string list_entries(const std::string& token) {
  std::string out;
  add_number(out, 3 << 3);
  add_number(out, 1000);
  if (!token.empty()) add_field(out, 4, token);
  return out;
}

std::string next_page_token(const std::string& response) {
  for (size_t at = 0; at < response.size();) {
    const auto tag = take_number(response, at);
    const auto size = take_number(response, at);
    if (!tag || !size || *size > response.size() - at) return {};
    if (*tag == (2 << 3 | 2)) return response.substr(at, *size);
    at += *size;
  }
  return {};
}

int created_entries(const std::string& response) {
  int found = 0;
  for (size_t at = 0; at < response.size();) {
    const auto tag = take_number(response, at);
    const auto size = take_number(response, at);
    if (!tag || !size || *size > response.size() - at) return -1;
    const std::string result = response.substr(at, *size);
    at += *size;
    for (size_t inner = 0; inner < result.size();) {  // status = 1, entry = 2
      const auto field = take_number(result, inner);
      const auto length = take_number(result, inner);
      if (!field || !length || *length > result.size() - inner) return -1;
      found += *field == (2 << 3 | 2) ? 1 : 0;
      inner += *length;
    }
  }
  return found;
}

}  // namespace limpet::bench
