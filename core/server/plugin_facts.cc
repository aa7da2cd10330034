// SPDX-License-Identifier: Apache-2.0
#include "server/plugin_facts.h"

#include <algorithm>

#include "store/agents.h"

namespace limpet::server {

void StoredAgents::find(const std::string& id, Done<KnownAgent> done) {
  Result<KnownAgent> answer;
  if (auto row = find_agent(store_.read(), id)) {
    answer = KnownAgent{row->agent.id, row->agent.attestation_type, row->agent.banned()};
  } else {
    answer = std::unexpected(std::move(row).error());
  }
  loop_.post([held = std::move(done), found = std::move(answer)]() mutable { held(std::move(found)); });
}

IdentityPublisher::IdentityPublisher(Store& store, const BundleCache& bundles, const ServerSvid& svid,
                                     IdentityBoard* board)
    : store_(store), bundles_(bundles), svid_(svid), board_(board) {
  store_.subscribe(*this);
  publish();
}

IdentityPublisher::~IdentityPublisher() { store_.unsubscribe(*this); }

void IdentityPublisher::on_commit(uint64_t, const std::vector<Change>& changes) {
  if (std::ranges::any_of(changes, [](const Change& c) { return c.table == TableId::bundles; })) publish();
}

void IdentityPublisher::look_at_svid() {
  if (svid_.identity() != published_) publish();
}

void IdentityPublisher::publish() {
  if (board_ == nullptr) return;
  const Bundle* own = bundles_.own();
  if (own == nullptr) return board_->put(nullptr);
  published_ = svid_.identity();
  auto identity = std::make_shared<PublicIdentity>();
  identity->bundle = *own;
  if (published_ != nullptr) identity->svid = published_->chain;
  board_->put(std::move(identity));
}

}  // namespace limpet::server
