// SPDX-License-Identifier: Apache-2.0
#pragma once
// Any message as JSON, the way SPIRE's commands print one with `-output json`: compact, the .proto's field names, keys
// sorted, 64-bit integers as text, bytes in base64, enums by name, maps as objects; every scalar, list and map is
// present, an absent sub-message and an unset oneof are left out. google.protobuf's Struct, Value, BoolValue and
// StringValue are printed as the JSON they stand for. The field names come from a table made at build time
// (core/proto/json_names.py). Pure functions, any thread.

#include <string>

#include "wire/message.h"

namespace limpet::wire {

// `message` is a struct of the type, decoded or filled.
std::string to_json(const pb_msgdesc_t* type, const void* message);

template <class T>
std::string to_json(const Message<T>& message) {
  return to_json(descriptor<T>(), &*message);
}
// One sub-message: `to_json(response->results[0])`.
template <class T>
std::string to_json(const T& message) {
  return to_json(descriptor<T>(), &message);
}

}  // namespace limpet::wire
