// SPDX-License-Identifier: Apache-2.0
// Key managers: the facade over the ABI table, the signer over one managed key, and the one for worker threads.
#include "plugin/key_manager.h"

#include "plugin/borrow.h"
#include "plugin/key_manager_facade.h"

namespace limpet {
namespace {

struct Signed {
  Bytes signature;
  std::string fingerprint;
};

Result<ManagedKey> take_key(const std::string& label, const limpet_public_key* key) {
  if (key == nullptr || !LIMPET_HAS(key, limpet_public_key, fingerprint))
    return bad_answer(label, "no public key, or a short struct");
  if (key->type < 1 || key->type > 4) return bad_answer(label, "a key of unknown type " + std::to_string(key->type));
  ManagedKey out;
  out.type = static_cast<KeyType>(key->type);
  TRY_ASSIGN(out.id, take(label, key->id));
  TRY_ASSIGN(out.fingerprint, take(label, key->fingerprint));
  if (out.id.empty() || out.fingerprint.empty()) return bad_answer(label, "a key without id or fingerprint");
  TRY_ASSIGN(const Bytes spki, take(label, key->spki_der));
  TRY_ASSIGN_WITHIN(label + ": key " + out.id, out.key, PublicKey::from_spki(spki));
  return out;
}

void on_key(limpet_op* op, const limpet_status* err, const limpet_public_key* key) {
  answer_op<ManagedKey>(op, err, [&] { return take_key(op->owner->label(), key); });
}

void on_keys(limpet_op* op, const limpet_status* err, const limpet_public_key* const* keys, size_t count) {
  answer_op<std::vector<ManagedKey>>(op, err, [&]() -> Result<std::vector<ManagedKey>> {
    const std::string& label = op->owner->label();
    if (count > limits::kPluginItems || (count > 0 && keys == nullptr))
      return bad_answer(label, "a list of more than 4,096 keys or without an address");
    std::vector<ManagedKey> out;
    for (size_t i = 0; i < count; ++i) {
      TRY_ASSIGN(ManagedKey key, take_key(label, keys[i]));
      out.push_back(std::move(key));
    }
    return out;
  });
}

void on_signature(limpet_op* op, const limpet_status* err, limpet_bytes signature, limpet_str fingerprint) {
  answer_op<Signed>(op, err, [&]() -> Result<Signed> {
    Signed out;
    TRY_ASSIGN(out.signature, take(op->owner->label(), signature));
    TRY_ASSIGN(out.fingerprint, take(op->owner->label(), fingerprint));
    if (out.signature.empty()) return bad_answer(op->owner->label(), "an empty signature");
    return out;
  });
}

void on_removed(limpet_op* op, const limpet_status* err) {
  answer_op<void>(op, err, [] { return Result<void>(); });
}

constexpr int32_t kNoPss = -1;

PluginCall sign_call(const Instance& instance, const std::string& key_id, HashAlg alg, Bytes digest,
                     int32_t salt_len = kNoPss) {
  return [table = instance.table<limpet_key_manager>(), key_id, alg, data = std::move(digest), salt_len](
             limpet_instance* self, limpet_op* op) {
    const limpet_sign_request request = {
        sizeof(limpet_sign_request), static_cast<uint32_t>(alg), lend(key_id), lend(data), salt_len, 0, {}};
    table->sign(self, op, &request, &on_signature);
  };
}

// The signature, unless another key stands behind the id by now.
Result<Bytes> check_signed(const std::string& label, const std::string& id, const std::string& fingerprint,
                           Result<Signed> made) {
  if (!made) return fail(std::move(made).error());
  if (made->fingerprint != fingerprint) {
    return fail(Code::failed_precondition,
                label + ": key " + id + " was replaced since it was read; read the keys again");
  }
  return std::move(made->signature);
}

class WorkerSigner final : public BlockingSigner {
 public:
  WorkerSigner(std::shared_ptr<Instance> instance, const ManagedKey& key)
      : instance_(std::move(instance)), id_(key.id), fingerprint_(key.fingerprint) {}
  Result<Bytes> sign(HashAlg alg, BytesView digest) const override {
    return check_signed(
        instance_->label(), id_, fingerprint_,
        instance_->run_and_wait<Signed>(sign_call(*instance_, id_, alg, to_bytes(digest)), limits::kKeySignMs));
  }

 private:
  std::shared_ptr<Instance> instance_;  // kept with the facade, which closes it; afterwards signing fails
  const std::string id_;
  const std::string fingerprint_;
};

// A signature for the loop: its waiter hears of it after the fingerprint was compared.
struct SignOp final : AnswerOp<Signed> {
  SignOp(PluginCall plugin_call, const ManagedKey& key, Done<Bytes> waiter)
      : AnswerOp(std::move(plugin_call)), id(key.id), fingerprint(key.fingerprint), done(std::move(waiter)) {}
  void store(Result<Signed> answer) override { result = std::move(answer); }
  void deliver(const Error* failure) override {
    if (std::exchange(delivered, true)) return;
    Done<Bytes> waiter = std::move(done);
    if (failure != nullptr) return waiter(std::unexpected(*failure));
    waiter(check_signed(owner->label(), id, fingerprint, std::move(result)));
  }
  const std::string id;
  const std::string fingerprint;
  Done<Bytes> done;
  Result<Signed> result = fail(Code::internal, "the plugin did not answer");
  bool delivered = false;
};

class Facade final : public KeyManager {
 public:
  explicit Facade(std::shared_ptr<Instance> instance)
      : instance_(std::move(instance)), table_(instance_->table<limpet_key_manager>()) {}
  ~Facade() override { instance_->close(); }
  [[nodiscard]] const std::string& name() const override { return instance_->name(); }

  void generate(const std::string& id, KeyType type, Done<ManagedKey> done) override {
    instance_->run<ManagedKey>(
        [table = table_, id, type](limpet_instance* self, limpet_op* op) {
          table->generate(self, op, lend(id), static_cast<uint32_t>(type), &on_key);
        },
        limits::kKeyGenerateMs, std::move(done));
  }

  void list(Done<std::vector<ManagedKey>> done) override {
    instance_->run<std::vector<ManagedKey>>(
        [table = table_](limpet_instance* self, limpet_op* op) { table->list(self, op, &on_keys); },
        limits::kKeyGenerateMs, std::move(done));
  }

  void sign(const ManagedKey& key, HashAlg alg, Bytes digest, Done<Bytes> done) override {
    sign_pss(key, alg, kNoPss, std::move(digest), std::move(done));
  }
  void sign_pss(const ManagedKey& key, HashAlg alg, int32_t salt_len, Bytes digest, Done<Bytes> done) override {
    instance_->start(
        std::make_unique<SignOp>(sign_call(*instance_, key.id, alg, std::move(digest), salt_len), key, std::move(done)),
        limits::kKeySignMs);
  }

  void remove(const std::string& id, Done<void> done) override {
    instance_->run<void>(
        [table = table_, id](limpet_instance* self, limpet_op* op) {
          if (LIMPET_HAS(table, limpet_key_manager, remove) && table->remove != nullptr) {
            return table->remove(self, op, lend(id), &on_removed);
          }
          const limpet_status status = {sizeof(limpet_status), LIMPET_UNIMPLEMENTED,
                                        lend("the plugin cannot remove keys"), 0, 0};
          on_removed(op, &status);
        },
        limits::kKeySignMs, std::move(done));
  }

  std::shared_ptr<const BlockingSigner> blocking_signer(const ManagedKey& key) override {
    return std::make_shared<WorkerSigner>(instance_, key);
  }

 private:
  std::shared_ptr<Instance> instance_;
  const limpet_key_manager* table_;
};

class ManagedSigner final : public Signer {
 public:
  ManagedSigner(KeyManager& manager, ManagedKey key) : manager_(manager), key_(std::move(key)) {}
  [[nodiscard]] KeyType type() const override { return key_.type; }
  [[nodiscard]] const PublicKey& public_key() const override { return key_.key; }
  void sign(HashAlg alg, Bytes digest, Done<Bytes> done) override {
    manager_.sign(key_, alg, std::move(digest), std::move(done));
  }

 private:
  KeyManager& manager_;
  const ManagedKey key_;
};

}  // namespace

std::unique_ptr<KeyManager> make_key_manager(std::shared_ptr<Instance> instance) {
  return std::make_unique<Facade>(std::move(instance));
}

std::unique_ptr<Signer> make_signer(KeyManager& manager, ManagedKey key) {
  return std::make_unique<ManagedSigner>(manager, std::move(key));
}

}  // namespace limpet
