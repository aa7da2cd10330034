// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the two halves tell each other, and the rules for it: the agent says where it listens, the server gives a nonce
// to be served there. Pure functions, any thread.

#include <string>

#include "base/bytes.h"

namespace limpet::http_challenge {

inline constexpr size_t kNonceBytes = 32;
inline constexpr size_t kMaxNonceText = 64;  // what a server reads of the answer

struct Place {
  std::string hostname;
  std::string agentname;
  int64_t port = 0;
  [[nodiscard]] std::string path() const;  // of the nonce
  [[nodiscard]] std::string url() const;
};

std::string encode_payload(const Place& place);  // of a place that is well-formed
Result<Place> decode_payload(BytesView json);    // INVALID_ARGUMENT; any values
std::string encode_challenge(std::string_view nonce);
Result<std::string> decode_challenge(BytesView json);  // INVALID_ARGUMENT: also a nonce that is none

// Letters, digits, '-' and '_', a letter first, at most 32.
bool is_agent_name(std::string_view name);
// Empty: a host name or IPv4 address that stands in a URL and in the path of a SPIFFE ID as it is. Else what is wrong.
std::string host_name_problem(std::string_view name);
// Of a name without such a problem. Empty: but for the case of its letters nothing else that is written so leads a
// connection to the same place, so what is known of one spelling is known of the host. Else what is wrong.
std::string host_spelling_problem(std::string_view name);

}  // namespace limpet::http_challenge
