// SPDX-License-Identifier: Apache-2.0
// Upstream authorities: the calls of the table, and the stream of bundles, whose op lives as long as the plugin keeps
// it open.
#include "plugin/upstream_authority.h"

#include <algorithm>

#include "plugin/borrow.h"
#include "plugin/upstream_authority_facade.h"

namespace limpet {
namespace {

Result<MintedCa> take_minted(const std::string& label, limpet_bytes_list chain, limpet_bytes_list roots) {
  MintedCa out;
  TRY_ASSIGN(out.chain, take(label, chain, limits::kChainCertificates));
  TRY_ASSIGN(out.roots, take(label, roots, limits::kBundleCertificates));
  if (out.chain.empty()) return bad_answer(label, "no CA certificate");
  if (out.roots.empty()) return bad_answer(label, "a CA certificate without a root");
  return out;
}

void on_minted(limpet_op* op, const limpet_status* err, limpet_bytes_list chain, limpet_bytes_list roots) {
  answer_op<MintedCa>(op, err, [&] { return take_minted(op->owner->label(), chain, roots); });
}

void on_published(limpet_op* op, const limpet_status* err) {
  answer_op<void>(op, err, [] { return Result<void>(); });
}

// ---- the stream ----

Result<UpstreamJwtKey> take_jwt_key(const std::string& label, const limpet_jwt_key* key) {
  if (key == nullptr || !LIMPET_HAS(key, limpet_jwt_key, expires_at))
    return bad_answer(label, "no JWT key, or a short struct");
  UpstreamJwtKey out;
  TRY_ASSIGN(out.id, take(label, key->id));
  TRY_ASSIGN(out.spki, take(label, key->spki_der));
  if (out.id.empty() || out.spki.empty()) return bad_answer(label, "a JWT key without id or key");
  out.expires_at = key->expires_at;
  out.tainted = key->tainted != 0;
  return out;
}

Result<UpstreamBundle> take_bundle(const std::string& label, const limpet_bundle* bundle) {
  if (bundle == nullptr || !LIMPET_HAS(bundle, limpet_bundle, jwt_key_count))
    return bad_answer(label, "no bundle, or a short struct");
  UpstreamBundle out;
  TRY_ASSIGN(out.x509_roots, take(label, bundle->x509_roots_der, limits::kBundleCertificates));
  if (bundle->jwt_key_count > limits::kBundleKeys || (bundle->jwt_key_count > 0 && bundle->jwt_keys == nullptr))
    return bad_answer(label, "a list of more than 2,000 JWT keys or without an address");
  for (size_t i = 0; i < bundle->jwt_key_count; ++i) {
    TRY_ASSIGN(UpstreamJwtKey key, take_jwt_key(label, bundle->jwt_keys[i]));
    out.jwt_keys.push_back(std::move(key));
  }
  out.refresh_hint = bundle->refresh_hint_s;
  if (LIMPET_HAS(bundle, limpet_bundle, tainted_roots_der)) {
    TRY_ASSIGN(out.tainted_roots, take(label, bundle->tainted_roots_der, limits::kBundleCertificates));
  }
  return out;
}

class Watch;

// Where updates wait for the loop. Only the newest counts: each bundle is complete.
struct Mailbox {
  std::mutex mutex;
  std::optional<Result<UpstreamBundle>> newest;
  Watch* watch = nullptr;  // [loop] null: nobody listens
};

struct WatchOp final : AnswerOp<UpstreamBundle> {
  WatchOp(PluginCall plugin_call, std::shared_ptr<Mailbox> shared)
      : AnswerOp(std::move(plugin_call)), mailbox(std::move(shared)) {}
  ~WatchOp() override;
  void store(Result<UpstreamBundle> ended) override {
    if (!ended) end = fail(std::move(ended).error());
  }
  void deliver(const Error* failure) override;
  void update(Result<UpstreamBundle> bundle);

  std::shared_ptr<Mailbox> mailbox;  // owners: this op, and each update on its way to the loop
  Result<void> end;
};

class Watch final : public UpstreamWatch {
 public:
  Watch(std::shared_ptr<Instance> instance, UpstreamWatcher& watcher)
      : instance_(std::move(instance)), watcher_(watcher) {
    auto mailbox = std::make_shared<Mailbox>();
    mailbox->watch = this;
    auto op = std::make_unique<WatchOp>(
        [table = instance_->table<limpet_upstream_authority>()](limpet_instance* self, limpet_op* o) {
          table->watch_bundle(self, o, &on_update, &on_end);
        },
        std::move(mailbox));
    op_ = op.get();
    instance_->start(std::move(op), Instance::kForever);
  }
  ~Watch() override { stop(); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void forget_op() { op_ = nullptr; }
  // May destroy this.
  void tell(Result<UpstreamBundle> bundle) {
    if (bundle) return watcher_.on_upstream_bundle(std::move(*bundle));
    stop();  // what cannot be used once will not be better next time
    watcher_.on_upstream_watch_end(fail(std::move(bundle).error()));
  }
  void tell_end(Result<void> why) {
    forget_op();
    watcher_.on_upstream_watch_end(std::move(why));
  }

 private:
  static void on_update(limpet_op* op, const limpet_bundle* bundle) {
    op->check_running(op_kind<UpstreamBundle>());
    static_cast<WatchOp*>(op)->update(take_bundle(op->owner->label(), bundle));
  }
  static void on_end(limpet_op* op, const limpet_status* err) {
    answer_op<UpstreamBundle>(op, err, [] { return Result<UpstreamBundle>(); });
  }

  void stop() {
    if (op_ == nullptr) return;
    op_->mailbox->watch = nullptr;
    instance_->cancel(*std::exchange(op_, nullptr));
  }

  std::shared_ptr<Instance> instance_;  // kept with the facade, which closes it
  UpstreamWatcher& watcher_;
  WatchOp* op_ = nullptr;  // null once it has ended
};

WatchOp::~WatchOp() {
  if (mailbox->watch != nullptr) mailbox->watch->forget_op();
}

void WatchOp::deliver(const Error* failure) {
  Watch* watch = std::exchange(mailbox->watch, nullptr);
  if (watch != nullptr) watch->tell_end(failure != nullptr ? fail(*failure) : std::move(end));
}

void WatchOp::update(Result<UpstreamBundle> bundle) {
  bool waiting = false;
  {
    const std::lock_guard lock(mailbox->mutex);
    waiting = mailbox->newest.has_value();
    mailbox->newest = std::move(bundle);
  }
  if (waiting) return;
  owner->post([box = mailbox] {
    std::optional<Result<UpstreamBundle>> newest;
    {
      const std::lock_guard lock(box->mutex);
      newest = std::exchange(box->newest, std::nullopt);
    }
    if (newest && box->watch != nullptr) box->watch->tell(std::move(*newest));
  });
}

// ---- the facade ----

class Facade final : public UpstreamAuthority {
 public:
  explicit Facade(std::shared_ptr<Instance> instance)
      : instance_(std::move(instance)), table_(instance_->table<limpet_upstream_authority>()) {}
  ~Facade() override { instance_->close(); }
  [[nodiscard]] const std::string& name() const override { return instance_->name(); }

  void mint_ca(Bytes csr, int64_t ttl, Done<MintedCa> done) override {
    const auto seconds = static_cast<uint32_t>(std::clamp<int64_t>(ttl, 0, UINT32_MAX));
    instance_->run<MintedCa>(
        [table = table_, der = std::move(csr), seconds](limpet_instance* self, limpet_op* op) {
          table->mint_ca(self, op, lend(der), seconds, &on_minted);
        },
        limits::kUpstreamMintMs, std::move(done));
  }

  void publish_jwt_key(UpstreamJwtKey key, Done<void> done) override {
    instance_->run<void>(
        [table = table_, k = std::move(key)](limpet_instance* self, limpet_op* op) {
          const limpet_jwt_key lent = {sizeof(limpet_jwt_key), k.tainted ? 1u : 0u, lend(k.id), lend(k.spki),
                                       k.expires_at};
          table->publish_jwt_key(self, op, &lent, &on_published);
        },
        limits::kUpstreamPublishMs, std::move(done));
  }

  std::unique_ptr<UpstreamWatch> watch_bundle(UpstreamWatcher& watcher) override {
    return std::make_unique<Watch>(instance_, watcher);
  }

 private:
  std::shared_ptr<Instance> instance_;
  const limpet_upstream_authority* table_;
};

}  // namespace

std::unique_ptr<UpstreamAuthority> make_upstream_authority(std::shared_ptr<Instance> instance) {
  return std::make_unique<Facade>(std::move(instance));
}

}  // namespace limpet
