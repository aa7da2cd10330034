// SPDX-License-Identifier: Apache-2.0
#include "agent/syncer.h"

#include <algorithm>
#include <utility>

#include "wire/api_types.h"

namespace limpet::agent {

namespace {
Backoff backoff_for(int64_t interval_ms) {
  return {interval_ms, std::max(interval_ms, std::min<int64_t>(480'000, interval_ms * 48))};
}
}  // namespace

Syncer::Syncer(Loop& loop, Logger& log, Link& link, const IdentityCache& cache, TrustDomain trust_domain,
               int64_t interval_ms, SyncerClient& client, Metrics& metrics)
    : loop_(loop),
      log_(log),
      link_(link),
      cache_(cache),
      trust_domain_(std::move(trust_domain)),
      interval_ms_(interval_ms),
      client_(client),
      metrics_(metrics),
      backoff_(backoff_for(interval_ms)),
      timer_(loop) {}

void Syncer::set_interval(int64_t interval_ms) {
  interval_ms_ = interval_ms;
  backoff_ = backoff_for(interval_ms);
  if (!running_) timer_.start<&Syncer::on_timer>(interval_ms, this);
}

void Syncer::now() {
  post_status_ = true;
  use_sync_ = true;  // the server may be another one by now
  if (running_) {
    again_ = true;
    return;
  }
  backoff_.reset();
  on_timer();
}

// 1. a connection
void Syncer::on_timer() {
  timer_.stop();
  running_ = true;
  asked_ms_ = loop_.now_ms();
  link_.acquire(acquired_.then<&Syncer::on_channel>(this));
}

// 2. entries and the own bundle at once: one round trip on a slow link
void Syncer::on_channel(Result<SharedChannel> channel) {
  if (!channel) return failed(channel.error());
  channel_ = std::move(*channel);
  if (std::exchange(post_status_, false)) post_status();
  entry_sync_ = std::make_unique<EntrySync>(loop_, cache_);
  bundle_call_ = std::make_unique<GetBundle>();
  entry_sync_->start(*channel_, use_sync_, synced_.then<&Syncer::on_entries>(this));
  bundle_call_->start(*channel_, "/spire.api.server.bundle.v1.Bundle/GetBundle", {}, {kRpcTimeoutMs, {}},
                      got_bundle_.then<&Syncer::on_bundle>(this));
}

void Syncer::post_status() {
  wire::Message<spire_api_server_agent_v1_PostStatusRequest> request;
  wire::set_string(request->agent_version, LIMPET_VERSION);
  status_call_ = std::make_unique<Status>();
  status_call_->start(*channel_, "/spire.api.server.agent.v1.Agent/PostStatus", request, {kRpcTimeoutMs, {}},
                      posted_.then<&Syncer::on_status>(this));
}

// 3. entries
void Syncer::on_entries(Result<EntriesUpdate> update) {
  entry_sync_.reset();
  if (!update) return failed(update.error());
  if (update->sync_unimplemented) use_sync_ = false;
  entries_ = std::move(*update);
  if (bundle_) list_federated();
}

// 4. the own bundle
void Syncer::on_bundle(Result<wire::Message<spire_api_types_Bundle>> bundle) {
  bundle_call_.reset();
  if (!bundle) return failed(std::move(bundle).error().within("get the trust bundle"));
  auto read = wire::read_bundle(**bundle);
  if (!read) return failed(std::move(read).error().within("trust bundle"));
  if (read->trust_domain != trust_domain_ || read->x509_authorities.empty())
    return failed({Code::internal, "the server sent a trust bundle that is empty or of trust domain \"" +
                                       read->trust_domain.name() + "\""});
  bundle_ = std::move(*read);
  if (entries_) list_federated();
}

// 5. the foreign bundles that the entries to come name, one by one
void Syncer::list_federated() {
  std::set<std::string> names;
  std::set<std::string_view> fresh;
  for (const Entry& entry : entries_->entries) {
    fresh.insert(entry.id);
    names.insert(entry.federates_with.begin(), entry.federates_with.end());
  }
  for (const std::string& id : entries_->present) {
    if (fresh.contains(id)) continue;
    const auto known = cache_.identities().find(id);
    if (known == cache_.identities().end()) continue;
    names.insert(known->second.entry.federates_with.begin(), known->second.entry.federates_with.end());
  }
  names.erase(trust_domain_.name());
  federated_names_.assign(names.rbegin(), names.rend());
  next_federated();
}

void Syncer::next_federated() {
  if (federated_names_.empty()) return succeeded();
  wire::Message<spire_api_server_bundle_v1_GetFederatedBundleRequest> request;
  wire::set_string(request->trust_domain, federated_names_.back());
  federated_call_ = std::make_unique<GetFederated>();
  federated_call_->start(*channel_, "/spire.api.server.bundle.v1.Bundle/GetFederatedBundle", request,
                         {kRpcTimeoutMs, {}}, got_federated_.then<&Syncer::on_federated>(this));
}

void Syncer::on_federated(Result<wire::Message<spire_api_types_Bundle>> bundle) {
  federated_call_.reset();
  const std::string name = std::move(federated_names_.back());
  federated_names_.pop_back();
  if (!bundle && bundle.error().code == Code::not_found) {
    outcome_.not_federated.push_back(name);
    return next_federated();
  }
  if (!bundle) return failed(std::move(bundle).error().within("get the bundle of \"" + name + "\""));
  auto read = wire::read_bundle(**bundle);
  if (read && read->trust_domain.name() != name)
    read = fail(Code::internal, "the server sent the bundle of \"" + read->trust_domain.name() + "\"");
  if (read) {
    outcome_.federated.push_back(std::move(*read));
  } else {  // a stranger's mistake must not hold up the own trust domain
    log_.warn("The bundle of a federated trust domain cannot be read, keeping what is known of it",
              {{"trust_domain", name}, {"error", read.error().text()}});
    outcome_.unreadable.push_back(name);
  }
  next_federated();
}

// Entries and bundles come together here, so SPIRE's name for the entries counts both.
void Syncer::count_entries(Code status) {
  metrics_.call("manager_sync_fetch_entries_updates", status, loop_.now_ms() - asked_ms_);
}

void Syncer::succeeded() {
  count_entries(Code::ok);
  outcome_.entries = std::move(*entries_);
  outcome_.bundle = std::move(*bundle_);
  SyncOutcome outcome = std::move(outcome_);
  stop_calls();
  backoff_.reset();
  ever_ = true;
  if (std::exchange(failing_, false)) log_.info("Synchronised with the server again");
  if (outcome.entries.unreadable != 0)
    log_.warn("Entries from the server break the rules and were left out",
              {{"count", std::to_string(outcome.entries.unreadable)}});
  timer_.start<&Syncer::on_timer>(std::exchange(again_, false) ? 0 : spread(interval_ms_, 10), this);
  client_.on_synced(std::move(outcome));
}

void Syncer::failed(const Error& why) {
  if (channel_ != nullptr) link_.failed(channel_.get(), why);
  // stop_calls() may free what `why` refers to
  const Error kept = why;  // NOLINT(performance-unnecessary-copy-initialization)
  count_entries(kept.code);
  stop_calls();
  const int64_t pause = std::exchange(again_, false) ? 0 : backoff_.pause();
  log_.log(std::exchange(failing_, true) ? LogLevel::debug : LogLevel::warn,
           "Could not synchronise with the server, trying again",
           {{"error", kept.text()}, {"retry_in_ms", std::to_string(pause)}});
  timer_.start<&Syncer::on_timer>(pause, this);
  client_.on_sync_failed(kept);
}

void Syncer::stop_calls() {
  running_ = false;
  synced_.drop();  // a call that is ended by us has nothing more to say
  got_bundle_.drop();
  got_federated_.drop();
  entry_sync_.reset();
  bundle_call_.reset();
  federated_call_.reset();
  entries_.reset();
  bundle_.reset();
  federated_names_.clear();
  outcome_ = {};
  channel_.reset();
}

}  // namespace limpet::agent
