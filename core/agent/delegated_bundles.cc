// SPDX-License-Identifier: Apache-2.0
#include "agent/delegated_bundles.h"

#include <functional>
#include <string_view>
#include <utility>

#include "agent/delegated_messages.h"
#include "proto/agent_delegated.pb.h"
#include "wire/message.h"

namespace limpet::agent {

DelegatedBundles::DelegatedBundles(const DelegatedParts& parts, wire::ServerCall& call, Kind kind)
    : parts_(parts), call_(call), kind_(kind), caller_(parts, *this) {}

DelegatedBundles::~DelegatedBundles() { parts_.workload.audiences.unwatch_bundles(*this); }

void DelegatedBundles::start() { call_.receive(received_.then<&DelegatedBundles::on_request>(this)); }

// 1. the request: both are empty messages, so that it only has to be one, within the bounds
void DelegatedBundles::on_request(Result<std::optional<Bytes>> bytes) {
  using Request = spire_api_agent_delegatedidentity_v1_SubscribeToX509BundlesRequest;
  if (!bytes) return finish(std::move(bytes).error());
  if (!*bytes) return finish({Code::internal, "the call has no request"});
  if (auto request = wire::Message<Request>::decode(**bytes); !request) return finish(std::move(request).error());
  caller_.start(call_.peer(), admitted_.then<&DelegatedBundles::on_admitted>(this));
}

// 2. a delegate, or not
void DelegatedBundles::on_admitted(Result<void> verdict) {
  if (!verdict) return finish(std::move(verdict).error());
  parts_.workload.audiences.watch_bundles(*this);
  look();
}

void DelegatedBundles::on_view_changed() { look(); }

void DelegatedBundles::on_caller_changed() {
  if (auto verdict = caller_.check(); !verdict) finish(std::move(verdict).error());
}

// 3. all there is; byte-identical updates are not sent
void DelegatedBundles::look() {
  if (ended_) return;
  if (auto verdict = caller_.check(); !verdict) return finish(std::move(verdict).error());
  if (sending_) {
    changed_ = true;
    return;
  }
  const IdentityCache& cache = parts_.workload.audiences.cache();
  auto bytes = kind_ == Kind::x509 ? encode_delegated_bundles(cache) : encode_delegated_jwt_bundles(cache);
  if (!bytes) return finish(std::move(bytes).error());
  const uint64_t hash = std::hash<std::string_view>{}(as_text(*bytes)) | 1;
  if (hash == std::exchange(last_hash_, hash)) return;
  sending_ = true;
  call_.send(std::move(*bytes), sent_.then<&DelegatedBundles::on_sent>(this));
}

void DelegatedBundles::on_sent(Result<void> sent) {
  sending_ = false;
  if (!sent) return finish(std::move(sent).error());
  if (std::exchange(changed_, false)) look();
}

void DelegatedBundles::finish(Error error) {
  if (std::exchange(ended_, true)) return;
  log_delegate_refused(parts_.workload.log, call_, error);
  call_.finish(fail(std::move(error)));
}

}  // namespace limpet::agent
