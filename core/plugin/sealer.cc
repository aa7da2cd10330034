// SPDX-License-Identifier: Apache-2.0
// Seals and opens small secrets through a plugin.
#include "plugin/borrow.h"
#include "plugin/sealer_facade.h"

namespace limpet {
namespace {

constexpr size_t kMaxPlainBytes = 4096;
constexpr size_t kMaxContextBytes = 64;
constexpr size_t kMaxBlobBytes = 65'536;

void on_sealed(limpet_op* op, const limpet_status* err, limpet_bytes blob) {
  answer_op<Bytes>(op, err, [&]() -> Result<Bytes> {
    const std::string& label = op->owner->label();
    if (blob.len == 0 || blob.len > kMaxBlobBytes) return bad_answer(label, "a blob of no bytes or beyond 64 KiB");
    return take(label, blob);
  });
}

void on_unsealed(limpet_op* op, const limpet_status* err, limpet_bytes plain) {
  answer_op<SecretBytes>(op, err, [&]() -> Result<SecretBytes> {
    if (plain.len == 0 || plain.len > kMaxPlainBytes || plain.ptr == nullptr)
      return bad_answer(op->owner->label(), "a secret of no bytes, beyond 4 KiB or without an address");
    return SecretBytes(BytesView(plain.ptr, plain.len));
  });
}

class Facade final : public Sealer {
 public:
  explicit Facade(std::shared_ptr<Instance> instance)
      : instance_(std::move(instance)), table_(instance_->table<limpet_sealer>()) {}
  ~Facade() override { instance_->close(); }
  [[nodiscard]] const std::string& name() const override { return instance_->name(); }

  void seal(SecretBytes plain, Bytes context, Done<Bytes> done) override {
    const bool fits = !plain.empty() && plain.size() <= kMaxPlainBytes && context.size() <= kMaxContextBytes;
    run<Bytes>(
        [table = table_, secret = std::move(plain), bound = std::move(context)](limpet_instance* self, limpet_op* op) {
          table->seal(self, op, lend(secret.view()), lend(bound), &on_sealed);
        },
        fits, std::move(done));
  }

  void unseal(Bytes blob, Bytes context, Done<SecretBytes> done) override {
    const bool fits = !blob.empty() && blob.size() <= kMaxBlobBytes && context.size() <= kMaxContextBytes;
    run<SecretBytes>(
        [table = table_, sealed = std::move(blob), bound = std::move(context)](limpet_instance* self, limpet_op* op) {
          table->unseal(self, op, lend(sealed), lend(bound), &on_unsealed);
        },
        fits, std::move(done));
  }

 private:
  // What does not fit is refused here, as the ABI promises its plugins.
  template <class T>
  void run(PluginCall call, bool fits, Done<T> done) {
    if (fits) return instance_->run<T>(std::move(call), limits::kKeySignMs, std::move(done));
    instance_->post([d = std::move(done), label = instance_->label()]() mutable {
      d(fail(Code::invalid_argument, label + ": a secret of 1 to 4096 bytes with a context of at most 64 is sealed"));
    });
  }

  std::shared_ptr<Instance> instance_;
  const limpet_sealer* table_;
};

}  // namespace

std::unique_ptr<Sealer> make_sealer(std::shared_ptr<Instance> instance) {
  return std::make_unique<Facade>(std::move(instance));
}

}  // namespace limpet
