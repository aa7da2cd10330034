// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <array>

namespace limpet {

std::string code_name(Code code) {
  static constexpr std::array kNames{
      "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
      "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
      "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
      "DataLoss", "Unauthenticated"};
  const auto number = static_cast<int32_t>(code);
  if (number >= 0 && static_cast<size_t>(number) < kNames.size()) return kNames[static_cast<size_t>(number)];
  return "Code(" + std::to_string(number) + ")";
}

Error Error::within(std::string_view prefix) && {
  std::string text(prefix);
  text += ": ";
  text += message;
  message = std::move(text);
  return std::move(*this);
}

std::string Error::text() const { return code_name(code) + ": " + message; }

}  // namespace limpet
