// SPDX-License-Identifier: Apache-2.0
#pragma once
// X.509 and JWT authorities behind one interface, for the LocalAuthority API that treats them alike. The second slot
// holds a prepared or an old authority. Owned by LocalAuthorityApi; loop thread only.

#include <optional>
#include <string>

#include "server/ca.h"
#include "server/jwt_keys.h"

namespace limpet::server {

struct AuthorityView {
  std::string id;  // X.509: hex of the subject key id; JWT: the key id
  int64_t expires_at = 0;
  AuthorityStatus status = AuthorityStatus::unknown;
  std::string upstream_id;  // hex of the upstream root's subject key id; empty: none
};

class AuthoritySlots {
 public:
  virtual ~AuthoritySlots() = default;
  [[nodiscard]] virtual const char* name() const = 0;  // "X.509", "JWT"
  [[nodiscard]] virtual std::optional<AuthorityView> active() const = 0;
  [[nodiscard]] virtual std::optional<AuthorityView> other() const = 0;
  [[nodiscard]] virtual bool has_upstream() const = 0;
  virtual void prepare(Done<void> done) = 0;
  virtual Result<void> activate() = 0;
  // Whatever is in the bundle and not in use may be revoked, not only the old one.
  [[nodiscard]] virtual bool revokes_published() const { return false; }
  [[nodiscard]] virtual std::optional<AuthorityView> published(const Bundle&, std::string_view) const {
    return std::nullopt;
  }
  // Marks the authority in the bundle. NOT_FOUND when the bundle does not have it.
  virtual Result<void> taint(Bundle& bundle, const std::string& id) const = 0;
  // Takes it out of the bundle. FAILED_PRECONDITION when it is not tainted.
  virtual Result<void> revoke(Bundle& bundle, const std::string& id) const = 0;
};

class X509Slots final : public AuthoritySlots {
 public:
  explicit X509Slots(X509Ca& ca) : ca_(ca) {}
  [[nodiscard]] const char* name() const override { return "X.509"; }
  [[nodiscard]] std::optional<AuthorityView> active() const override;
  [[nodiscard]] std::optional<AuthorityView> other() const override;
  [[nodiscard]] bool has_upstream() const override { return ca_.has_upstream(); }
  void prepare(Done<void> done) override { ca_.prepare_now(std::move(done)); }
  Result<void> activate() override { return ca_.activate(); }
  Result<void> taint(Bundle& bundle, const std::string& id) const override;
  Result<void> revoke(Bundle& bundle, const std::string& id) const override;

 private:
  X509Ca& ca_;
};

class JwtSlots final : public AuthoritySlots {
 public:
  JwtSlots(Loop& loop, JwtKeys& keys) : loop_(loop), keys_(keys) {}
  [[nodiscard]] const char* name() const override { return "JWT"; }
  [[nodiscard]] std::optional<AuthorityView> active() const override;
  [[nodiscard]] std::optional<AuthorityView> other() const override;
  [[nodiscard]] bool has_upstream() const override { return false; }
  void prepare(Done<void> done) override;
  Result<void> activate() override { return keys_.activate(); }
  [[nodiscard]] bool revokes_published() const override { return true; }
  [[nodiscard]] std::optional<AuthorityView> published(const Bundle& bundle, std::string_view id) const override;
  Result<void> taint(Bundle& bundle, const std::string& id) const override;
  Result<void> revoke(Bundle& bundle, const std::string& id) const override;

 private:
  void on_prepared(Result<JwtSlot> slot);
  Loop& loop_;
  JwtKeys& keys_;
  Pending<JwtSlot> prepared_;
  Done<void> asked_;
};

}  // namespace limpet::server
