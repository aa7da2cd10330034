// SPDX-License-Identifier: Apache-2.0
#pragma once
// The trust bundles in memory, as the store has them: the server's own one, which this class also edits, and the roots
// of every known trust domain for verifying clients. Follows the change log. Owned by Server; loop thread.

#include <functional>
#include <list>
#include <memory>
#include <optional>

#include "spiffe/bundle.h"
#include "store/store.h"

namespace limpet::server {

class BundleCache final : public StoreObserver {
 public:
  BundleCache(Loop& loop, Store& store, TrustDomain trust_domain);
  ~BundleCache() override;
  BundleCache(const BundleCache&) = delete;
  BundleCache& operator=(const BundleCache&) = delete;

  [[nodiscard]] const TrustDomain& trust_domain() const { return trust_domain_; }
  // The own bundle; null while there is none.
  [[nodiscard]] const Bundle* own() const { return own_ ? &*own_ : nullptr; }
  // What could not be read of the bundles; empty: nothing.
  [[nodiscard]] const std::string& damage() const { return damage_; }
  [[nodiscard]] size_t count() const { return count_; }  // bundles in the store, the own one included
  // A snapshot; handshakes on worker threads hold it while the next one is already here.
  [[nodiscard]] std::shared_ptr<const BundleSet> roots() const { return roots_; }

  // Changes the own bundle. `edit` may run more than once (when another edit came between) and after whoever asked is
  // gone: it holds nothing of theirs. It gets the bundle as it is, and the change set for what has to be written
  // together with it; false: nothing to write; an error is the answer. The sequence number is bumped when the bundle
  // changed. Answers with the bundle as stored.
  using Edit = std::move_only_function<Result<bool>(Bundle& bundle, ChangeSet& also)>;
  void edit_own(Edit edit, Done<Bundle> done);

  void on_commit(uint64_t revision, const std::vector<Change>& changes) override;

 private:
  class EditOperation;
  void load();
  void take(BundleSet& roots, Bundle bundle);

  Loop& loop_;
  Store& store_;
  TrustDomain trust_domain_;
  std::optional<Bundle> own_;
  size_t count_ = 0;
  std::string damage_;
  std::shared_ptr<const BundleSet> roots_;
  std::list<std::unique_ptr<EditOperation>> edits_;
};

}  // namespace limpet::server
