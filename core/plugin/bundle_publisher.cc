// SPDX-License-Identifier: Apache-2.0
// Bundle publishers: one call, which lends the plugin the whole bundle.
#include "plugin/bundle_publisher.h"

#include <algorithm>
#include <deque>
#include <vector>

#include "plugin/borrow.h"
#include "plugin/bundle_publisher_facade.h"

namespace limpet {
namespace {

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

void on_published(limpet_op* op, const limpet_status* err) {
  answer_op<void>(op, err, [] { return Result<void>(); });
}

class Facade final : public BundlePublisher {
 public:
  explicit Facade(std::shared_ptr<Instance> instance)
      : instance_(std::move(instance)), table_(instance_->table<limpet_bundle_publisher>()) {}
  ~Facade() override { instance_->close(); }
  [[nodiscard]] const std::string& name() const override { return instance_->name(); }

  void publish(Bundle bundle, Done<void> done) override {
    instance_->run<void>(
        [table = table_, b = std::move(bundle)](limpet_instance* self, limpet_op* op) {
          const LentBundle lent(b);
          table->publish(self, op, lent.get(), &on_published);
        },
        limits::kUpstreamMintMs, std::move(done));
  }

 private:
  std::shared_ptr<Instance> instance_;
  const limpet_bundle_publisher* table_;
};

}  // namespace

std::unique_ptr<BundlePublisher> make_bundle_publisher(std::shared_ptr<Instance> instance) {
  return std::make_unique<Facade>(std::move(instance));
}

}  // namespace limpet
