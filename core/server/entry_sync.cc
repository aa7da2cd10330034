// SPDX-License-Identifier: Apache-2.0
// GetAuthorizedEntries and SyncAuthorizedEntries (wire notes 8): what an agent may know and sign for.
#include <deque>

#include "base/limits.h"
#include "proto/spire_entry.pb.h"
#include "server/entry_api.h"
#include "server/wire_values.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

// Up to this many entries a sync sends them all; above, revisions first. SPIRE's number; agents accept either at any
// size.
constexpr size_t kPage = 500;

using GetRequest = spire_api_server_entry_v1_GetAuthorizedEntriesRequest;
using GetResponse = spire_api_server_entry_v1_GetAuthorizedEntriesResponse;
using SyncRequest = spire_api_server_entry_v1_SyncAuthorizedEntriesRequest;
using SyncResponse = spire_api_server_entry_v1_SyncAuthorizedEntriesResponse;

class GetAuthorizedFlow final : public wire::UnaryFlow<GetRequest, GetResponse> {
 public:
  GetAuthorizedFlow(Context& context, wire::ServerCall& call, const Caller& caller)
      : UnaryFlow(call), context_(context), caller_(caller) {}

 private:
  void handle(const GetRequest& request) override {
    const auto entries = context_.index.authorized(caller_.id, caller_.agent_selectors);
    // an agent takes what is missing here for deleted
    if (entries.size() > limits::kMessageItems) {
      return refuse(too_many_items("failed to get authorized entries", "; use SyncAuthorizedEntries"));
    }
    const auto* mask = wire::mask_of(request.has_output_mask, request.output_mask);
    wire::Message<GetResponse> response;
    auto* out = wire::set_array(response->entries, response->entries_count, entries.size());
    for (size_t i = 0; i < entries.size(); ++i) wire::write_entry(out[i], *entries[i], mask);
    reply(response);
  }
  Context& context_;
  const Caller& caller_;
};

struct Revision {
  std::string id;
  int64_t revision_number = 0;
  int64_t created_at = 0;
};

class SyncAuthorizedFlow final : public wire::ServerFlow {
 public:
  SyncAuthorizedFlow(Context& context, wire::ServerCall& call, const Caller& caller)
      : context_(context), call_(call), caller_(caller), deadline_(context.loop) {}

  void start() override { call_.receive(received_.then<&SyncAuthorizedFlow::on_first>(this)); }

 private:
  void end(Result<void> status) {
    deadline_.stop();
    call_.finish(std::move(status));
  }
  void on_deadline() { end(fail(Code::deadline_exceeded, "the agent asked for no further entries in time")); }

  // 1. the mask for everything that follows
  void on_first(Result<std::optional<Bytes>> bytes) {
    if (!bytes) return end(std::unexpected(std::move(bytes).error()));
    if (!*bytes) return end({});
    auto request = wire::Message<SyncRequest>::decode(**bytes);
    if (!request) return end(std::unexpected(std::move(request).error()));
    if ((*request)->ids_count > 0) {
      return end(fail(Code::invalid_argument, "specifying IDs on initial request is not supported"));
    }
    if ((*request)->has_output_mask) {
      if (!(*request)->output_mask.revision_number) {
        return end(fail(Code::invalid_argument, "revision number cannot be masked"));
      }
      mask_ = (*request)->output_mask;
    }
    const auto entries = context_.index.authorized(caller_.id, caller_.agent_selectors);
    if (entries.size() <= kPage) {
      last_ = true;
      return send_entries(entries, false);
    }
    for (const Entry* entry : entries) revisions_.push_back({entry->id, entry->revision_number, entry->created_at});
    send_revisions();
  }

  // 2. pages of revisions, each when the one before went out
  void send_revisions() {
    const size_t count = std::min(kPage, revisions_.size());
    wire::Message<SyncResponse> response;
    auto* out = wire::set_array(response->entry_revisions, response->entry_revisions_count, count);
    for (size_t i = 0; i < count; ++i) {
      wire::set_string(out[i].id, revisions_.front().id);
      out[i].revision_number = revisions_.front().revision_number;
      out[i].created_at = revisions_.front().created_at;
      revisions_.pop_front();
    }
    response->more = !revisions_.empty();
    send(response);
  }

  // 3. the agent asks for entries it lacks; it ends the stream when it has all
  void on_ids(Result<std::optional<Bytes>> bytes) {
    deadline_.stop();
    if (!bytes) return end(std::unexpected(std::move(bytes).error()));
    if (!*bytes) return end({});
    auto request = wire::Message<SyncRequest>::decode(**bytes);
    if (!request) return end(std::unexpected(std::move(request).error()));
    for (const char* id : wire::items((*request)->ids, (*request)->ids_count)) wanted_.emplace_back(wire::view(id));
    send_wanted();
  }

  // 4. pages of entries; the last one may be empty
  void send_wanted() {
    std::vector<const Entry*> page;
    while (!wanted_.empty() && page.size() < kPage) {
      const Entry* entry = context_.index.find_authorized(caller_.id, caller_.agent_selectors, wanted_.front());
      wanted_.pop_front();
      if (entry != nullptr) page.push_back(entry);  // one that is gone by now is left out
    }
    send_entries(page, !wanted_.empty());
  }

  void send_entries(const std::vector<const Entry*>& entries, bool more) {
    wire::Message<SyncResponse> response;
    auto* out = wire::set_array(response->entries, response->entries_count, entries.size());
    for (size_t i = 0; i < entries.size(); ++i) wire::write_entry(out[i], *entries[i], mask_ ? &*mask_ : nullptr);
    response->more = more;
    send(response);
  }
  void send(const wire::Message<SyncResponse>& response) {
    auto bytes = response.encode();
    if (!bytes) return end(std::unexpected(std::move(bytes).error()));
    call_.send(std::move(*bytes), sent_.then<&SyncAuthorizedFlow::on_sent>(this));
  }
  void on_sent(Result<void> sent) {
    if (!sent) return end(std::move(sent));
    if (last_) return end({});
    if (!revisions_.empty()) return send_revisions();
    if (!wanted_.empty()) return send_wanted();
    deadline_.start<&SyncAuthorizedFlow::on_deadline>(limits::kSyncStepMs, this);
    call_.receive(received_.then<&SyncAuthorizedFlow::on_ids>(this));
  }

  Context& context_;
  wire::ServerCall& call_;
  const Caller& caller_;
  Timer deadline_;
  std::optional<spire_api_types_EntryMask> mask_;
  std::deque<Revision> revisions_;  // still to send
  std::deque<std::string> wanted_;  // still to send
  bool last_ = false;               // everything was in the message being sent
  Pending<std::optional<Bytes>> received_;
  Pending<void> sent_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_get_authorized(Context& context, wire::ServerCall& call, const Caller& caller) {
  return std::make_unique<GetAuthorizedFlow>(context, call, caller);
}
std::unique_ptr<wire::ServerFlow> open_sync_authorized(Context& context, wire::ServerCall& call, const Caller& caller) {
  return std::make_unique<SyncAuthorizedFlow>(context, call, caller);
}

}  // namespace limpet::server
