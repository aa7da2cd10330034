// SPDX-License-Identifier: Apache-2.0
#pragma once
// The tokens whose signatures were found good last. A service is shown the same token with every request until it is
// renewed, and a signature by a key either matches or does not, whatever the time: it need not be computed each time.
// Owned by the Agent; loop thread only.

#include <deque>
#include <set>

#include "spiffe/jwt_svid.h"

namespace limpet::agent {

class VerifiedTokens {
 public:
  static constexpr size_t kKept = 1024;  // of some 100 bytes

  // Names this token together with the key that it was checked against.
  static Bytes name(const JwtSvidToken& token, BytesView spki) {
    Bytes all = sha256(spki);
    append(all, sha256(as_bytes(token.signing_input)));
    append(all, token.signature);
    return sha256(all);
  }
  [[nodiscard]] bool contains(const Bytes& name) const { return good_.contains(name); }
  void add(const Bytes& name) {
    if (!good_.insert(name).second) return;
    order_.push_back(name);
    if (order_.size() <= kKept) return;
    good_.erase(order_.front());
    order_.pop_front();
  }

 private:
  std::set<Bytes> good_;
  std::deque<Bytes> order_;  // the oldest first
};

}  // namespace limpet::agent
