// SPDX-License-Identifier: Apache-2.0
#pragma once
// When something with a lifetime is renewed: at half of it, shifted by at most a tenth of that half by a phase that
// belongs to the name and never changes, so that a fleet spreads itself and one identity keeps its rhythm. Pure.

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace limpet::agent {

// In [-1000, 1000], the same for the same name on every machine (FNV-1a).
inline int64_t phase_of(std::string_view name) {
  uint64_t hash = 14695981039346656037u;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
  hash ^= hash >> 32;
  return static_cast<int64_t>(hash % 2001) - 1000;
}

// Unix milliseconds; the validity is in Unix seconds.
inline int64_t renewal_time_ms(std::string_view name, int64_t not_before, int64_t not_after) {
  const int64_t half_ms = (not_after - not_before) * 500;
  return not_before * 1000 + half_ms + half_ms / 10 * phase_of(name) / 1000;
}

// How long after it came something with this validity is not renewed, whatever the clock says: nearly half of what its
// issuer gave it, counted from now. Certificates begin 10 s before they are signed. Without this a clock that is ahead,
// or a lifetime of seconds, makes everything due at once, again and again.
inline int64_t rest_ms(int64_t not_before, int64_t not_after) {
  constexpr int64_t kBackdatedS = 10;
  return std::max<int64_t>(1'000, (not_after - not_before - kBackdatedS) * 450);
}

}  // namespace limpet::agent
