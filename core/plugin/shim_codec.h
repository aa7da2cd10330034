// SPDX-License-Identifier: Apache-2.0
#pragma once
// The ABI's values in frames. put() copies a borrowed value into a frame; the Read... holders borrow from a frame what
// the ABI wants to be pointed at. A struct too short for its members spoils the frame or fails the reader.

#include <limpet_plugin.h>

#include <optional>
#include <string>
#include <vector>

#include "plugin/shim_wire.h"

namespace limpet::shim {

inline limpet_str lend_text(std::string_view text) { return {text.data(), text.size()}; }
inline limpet_bytes lend_bytes(BytesView bytes) { return {bytes.data(), bytes.size()}; }
inline limpet_str get_text(FieldReader& in) { return lend_text(in.text()); }
inline limpet_bytes get_bytes(FieldReader& in) { return lend_bytes(in.bytes()); }

inline void put(FrameWriter& out, limpet_str text) { out.bytes(text.ptr, text.len); }
inline void put(FrameWriter& out, limpet_bytes bytes) { out.bytes(bytes.ptr, bytes.len); }
void put(FrameWriter& out, limpet_str_list list);
void put(FrameWriter& out, limpet_bytes_list list);
void put(FrameWriter& out, const limpet_jwt_key* key);
void put(FrameWriter& out, const limpet_bundle* bundle);
void put(FrameWriter& out, const limpet_public_key* key);
void put(FrameWriter& out, const limpet_sign_request* request);
void put(FrameWriter& out, const limpet_attest_step* step);
// The start of an answer: success is a zero, an error its code, text and retry time.
void put_success(FrameWriter& out);
void put_status(FrameWriter& out, const limpet_status& status);

struct ReadTexts {
  explicit ReadTexts(FieldReader& in);
  std::vector<limpet_str> items;
  [[nodiscard]] limpet_str_list list() const { return {items.data(), items.size()}; }
};
struct ReadBytes {
  explicit ReadBytes(FieldReader& in);
  std::vector<limpet_bytes> items;
  [[nodiscard]] limpet_bytes_list list() const { return {items.data(), items.size()}; }
};
limpet_jwt_key get_jwt_key(FieldReader& in);
struct ReadBundle {
  explicit ReadBundle(FieldReader& in);
  ReadBundle(const ReadBundle&) = delete;
  ReadBundle& operator=(const ReadBundle&) = delete;
  uint32_t hint;
  ReadBytes roots;
  std::vector<limpet_jwt_key> keys;
  std::vector<const limpet_jwt_key*> key_list;
  std::optional<ReadBytes> tainted;  // stands behind the keys
  limpet_bundle bundle = {};
};
struct ReadKeys {
  explicit ReadKeys(FieldReader& in);
  ReadKeys(const ReadKeys&) = delete;
  ReadKeys& operator=(const ReadKeys&) = delete;
  std::vector<limpet_public_key> keys;
  std::vector<const limpet_public_key*> list;
};
limpet_public_key get_key(FieldReader& in);
limpet_sign_request get_sign_request(FieldReader& in);
// Of a child that has not mapped its plugin yet: which protections are missing. False: it is not understood.
bool read_greeting(const Frame& frame, std::vector<std::string>& missing);
// False: success. True: `status` is filled.
bool get_status(FieldReader& in, limpet_status& status);

}  // namespace limpet::shim
