// SPDX-License-Identifier: Apache-2.0
#include "server/debug_api.h"

#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

constexpr int64_t kCacheMs = 5'000;

class GetInfoFlow final : public wire::ServerFlow {
 public:
  GetInfoFlow(DebugApi& api, wire::ServerCall& call) : api_(api), call_(call) {}
  void start() override { call_.receive(received_.then<&GetInfoFlow::on_request>(this)); }

 private:
  void on_request(Result<std::optional<Bytes>> request) {  // an empty message: nothing to read in it
    if (!request) return call_.finish(std::unexpected(std::move(request).error()));
    auto info = api_.info();
    if (!info) return call_.finish(std::unexpected(std::move(info).error()));
    call_.send(std::move(*info), sent_.then<&GetInfoFlow::on_sent>(this));
  }
  void on_sent(Result<void> sent) { call_.finish(std::move(sent)); }

  DebugApi& api_;
  wire::ServerCall& call_;
  Pending<std::optional<Bytes>> received_;
  Pending<void> sent_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> DebugApi::open(wire::ServerCall& call, const Caller&) {
  return std::make_unique<GetInfoFlow>(*this, call);
}

Result<Bytes> DebugApi::info() {
  int64_t now = context_.loop.now_ms();
  if (now < cached_until_ms_) return cached_;
  wire::Message<spire_api_server_debug_v1_GetInfoResponse> response;
  add_chain(*response);
  response->uptime = static_cast<int32_t>((now - started_ms_) / 1000);
  Snapshot snapshot = context_.store.read();
  response->agents_count = static_cast<int32_t>(snapshot.count(TableId::agents));
  response->entries_count = static_cast<int32_t>(snapshot.count(TableId::entries));
  response->federated_bundles_count = static_cast<int32_t>(context_.bundles.count());  // SPIRE counts its own too
  TRY_ASSIGN(cached_, response.encode());
  cached_until_ms_ = now + kCacheMs;
  return cached_;
}

// The server's SVID and the root it hangs from.
void DebugApi::add_chain(spire_api_server_debug_v1_GetInfoResponse& response) const {
  std::vector<const Certificate*> chain;
  if (svid_.certificate() != nullptr) chain.push_back(svid_.certificate());
  if (context_.ca.active_certificate() != nullptr) chain.push_back(context_.ca.active_certificate());
  auto* items = wire::set_array(response.svid_chain, response.svid_chain_count, chain.size());
  for (size_t i = 0; i < chain.size(); i++) {
    if (auto id = spiffe_id_of(*chain[i])) wire::write_id(items[i].has_id, items[i].id, *id);
    items[i].expires_at = chain[i]->not_after;
    wire::set_string(items[i].subject, chain[i]->subject_text());
  }
}

}  // namespace limpet::server
