// SPDX-License-Identifier: Apache-2.0
#pragma once
// A Bundle as the ABI lends it to a plugin. Any thread.

#include <algorithm>
#include <deque>
#include <vector>

#include "plugin/borrow.h"
#include "spiffe/bundle.h"

namespace limpet {

// The ABI's view of a Bundle, which it borrows from: it lives no longer.
class LentBundle {
 public:
  explicit LentBundle(const Bundle& bundle) {
    roots_.reserve(bundle.x509_authorities.size());
    for (const X509Authority& authority : bundle.x509_authorities) {
      roots_.push_back(lend(authority.der));
      if (authority.tainted) tainted_.push_back(lend(authority.der));
    }
    for (const JwtAuthority& key : bundle.jwt_authorities) {
      keys_.push_back(
          {sizeof(limpet_jwt_key), key.tainted ? 1u : 0u, lend(key.key_id), lend(key.spki), key.expires_at});
      addresses_.push_back(&keys_.back());
    }
    const auto hint = static_cast<uint32_t>(std::clamp<int64_t>(bundle.refresh_hint, 0, UINT32_MAX));
    lent_ = {sizeof(limpet_bundle),
             hint,
             {roots_.data(), roots_.size()},
             addresses_.data(),
             addresses_.size(),
             {tainted_.data(), tainted_.size()}};
  }
  LentBundle(const LentBundle&) = delete;
  LentBundle& operator=(const LentBundle&) = delete;
  [[nodiscard]] const limpet_bundle* get() const { return &lent_; }

 private:
  std::vector<limpet_bytes> roots_;
  std::vector<limpet_bytes> tainted_;
  std::deque<limpet_jwt_key> keys_;  // growable structs are never in an array by value
  std::vector<const limpet_jwt_key*> addresses_;
  limpet_bundle lent_ = {};
};

}  // namespace limpet
