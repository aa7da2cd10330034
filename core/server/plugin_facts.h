// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the server tells its plugins: whether an agent has attested (limpet.agent-store/1), and its own bundle and SVID
// (limpet.identity/1). Loop thread only.

#include "loop/loop.h"
#include "plugin/server_facts.h"
#include "server/bundle_cache.h"
#include "server/server_svid.h"
#include "store/store.h"

namespace limpet::server {

// Owned by main beside the plugins; store and loop outlive it.
class StoredAgents final : public AgentLookup {
 public:
  StoredAgents(Loop& loop, const Store& store) : loop_(loop), store_(store) {}
  void find(const std::string& id, Done<KnownAgent> done) override;

 private:
  Loop& loop_;
  const Store& store_;
};

// Puts bundle and SVID on the board whenever one of them has changed. Owned by ServerCore, after `bundles`, which hears
// of a commit first.
class IdentityPublisher final : public StoreObserver {
 public:
  // `board` null: nobody reads.
  IdentityPublisher(Store& store, const BundleCache& bundles, const ServerSvid& svid, IdentityBoard* board);
  ~IdentityPublisher() override;
  IdentityPublisher(const IdentityPublisher&) = delete;
  IdentityPublisher& operator=(const IdentityPublisher&) = delete;

  void on_commit(uint64_t revision, const std::vector<Change>& changes) override;
  void look_at_svid();  // a renewal tells nobody: call it now and then

 private:
  void publish();

  Store& store_;
  const BundleCache& bundles_;
  const ServerSvid& svid_;
  IdentityBoard* board_;
  std::shared_ptr<const wire::TlsIdentity> published_;  // the SVID on the board, its other owner is ServerSvid
};

}  // namespace limpet::server
