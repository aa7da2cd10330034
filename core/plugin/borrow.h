// SPDX-License-Identifier: Apache-2.0
#pragma once
// Between the ABI's borrowed values and ours. Inputs from a plugin are bounded here: too large, or a NULL with a
// length, is an error, never a crash. Any thread.

#include <limpet_plugin.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/limits.h"

namespace limpet {

inline limpet_str lend(std::string_view text) { return {text.data(), text.size()}; }
inline limpet_bytes lend(BytesView bytes) { return {bytes.data(), bytes.size()}; }

// A text whose excess is no error: it is cut.
inline std::string bounded(limpet_str text) {
  if (text.ptr == nullptr) return {};
  return std::string(text.ptr, std::min(text.len, limits::kPluginTextBytes));
}

inline std::unexpected<Error> bad_answer(const std::string& label, std::string_view what) {
  return fail(Code::internal, label + ": the plugin's answer is not usable: " + std::string(what));
}

inline Result<std::string> take(const std::string& label, limpet_str text) {
  if (text.len == 0) return std::string();
  if (text.ptr == nullptr || text.len > limits::kPluginTextBytes)
    return bad_answer(label, "a text of more than 8 KiB or without an address");
  if (!is_utf8({text.ptr, text.len})) return bad_answer(label, "a text that is not UTF-8");
  return std::string(text.ptr, text.len);
}

inline Result<Bytes> take(const std::string& label, limpet_bytes bytes) {
  if (bytes.len == 0) return Bytes();
  if (bytes.ptr == nullptr || bytes.len > limits::kMessageBytes)
    return bad_answer(label, "bytes beyond 4 MiB or without an address");
  return Bytes(bytes.ptr, bytes.ptr + bytes.len);
}

inline Result<std::vector<std::string>> take(const std::string& label, limpet_str_list list) {
  std::vector<std::string> out;
  if (list.count == 0) return out;
  if (list.items == nullptr || list.count > limits::kPluginItems)
    return bad_answer(label, "a list of more than 4,096 items or without an address");
  out.reserve(list.count);
  for (size_t i = 0; i < list.count; ++i) {
    TRY_ASSIGN(std::string item, take(label, list.items[i]));
    out.push_back(std::move(item));
  }
  return out;
}

inline Result<std::vector<Bytes>> take(const std::string& label, limpet_bytes_list list, size_t most) {
  std::vector<Bytes> out;
  if (list.count == 0) return out;
  if (list.items == nullptr || list.count > most)
    return bad_answer(label, "a list of more than " + std::to_string(most) + " items or without an address");
  out.reserve(list.count);
  for (size_t i = 0; i < list.count; ++i) {
    TRY_ASSIGN(Bytes item, take(label, list.items[i]));
    out.push_back(std::move(item));
  }
  return out;
}

}  // namespace limpet
