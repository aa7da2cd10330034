// SPDX-License-Identifier: Apache-2.0
#include "wire/http.h"

#include <array>
#include <cstdio>
#include <ctime>

#include "base/limits.h"
#include "crypto/key.h"
#include "wire/http_connection.h"

namespace limpet::wire {
namespace {

struct Reason {
  int status;
  std::string_view text;
};
constexpr Reason kReasons[] = {
    {200, "OK"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {421, "Misdirected Request"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
};

constexpr std::array<std::string_view, 7> kDays{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
constexpr std::array<std::string_view, 12> kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string_view without_weak(std::string_view tag) { return tag.starts_with("W/") ? tag.substr(2) : tag; }

// RFC 9110 13.1.2: "*" or a list of tags, compared weakly. Our tags hold no comma.
bool tag_matches(std::string_view list, std::string_view tag) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    const std::string_view one = trimmed(list.substr(0, comma));
    if (one == "*" || without_weak(one) == without_weak(tag)) return true;
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
  }
  return false;
}

// If-Modified-Since counts only without If-None-Match. A client repeats our own date, so equality is enough.
bool not_modified(const HttpResponse& response, const HttpFields& request_fields) {
  const std::string_view etag = find_field(response.fields, "etag");
  const std::string_view tags = find_field(request_fields, "if-none-match");
  if (!tags.empty()) return !etag.empty() && tag_matches(tags, etag);
  const std::string_view modified = find_field(response.fields, "last-modified");
  return !modified.empty() && modified == trimmed(find_field(request_fields, "if-modified-since"));
}

}  // namespace

std::string_view find_field(const HttpFields& fields, std::string_view name) {
  for (const auto& [key, value] : fields) {
    if (key == name) return value;
  }
  return {};
}

HttpResponse http_body(int status, std::string_view content_type, std::string_view text) {
  return {status, {{"content-type", std::string(content_type)}}, to_bytes(text)};
}

HttpResponse http_text(int status, std::string_view text) {
  return http_body(status, "text/plain; charset=utf-8", text);
}

void http_answer(Loop& loop, Done<HttpResponse> done, HttpResponse response) {
  loop.post([d = std::move(done), r = std::move(response)]() mutable { d(std::move(r)); });
}

std::string http_date(int64_t unix_seconds) {
  const auto time = static_cast<time_t>(unix_seconds);
  tm parts{};
  if (gmtime_r(&time, &parts) == nullptr) return {};
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                kDays[static_cast<size_t>(parts.tm_wday)].data(), parts.tm_mday,
                kMonths[static_cast<size_t>(parts.tm_mon)].data(), parts.tm_year + 1900, parts.tm_hour, parts.tm_min,
                parts.tm_sec);
  return text.data();
}

std::string http_etag(BytesView body) {
  constexpr size_t kTagBytes = 16;
  return '"' + hex_encode(BytesView(sha256(body)).first(kTagBytes)) + '"';
}

std::string_view http_reason(int status) {
  for (const Reason& reason : kReasons) {
    if (reason.status == status) return reason.text;
  }
  return "";
}

std::optional<HttpResponse> judge_request(HttpRequest& request, std::string_view target) {
  if (request.method != "GET" && request.method != "HEAD") {
    HttpResponse refusal = http_text(405, "method not allowed\n");
    refusal.fields.emplace_back("allow", "GET, HEAD");
    return refusal;
  }
  for (const std::string_view scheme : {"http://", "https://"}) {  // absolute form: the authority in it is not ours
    if (!target.starts_with(scheme)) continue;
    target.remove_prefix(scheme.size());
    const size_t slash = target.find_first_of("/?");
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
    break;
  }
  if (target.size() > limits::kHttpTargetBytes) return http_text(414, "request target too long\n");
  const size_t mark = target.find('?');
  request.path = target.substr(0, mark);
  if (mark == 0) request.path = "/";
  if (mark != std::string_view::npos) request.query = target.substr(mark + 1);
  if (!request.path.starts_with('/')) return http_text(400, "malformed request target\n");
  return std::nullopt;
}

HttpResponse response_or_error(Result<HttpResponse> result) {
  if (result) return std::move(*result);
  if (result.error().code == Code::unavailable) return http_text(503, "service unavailable\n");
  return http_text(500, "internal server error\n");
}

void finish_response(HttpResponse& response, bool head, const HttpFields& request_fields, int64_t now) {
  response.fields.emplace_back("date", http_date(now));
  if (response.status == 200 && not_modified(response, request_fields)) {
    response.status = 304;
    std::erase_if(response.fields, [](const auto& field) { return field.first.starts_with("content-"); });
    return Bytes().swap(response.body);
  }
  if (response.status != 304 && response.status != 204) {
    response.fields.emplace_back("content-length", std::to_string(response.body.size()));
  }
  if (head) Bytes().swap(response.body);
}

}  // namespace limpet::wire
