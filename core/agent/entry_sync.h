// SPDX-License-Identifier: Apache-2.0
#pragma once
// Fetches the entries this agent is authorized for, in whichever shape the server chooses (wire notes, section 8.2):
// the full list, or revisions followed by the entries that are new or stale here; from a server without
// SyncAuthorizedEntries by GetAuthorizedEntries. Owned by the Syncer; loop thread only.

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/identity_cache.h"
#include "agent/link.h"
#include "proto/spire_entry.pb.h"
#include "wire/unary.h"

namespace limpet::agent {

struct EntriesUpdate {
  std::vector<Entry> entries;                  // new, stale, or all of them
  std::set<std::string, std::less<>> present;  // every id the server named
  size_t unreadable = 0;                       // entries left out because they break the rules
  bool sync_unimplemented = false;             // ask with GetAuthorizedEntries from now on
};

class EntrySync {
 public:
  static constexpr size_t kMostEntries = 200'000;  // what a server may make an agent hold
  static constexpr int64_t kDeadlineMs = 120'000;  // the whole exchange: many pages on a slow link

  EntrySync(Loop& loop, const IdentityCache& cache);
  void start(wire::Channel& channel, bool use_sync, Done<EntriesUpdate> done);

 private:
  using Request = spire_api_server_entry_v1_SyncAuthorizedEntriesRequest;
  using Response = spire_api_server_entry_v1_SyncAuthorizedEntriesResponse;
  using AllRequest = spire_api_server_entry_v1_GetAuthorizedEntriesRequest;
  using AllResponse = spire_api_server_entry_v1_GetAuthorizedEntriesResponse;

  void receive();
  void on_message(Result<std::optional<Bytes>> message);
  void on_first(const Response& page);
  void on_revisions(const Response& page);
  void on_entries(const Response& page);
  void request_page();
  void ask_all();
  void on_all(Result<wire::Message<AllResponse>> all);
  void take(const spire_api_types_Entry* entries, pb_size_t count);
  [[nodiscard]] bool stale(const spire_api_server_entry_v1_EntryRevision& revision) const;
  void send(const wire::Message<Request>& request);
  void on_sent(Result<void>) {}  // a failure shows in receive()
  void on_deadline();
  void end(Result<EntriesUpdate> result);

  const IdentityCache& cache_;
  wire::Channel* channel_ = nullptr;
  enum class Phase { first, revisions, entries, full } phase_ = Phase::first;
  size_t page_size_ = 0;
  std::vector<std::string> wanted_;  // sorted
  size_t asked_ = 0;                 // how many of them
  EntriesUpdate update_;
  std::unique_ptr<wire::ClientCall> stream_;
  wire::UnaryCall<AllRequest, AllResponse> all_;
  Done<EntriesUpdate> done_;
  Pending<std::optional<Bytes>> message_;
  Pending<void> sent_;
  Pending<wire::Message<AllResponse>> got_all_;
  Timer deadline_;
};

}  // namespace limpet::agent
