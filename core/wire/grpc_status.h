// SPDX-License-Identifier: Apache-2.0
#pragma once
// gRPC's text fields: the status trailers (grpc-status, grpc-message, grpc-status-details-bin) and grpc-timeout, as
// PROTOCOL-HTTP2.md writes them. Pure functions, any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace limpet::wire {

// Everything but printable ASCII, and '%', becomes %XX.
std::string percent_encode(std::string_view text);
// Tolerant, as the specification asks: a damaged escape stays as it is.
std::string percent_decode(std::string_view text);

// The value of a "-bin" header: base64 with or without padding; nullopt when it is neither.
std::optional<std::vector<uint8_t>> decode_bin(std::string_view text);
std::string encode_bin(const std::vector<uint8_t>& bytes);  // no padding

// "30S", "100m" -> milliseconds, rounded up, at most 2^53; nullopt: malformed.
std::optional<int64_t> parse_timeout(std::string_view text);
std::string format_timeout(int64_t ms);

// The code of a grpc-status value; unknown for a number outside the table; nullopt: not a number.
std::optional<Code> parse_status(std::string_view text);

// What a client makes of an RST_STREAM (HTTP/2 error code) and of an HTTP status without grpc-status, as grpc-go does.
Error error_for_reset(uint32_t http2_code);
Error error_for_http_status(int status, std::string_view content_type);

}  // namespace limpet::wire
