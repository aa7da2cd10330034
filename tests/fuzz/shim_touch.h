// SPDX-License-Identifier: Apache-2.0
#pragma once
// For the fuzzers of the frames between the daemon and a plugin's process: reads every byte that a value of the ABI
// lends, so that one that is not there is noticed.

#include <limpet_plugin.h>

#include <string_view>

namespace limpet::shim {

inline size_t touched = 0;
inline void touch(const void* data, size_t size) {
  for (size_t i = 0; i < size; ++i) touched += static_cast<const uint8_t*>(data)[i];
}
inline void touch(std::string_view text) { touch(text.data(), text.size()); }
inline void touch(limpet_str s) { touch(s.ptr, s.len); }
inline void touch(limpet_bytes b) { touch(b.ptr, b.len); }
inline void touch(limpet_bytes_list list) {
  for (size_t i = 0; i < list.count; ++i) touch(list.items[i]);
}
inline void touch(limpet_str_list list) {
  for (size_t i = 0; i < list.count; ++i) touch(list.items[i]);
}
inline void touch(const limpet_jwt_key& key) {
  touch(key.id);
  touch(key.spki_der);
}
inline void touch(const limpet_bundle& bundle) {
  touch(bundle.x509_roots_der);
  for (size_t i = 0; i < bundle.jwt_key_count; ++i) touch(*bundle.jwt_keys[i]);
  touch(bundle.tainted_roots_der);
}
inline void touch(const limpet_public_key& key) {
  touch(key.id);
  touch(key.spki_der);
  touch(key.fingerprint);
}
inline void touch(const limpet_sign_request& request) {
  touch(request.key_id);
  touch(request.digest);
  touch(request.message);
}
inline void touch(const limpet_status* error) {
  if (error != nullptr) touch(error->message);
}

}  // namespace limpet::shim
