// SPDX-License-Identifier: Apache-2.0
#include "server/authority_slots.h"

#include <algorithm>

namespace limpet::server {
namespace {

AuthorityView view_of(const CaSlot& slot, AuthorityStatus status) {
  return {hex_encode(slot.authority->certificate.subject_key_id), slot.not_after(), status, slot.upstream_authority_id};
}

// What the two kinds share: find it, and mark it or take it away.
template <class List, class Match>
Result<void> taint_in(List& authorities, const std::string& what, Match match) {
  auto found = std::ranges::find_if(authorities, match);
  if (found == authorities.end()) return fail(Code::not_found, "the bundle has no " + what);
  if (found->tainted) return fail(Code::invalid_argument, what + " is already tainted");
  found->tainted = true;
  return {};
}
template <class List, class Match>
Result<void> revoke_in(List& authorities, const std::string& what, Match match) {
  auto found = std::ranges::find_if(authorities, match);
  if (found == authorities.end()) return fail(Code::not_found, "the bundle has no " + what);
  if (!found->tainted) return fail(Code::invalid_argument, "it is not possible to revoke an untainted " + what);
  authorities.erase(found);
  return {};
}

auto root_with(const std::string& id) {
  return [&id](const X509Authority& root) {
    const auto certificate = Certificate::parse(root.der);
    return certificate && hex_encode(certificate->subject_key_id) == id;
  };
}
auto key_with(const std::string& id) {
  return [&id](const JwtAuthority& key) { return key.key_id == id; };
}

}  // namespace

std::optional<AuthorityView> X509Slots::active() const {
  if (ca_.current() == nullptr) return std::nullopt;
  return view_of(*ca_.current(), AuthorityStatus::active);
}

std::optional<AuthorityView> X509Slots::other() const {
  if (ca_.next() != nullptr) return view_of(*ca_.next(), AuthorityStatus::prepared);
  const auto old = ca_.old();
  if (!old) return std::nullopt;
  return AuthorityView{old->authority_id, old->not_after, AuthorityStatus::old, old->upstream_authority_id};
}

Result<void> X509Slots::taint(Bundle& bundle, const std::string& id) const {
  return taint_in(bundle.x509_authorities, "root CA", root_with(id));
}
Result<void> X509Slots::revoke(Bundle& bundle, const std::string& id) const {
  return revoke_in(bundle.x509_authorities, "root CA", root_with(id));
}

std::optional<AuthorityView> JwtSlots::active() const {
  const JwtSlot* slot = keys_.current();
  if (slot == nullptr) return std::nullopt;
  return AuthorityView{slot->key_id, slot->not_after, slot->status, {}};
}

std::optional<AuthorityView> JwtSlots::other() const {
  const JwtSlot* slot = keys_.other();
  if (slot == nullptr) return std::nullopt;
  return AuthorityView{slot->key_id, slot->not_after, slot->status, {}};
}

void JwtSlots::prepare(Done<void> done) {
  if (prepared_.armed()) {
    return loop_.post([d = std::move(done)]() mutable {
      d(fail(Code::unavailable, "a JWT key is being prepared already: try again"));
    });
  }
  asked_ = std::move(done);
  keys_.prepare(prepared_.then<&JwtSlots::on_prepared>(this));
}

void JwtSlots::on_prepared(Result<JwtSlot> slot) {
  Done<void> asked = std::move(asked_);
  asked(slot ? Result<void>() : std::unexpected(std::move(slot).error()));
}

std::optional<AuthorityView> JwtSlots::published(const Bundle& bundle, std::string_view id) const {
  const auto key = std::ranges::find(bundle.jwt_authorities, id, &JwtAuthority::key_id);
  if (key == bundle.jwt_authorities.end()) return std::nullopt;
  return AuthorityView{key->key_id, key->expires_at, AuthorityStatus::old, {}};
}

Result<void> JwtSlots::taint(Bundle& bundle, const std::string& id) const {
  return taint_in(bundle.jwt_authorities, "key", key_with(id));
}
Result<void> JwtSlots::revoke(Bundle& bundle, const std::string& id) const {
  return revoke_in(bundle.jwt_authorities, "key", key_with(id));
}

}  // namespace limpet::server
