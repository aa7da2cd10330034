// SPDX-License-Identifier: Apache-2.0
// Bundle publishers: one call, which lends the plugin the whole bundle.
#include "plugin/bundle_publisher.h"

#include "plugin/borrow.h"
#include "plugin/bundle_publisher_facade.h"
#include "plugin/lent_bundle.h"

namespace limpet {
namespace {

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
