// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_http_challenge/request.h"

namespace limpet::http_challenge {
namespace {

std::string response(std::string_view status, std::string_view body, bool head_only) {
  std::string out = "HTTP/1.1 " + std::string(status) +
                    "\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: " + std::to_string(body.size()) +
                    "\r\nconnection: close\r\n\r\n";
  return head_only ? out : out.append(body);
}
std::string refuse(std::string_view status) { return response(status, std::string(status) + "\n", false); }

// The path of a request target in origin form, or in absolute form as a proxy sends it.
std::string_view path_of(std::string_view target) {
  constexpr std::string_view kScheme = "http://";
  if (target.starts_with(kScheme)) {
    const size_t slash = target.find('/', kScheme.size());
    target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
  }
  return target.substr(0, target.find('?'));
}

}  // namespace

std::string answer_to(std::string_view received, std::string_view path, std::string_view body) {
  const size_t end = received.find("\r\n\r\n");
  if (end == std::string_view::npos)
    return received.size() < kMaxRequestBytes ? std::string() : refuse("431 Request Header Fields Too Large");
  const std::string_view line = received.substr(0, received.find("\r\n"));
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return refuse("400 Bad Request");
  const std::string_view method = line.substr(0, first);
  const std::string_view version = line.substr(last + 1);
  if (version != "HTTP/1.1" && version != "HTTP/1.0") return refuse("400 Bad Request");
  if (path_of(line.substr(first + 1, last - first - 1)) != path) return refuse("404 Not Found");
  if (method != "GET" && method != "HEAD") return refuse("405 Method Not Allowed");
  return response("200 OK", body, method == "HEAD");
}

}  // namespace limpet::http_challenge
