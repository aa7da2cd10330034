// SPDX-License-Identifier: Apache-2.0
#include "server/bundle_cache.h"

#include "store/bundles.h"
#include "store/codec.h"

namespace limpet::server {
namespace {
constexpr int kAttempts = 8;  // edits of one bundle that may come between
}

class BundleCache::EditOperation {
 public:
  EditOperation(BundleCache& cache, Edit edit, Done<Bundle> done)
      : cache_(cache), edit_(std::move(edit)), done_(std::move(done)), later_(cache.loop_) {}
  std::list<std::unique_ptr<EditOperation>>::iterator place;

  // 1. read, edit, write; nothing is written when the edit leaves everything as it is
  void start() {
    auto stored = find_bundle(cache_.store_.read(), cache_.trust_domain_);
    bool fresh = !stored && stored.error().code == Code::not_found;
    if (!stored && !fresh) return end_later(std::unexpected(std::move(stored).error()));
    Bundle before;
    before.trust_domain = cache_.trust_domain_;
    if (stored) before = std::move(*stored);
    bundle_ = before;
    ChangeSet changes;
    const Result<bool> edited = edit_(bundle_, changes);
    if (!edited) return end_later(std::unexpected(edited.error()));
    if (!*edited) return end_later(std::move(before));
    if (bundle_ != before) {
      bundle_.sequence_number = fresh ? 0 : before.sequence_number + 1;  // SPIRE counts changes, not versions
      if (fresh) {
        changes.require_absent(TableId::bundles, text_key(bundle_.trust_domain.name()));
        put_bundle(changes, bundle_);
      } else {
        update_bundle(changes, before, bundle_);
      }
    }
    if (changes.empty()) return end_later(std::move(bundle_));
    cache_.store_.commit(std::move(changes), committed_.then<&EditOperation::on_committed>(this));
  }

 private:
  // 2. written, or somebody else was faster
  void on_committed(Result<uint64_t> revision) {
    if (!revision && revision.error().code == Code::aborted && ++attempts_ < kAttempts) return start();
    if (!revision) return end(std::unexpected(std::move(revision).error().within("store bundle")));
    end(std::move(bundle_));
  }
  void end(Result<Bundle> result) {
    Done<Bundle> done = std::move(done_);
    std::unique_ptr<EditOperation> self = std::move(*place);
    cache_.edits_.erase(self->place);
    self.reset();
    done(std::move(result));
  }
  // Nothing was started: the answer must not come before start() has returned.
  void end_later(Result<Bundle> result) {
    result_ = std::move(result);
    later_.start<&EditOperation::on_later>(0, this);
  }
  void on_later() { end(std::move(result_)); }

  BundleCache& cache_;
  Edit edit_;
  Done<Bundle> done_;
  Bundle bundle_;
  Result<Bundle> result_;
  Timer later_;
  int attempts_ = 0;
  Pending<uint64_t> committed_;
};

BundleCache::BundleCache(Loop& loop, Store& store, TrustDomain trust_domain)
    : loop_(loop), store_(store), trust_domain_(std::move(trust_domain)) {
  load();
  store_.subscribe(*this);
}

BundleCache::~BundleCache() { store_.unsubscribe(*this); }

void BundleCache::edit_own(Edit edit, Done<Bundle> done) {
  auto& operation = edits_.emplace_back(std::make_unique<EditOperation>(*this, std::move(edit), std::move(done)));
  operation->place = std::prev(edits_.end());
  operation->start();
}

// A bundle that cannot be read is left out: its clients are refused, everybody else is served.
void BundleCache::load() {
  auto roots = std::make_shared<BundleSet>();
  const Snapshot snapshot = store_.read();
  const auto scanned = snapshot.scan(TableId::bundles, {}, [&](BytesView, BytesView value) {
    if (auto bundle = decode_bundle(value)) {
      take(*roots, std::move(*bundle));
    } else {
      damage_ = bundle.error().text();
    }
    return true;
  });
  if (!scanned) damage_ = scanned.error().text();
  count_ = snapshot.count(TableId::bundles);
  roots_ = std::move(roots);
}

void BundleCache::take(BundleSet& roots, Bundle bundle) {
  std::vector<Certificate> certificates;
  for (const X509Authority& authority : bundle.x509_authorities) {
    if (auto certificate = Certificate::parse(authority.der)) certificates.push_back(std::move(*certificate));
  }
  roots.set(bundle.trust_domain, std::move(certificates));
  if (bundle.trust_domain == trust_domain_) own_ = std::move(bundle);
}

// Only what changed is read and parsed: there may be many trust domains, and each poll of one may store.
void BundleCache::on_commit(uint64_t, const std::vector<Change>& changes) {
  std::shared_ptr<BundleSet> roots;
  const Snapshot snapshot = store_.read();
  for (const Change& change : changes) {
    if (change.table != TableId::bundles) continue;
    if (!roots) roots = std::make_shared<BundleSet>(*roots_);
    const auto name = TrustDomain::parse(as_text(change.key));
    if (!name) continue;
    // the snapshot may be newer than this commit; the row's present value is what counts either way
    const auto row = snapshot.get(TableId::bundles, change.key);
    auto bundle = row ? decode_bundle(*row) : std::unexpected(row.error());
    if (bundle) {
      take(*roots, std::move(*bundle));
      continue;
    }
    roots->remove(*name);
    if (*name == trust_domain_) own_.reset();
  }
  if (!roots) return;
  count_ = snapshot.count(TableId::bundles);
  roots_ = std::move(roots);
}

}  // namespace limpet::server
