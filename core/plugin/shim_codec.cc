// SPDX-License-Identifier: Apache-2.0
#include "plugin/shim_codec.h"

#include <algorithm>

namespace limpet::shim {
namespace {

constexpr size_t kMessageBytes = 8192;  // as limits::kPluginTextBytes
constexpr size_t kBundleItems = 2000;   // JWT keys of a bundle, as limits::kBundleKeys

template <class List>
void put_list(FrameWriter& out, List list) {
  if (list.count > kListItems || (list.items == nullptr && list.count > 0)) return out.spoil();
  out.u32(static_cast<uint32_t>(list.count));
  for (size_t i = 0; i < list.count; ++i) put(out, list.items[i]);
}

}  // namespace

void put(FrameWriter& out, limpet_str_list list) { put_list(out, list); }
void put(FrameWriter& out, limpet_bytes_list list) { put_list(out, list); }

void put(FrameWriter& out, const limpet_jwt_key* key) {
  if (key == nullptr || !LIMPET_HAS(key, limpet_jwt_key, expires_at)) return out.spoil();
  out.u32(key->tainted);
  put(out, key->id);
  put(out, key->spki_der);
  out.i64(key->expires_at);
}

void put(FrameWriter& out, const limpet_bundle* bundle) {
  if (bundle == nullptr || !LIMPET_HAS(bundle, limpet_bundle, jwt_key_count)) return out.spoil();
  if (bundle->jwt_key_count > kBundleItems || (bundle->jwt_keys == nullptr && bundle->jwt_key_count > 0))
    return out.spoil();
  out.u32(bundle->refresh_hint_s);
  put(out, bundle->x509_roots_der);
  out.u32(static_cast<uint32_t>(bundle->jwt_key_count));
  for (size_t i = 0; i < bundle->jwt_key_count; ++i) put(out, bundle->jwt_keys[i]);
  put(out, LIMPET_HAS(bundle, limpet_bundle, tainted_roots_der) ? bundle->tainted_roots_der : limpet_bytes_list{});
}

void put(FrameWriter& out, const limpet_public_key* key) {
  if (key == nullptr || !LIMPET_HAS(key, limpet_public_key, fingerprint)) return out.spoil();
  out.u32(key->type);
  put(out, key->id);
  put(out, key->spki_der);
  put(out, key->fingerprint);
}

void put(FrameWriter& out, const limpet_sign_request* request) {
  if (request == nullptr || !LIMPET_HAS(request, limpet_sign_request, pss_salt_len)) return out.spoil();
  out.u32(request->hash);
  put(out, request->key_id);
  put(out, request->digest);
  out.u32(static_cast<uint32_t>(request->pss_salt_len));
  put(out, LIMPET_HAS(request, limpet_sign_request, message) ? request->message : limpet_bytes{});
}

void put(FrameWriter& out, const limpet_attest_step* step) {
  if (step == nullptr || !LIMPET_HAS(step, limpet_attest_step, can_reattest)) return out.spoil();
  out.u32(step->attested);
  put(out, step->challenge);
  put(out, step->agent_path);
  put(out, step->selectors);
  out.u32(step->can_reattest);
}

void put_success(FrameWriter& out) { out.u32(0); }

void put_status(FrameWriter& out, const limpet_status& status) {
  out.u32(1);
  const bool whole = LIMPET_HAS(&status, limpet_status, message);
  const bool known = whole && status.code > 0 && status.code <= 16;
  const bool has_text = whole && status.message.ptr != nullptr;
  out.u32(known ? static_cast<uint32_t>(status.code) : 2u);  // UNKNOWN
  limpet_str text = has_text ? status.message : limpet_str{};
  if (!known && text.len == 0) text = lend_text("the plugin reported an error without a code");
  out.bytes(text.ptr, std::min(text.len, kMessageBytes));
  out.u32(LIMPET_HAS(&status, limpet_status, retry_after_ms) ? status.retry_after_ms : 0);
}

ReadTexts::ReadTexts(FieldReader& in) {
  const size_t count = in.count(4);
  items.reserve(count);
  for (size_t i = 0; i < count; ++i) items.push_back(get_text(in));
}

bool read_greeting(const Frame& frame, std::vector<std::string>& missing) {
  FieldReader in(frame.payload);
  const uint32_t wire = in.u32();
  for (const limpet_str text : ReadTexts(in).items) missing.emplace_back(text.ptr, text.len);
  return frame.method == Method::greeting && in.done() && wire == kWireVersion;
}

ReadBytes::ReadBytes(FieldReader& in) {
  const size_t count = in.count(4);
  items.reserve(count);
  for (size_t i = 0; i < count; ++i) items.push_back(get_bytes(in));
}

limpet_jwt_key get_jwt_key(FieldReader& in) {
  limpet_jwt_key key = {sizeof(limpet_jwt_key), in.u32(), {}, {}, 0};
  key.id = get_text(in);
  key.spki_der = get_bytes(in);
  key.expires_at = in.i64();
  return key;
}

ReadBundle::ReadBundle(FieldReader& in) : hint(in.u32()), roots(in) {
  const size_t count = in.count(20, kBundleItems);
  keys.reserve(count);  // key_list points into it
  for (size_t i = 0; i < count; ++i) {
    keys.push_back(get_jwt_key(in));
    key_list.push_back(&keys.back());
  }
  tainted.emplace(in);
  bundle = {sizeof(limpet_bundle), hint, roots.list(), key_list.data(), key_list.size(), tainted->list()};
}

limpet_sign_request get_sign_request(FieldReader& in) {
  limpet_sign_request request = {sizeof(limpet_sign_request), in.u32(), {}, {}, 0, 0, {}};
  request.key_id = get_text(in);
  request.digest = get_bytes(in);
  request.pss_salt_len = static_cast<int32_t>(in.u32());
  request.message = get_bytes(in);
  return request;
}

limpet_public_key get_key(FieldReader& in) {
  limpet_public_key key = {sizeof(limpet_public_key), in.u32(), {}, {}, {}};
  key.id = get_text(in);
  key.spki_der = get_bytes(in);
  key.fingerprint = get_text(in);
  return key;
}

ReadKeys::ReadKeys(FieldReader& in) {
  const size_t count = in.count(16);
  keys.reserve(count);  // list points into it
  for (size_t i = 0; i < count; ++i) {
    keys.push_back(get_key(in));
    list.push_back(&keys.back());
  }
}

bool get_status(FieldReader& in, limpet_status& status) {
  const uint32_t failed = in.u32();
  if (failed > 1) in.fail();
  if (failed == 0) return false;
  status = {sizeof(limpet_status), static_cast<limpet_code>(in.u32()), {}, 0, 0};
  status.message = get_text(in);
  status.retry_after_ms = in.u32();
  return true;
}

}  // namespace limpet::shim
