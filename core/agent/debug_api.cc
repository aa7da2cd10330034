// SPDX-License-Identifier: Apache-2.0
#include "agent/debug_api.h"

#include "crypto/x509.h"
#include "proto/agent_debug.pb.h"
#include "spiffe/bundle.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::agent {
namespace {

using Request = spire_agent_debug_v1_GetInfoRequest;
using Info = spire_agent_debug_v1_GetInfoResponse;

void add_chain(Info& info, const AgentSvid& svid) {
  std::vector<Certificate> chain;
  for (const Bytes& der : svid.chain)
    if (auto certificate = Certificate::parse(der)) chain.push_back(std::move(*certificate));
  auto* out = wire::set_array(info.svid_chain, info.svid_chain_count, chain.size());
  for (const Certificate& certificate : chain) {
    if (auto id = spiffe_id_of(certificate)) wire::write_id(out->has_id, out->id, *id);
    out->expires_at = certificate.not_after;
    wire::set_string(out->subject, certificate.subject_text());
    out++;
  }
}

class GetInfoFlow final : public wire::UnaryFlow<Request, Info> {
 public:
  GetInfoFlow(wire::ServerCall& call, const DebugSource& source, int64_t uptime_ms)
      : UnaryFlow(call), source_(source), uptime_ms_(uptime_ms) {}

 private:
  void handle(const Request&) override {
    wire::Message<Info> info;
    if (source_.own_svid()) add_chain(*info, *source_.own_svid());
    info->uptime = static_cast<int32_t>(uptime_ms_ / 1000);
    info->last_sync_success = source_.last_sync();
    info->cached_x509_svids_count = info->svids_count = static_cast<int32_t>(source_.cached_svids());
    info->cached_jwt_svids_count = static_cast<int32_t>(source_.cached_tokens());
    reply(info);
  }

  const DebugSource& source_;
  int64_t uptime_ms_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> DebugApi::open(wire::ServerCall& call) {
  if (!call.method().ends_with("/GetInfo")) return nullptr;
  return std::make_unique<GetInfoFlow>(call, source_, loop_.now_ms() - started_ms_);
}

}  // namespace limpet::agent
