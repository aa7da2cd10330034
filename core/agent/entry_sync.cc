// SPDX-License-Identifier: Apache-2.0
#include "agent/entry_sync.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "wire/api_types.h"

namespace limpet::agent {

namespace {

// As SPIRE's agent asks: what is needed to match and to serve, nothing more.
spire_api_types_EntryMask agent_mask() {
  spire_api_types_EntryMask mask = {};
  mask.spiffe_id = mask.selectors = mask.federates_with = mask.admin = mask.downstream = true;
  mask.revision_number = mask.store_svid = mask.hint = mask.additional_attributes = mask.created_at = true;
  return mask;
}

}  // namespace

EntrySync::EntrySync(Loop& loop, const IdentityCache& cache) : cache_(cache), deadline_(loop) {}

void EntrySync::start(wire::Channel& channel, bool use_sync, Done<EntriesUpdate> done) {
  channel_ = &channel;
  done_ = std::move(done);
  deadline_.start<&EntrySync::on_deadline>(kDeadlineMs, this);
  if (!use_sync) return ask_all();
  stream_ = channel.open("/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries", {kDeadlineMs, {}});
  wire::Message<Request> request;
  request->has_output_mask = true;
  request->output_mask = agent_mask();
  send(request);
}

void EntrySync::receive() { stream_->receive(message_.then<&EntrySync::on_message>(this)); }

void EntrySync::on_message(Result<std::optional<Bytes>> message) {
  if (!message) {
    if (message.error().code == Code::unimplemented && phase_ == Phase::first) return ask_all();
    return end(fail(std::move(message).error()));
  }
  if (!*message) return end(fail(Code::internal, "the server ended the entry sync early"));
  auto page = wire::Message<Response>::decode(**message);
  if (!page) return end(fail(std::move(page).error().within("entry sync")));
  switch (phase_) {
    case Phase::first:
      return on_first(**page);
    case Phase::revisions:
      return on_revisions(**page);
    case Phase::full:
    case Phase::entries:
      return on_entries(**page);
  }
}

// 1. the first page tells the shape: revisions, or entries (an empty page is an empty full list)
void EntrySync::on_first(const Response& page) {
  if (page.entry_revisions_count == 0) {
    phase_ = Phase::full;
    return on_entries(page);
  }
  phase_ = Phase::revisions;
  page_size_ = page.entry_revisions_count;
  on_revisions(page);
}

// 2. revisions: remember what is named, want what is unknown or stale
void EntrySync::on_revisions(const Response& page) {
  if (page.entries_count != 0) return end(fail(Code::internal, "the server mixed entries into a page of revisions"));
  for (const auto& revision : wire::items(page.entry_revisions, page.entry_revisions_count)) {
    const std::string id(wire::view(revision.id));
    if (update_.present.insert(id).second && stale(revision)) wanted_.push_back(id);
  }
  if (update_.present.size() > kMostEntries)
    return end(fail(Code::resource_exhausted, "the server authorizes this agent for more than 200,000 entries"));
  if (page.more) return receive();
  std::sort(wanted_.begin(), wanted_.end());
  phase_ = Phase::entries;
  request_page();
}

// 3. the next page of ids
void EntrySync::request_page() {
  if (asked_ == wanted_.size()) return end(std::move(update_));
  const size_t count = std::min(page_size_, wanted_.size() - asked_);
  wire::Message<Request> request;
  wire::write_strings(
      request->ids, request->ids_count,
      {wanted_.begin() + static_cast<ptrdiff_t>(asked_), wanted_.begin() + static_cast<ptrdiff_t>(asked_ + count)});
  asked_ += count;
  send(request);
}

// 4. entries: of the full list, or of the page asked for
void EntrySync::on_entries(const Response& page) {
  if (page.entry_revisions_count != 0)
    return end(fail(Code::internal, "the server mixed revisions into a page of entries"));
  take(page.entries, page.entries_count);
  if (update_.entries.size() > kMostEntries)
    return end(fail(Code::resource_exhausted, "the server authorizes this agent for more than 200,000 entries"));
  if (page.more) return receive();
  if (phase_ == Phase::full) return end(std::move(update_));
  request_page();
}

// ---- servers without SyncAuthorizedEntries ----
void EntrySync::ask_all() {
  update_.sync_unimplemented = true;
  stream_.reset();
  wire::Message<AllRequest> request;
  request->has_output_mask = true;
  request->output_mask = agent_mask();
  all_.start(*channel_, "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries", request, {kRpcTimeoutMs, {}},
             got_all_.then<&EntrySync::on_all>(this));
}

void EntrySync::on_all(Result<wire::Message<AllResponse>> all) {
  if (!all) return end(fail(std::move(all).error()));
  take((*all)->entries, (*all)->entries_count);
  end(std::move(update_));
}

// An entry that breaks the rules is left out and keeps its place, so that what was served before is not dropped for it.
void EntrySync::take(const spire_api_types_Entry* entries, pb_size_t count) {
  for (const auto& wire_entry : wire::items(entries, count)) {
    update_.present.emplace(wire::view(wire_entry.id));
    auto entry = wire::read_entry(wire_entry);
    if (!entry || entry->id.empty() || entry->id.size() > limits::kEntryIdBytes) {
      update_.unreadable++;
      continue;
    }
    entry->selectors = make_selector_set(std::move(entry->selectors));
    update_.entries.push_back(std::move(*entry));
  }
}

bool EntrySync::stale(const spire_api_server_entry_v1_EntryRevision& revision) const {
  const auto place = cache_.identities().find(wire::view(revision.id));
  if (place == cache_.identities().end()) return true;
  const Entry& known = place->second.entry;
  return known.revision_number != revision.revision_number ||
         (revision.created_at != 0 && known.created_at != revision.created_at);
}

void EntrySync::send(const wire::Message<Request>& request) {
  auto bytes = request.encode();
  if (!bytes) return end(fail(std::move(bytes).error()));
  stream_->send(std::move(*bytes), sent_.then<&EntrySync::on_sent>(this));
  receive();
}

void EntrySync::on_deadline() { end(fail(Code::deadline_exceeded, "the entry sync took longer than 120 s")); }

void EntrySync::end(Result<EntriesUpdate> result) {
  Done<EntriesUpdate> done = std::move(done_);
  done(std::move(result));  // the owner destroys this
}

}  // namespace limpet::agent
