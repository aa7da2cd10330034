// SPDX-License-Identifier: Apache-2.0
#pragma once
// One HTTP/1 request from whoever found the agent's port, and the answer to it. Pure functions, any thread.

#include <string>
#include <string_view>

namespace limpet::http_challenge {

inline constexpr size_t kMaxRequestBytes = 4096;  // head; a server's has 150

// What to send back to `received`: empty while the head is not complete. Only GET and HEAD of `path` give 200 and
// `body`.
std::string answer_to(std::string_view received, std::string_view path, std::string_view body);

}  // namespace limpet::http_challenge
