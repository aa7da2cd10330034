// SPDX-License-Identifier: Apache-2.0
#include "agent/denial.h"

#include "proto/google_rpc_status.pb.h"
#include "proto/spire_types.pb.h"
#include "wire/enum_number.h"
#include "wire/message.h"

namespace limpet::agent {

namespace {
constexpr std::string_view kDetails = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";
using DeniedDetails = spire_api_types_PermissionDeniedDetails;
}  // namespace

Denial denial_of(const Error& error) {
  if (error.code != Code::permission_denied || error.details.empty()) return Denial::none;
  auto status = wire::Message<google_rpc_Status>::decode(error.details);
  if (!status) return Denial::none;
  for (const auto& any : wire::items((*status)->details, (*status)->details_count)) {
    if (wire::view(any.type_url) != kDetails) continue;
    auto details = wire::Message<DeniedDetails>::decode(wire::view(any.value));
    if (!details) continue;
    switch (wire::enum_number((*details)->reason)) {
      case 1:
      case 2:
      case 3:
      case 5:
        return Denial::reattest;
      case 4:
        return Denial::banned;
      default:
        return Denial::none;
    }
  }
  return Denial::none;
}

}  // namespace limpet::agent
