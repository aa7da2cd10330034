// SPDX-License-Identifier: Apache-2.0
#pragma once
// How every fallible function answers: Result<T> is a value or an Error. An Error carries a gRPC canonical code, so
// that a status survives every hop unchanged, and a message that gains one prefix per layer ("mint CA: sign: ...").
// Values, no ownership, any thread.

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace limpet {

// gRPC canonical codes; the numbers are the wire's.
enum class Code : int32_t {
  ok = 0,
  cancelled = 1,
  unknown = 2,
  invalid_argument = 3,
  deadline_exceeded = 4,
  not_found = 5,
  already_exists = 6,
  permission_denied = 7,
  resource_exhausted = 8,
  failed_precondition = 9,
  aborted = 10,
  out_of_range = 11,
  unimplemented = 12,
  internal = 13,
  unavailable = 14,
  data_loss = 15,
  unauthenticated = 16,
};

// "InvalidArgument", as Go prints it; "Code(99)" for a number outside the table.
std::string code_name(Code code);

struct Error {
  Code code = Code::internal;
  std::string message;
  // A serialized google.rpc.Status for the trailer grpc-status-details-bin; empty: none.
  std::vector<uint8_t> details = {};

  // The same error one layer further up: "<prefix>: <message>".
  [[nodiscard]] Error within(std::string_view prefix) &&;
  // "NotFound: agent not found", for logs.
  [[nodiscard]] std::string text() const;
};

template <class T>
using Result = std::expected<T, Error>;

// `return fail(Code::not_found, "entry not found");`
inline std::unexpected<Error> fail(Code code, std::string message) {
  return std::unexpected(Error{code, std::move(message)});
}
inline std::unexpected<Error> fail(Error error) { return std::unexpected(std::move(error)); }

#define LIMPET_JOIN2(a, b) a##b
#define LIMPET_JOIN(a, b) LIMPET_JOIN2(a, b)

// Pass an error up: TRY(f()); drops the value. TRY_ASSIGN(auto x, f()); keeps it.
#define TRY(...) \
  if (auto try_result = (__VA_ARGS__); !try_result) return std::unexpected(std::move(try_result).error())
#define TRY_ASSIGN(declaration, ...) TRY_ASSIGN_AT(LIMPET_JOIN(try_result_, __LINE__), declaration, __VA_ARGS__)
#define TRY_ASSIGN_AT(name, declaration, ...)                 \
  auto name = (__VA_ARGS__);                                  \
  if (!name) return std::unexpected(std::move(name).error()); \
  declaration = std::move(*name)
// The same with a prefix: TRY_WITHIN("mint CA", sign(...));
#define TRY_WITHIN(prefix, ...) \
  if (auto try_result = (__VA_ARGS__); !try_result) return std::unexpected(std::move(try_result).error().within(prefix))
#define TRY_ASSIGN_WITHIN(prefix, declaration, ...) \
  TRY_ASSIGN_WITHIN_AT(LIMPET_JOIN(try_result_, __LINE__), prefix, declaration, __VA_ARGS__)
#define TRY_ASSIGN_WITHIN_AT(name, prefix, declaration, ...)                 \
  auto name = (__VA_ARGS__);                                                 \
  if (!name) return std::unexpected(std::move(name).error().within(prefix)); \
  declaration = std::move(*name)

}  // namespace limpet
