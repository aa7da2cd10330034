// SPDX-License-Identifier: Apache-2.0
#pragma once
// spire.api.server.entry.v1.Entry (wire notes 5.3, 5.9, 5.10, 8, 9 and 10). Owned by Server; loop thread only.

#include <memory>

#include "server/caller.h"
#include "server/context.h"

namespace limpet::server {

class EntryApi final : public Api {
 public:
  explicit EntryApi(Context& context) : context_(context) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call, const Caller& caller) override;

 private:
  Context& context_;
};

// The conversations of this API.
std::unique_ptr<wire::ServerFlow> open_list_entries(Context& context, wire::ServerCall& call);    // entry_list.cc
std::unique_ptr<wire::ServerFlow> open_count_entries(Context& context, wire::ServerCall& call);   // entry_list.cc
std::unique_ptr<wire::ServerFlow> open_get_entry(Context& context, wire::ServerCall& call);       // entry_list.cc
std::unique_ptr<wire::ServerFlow> open_create_entries(Context& context, wire::ServerCall& call);  // entry_change.cc
std::unique_ptr<wire::ServerFlow> open_update_entries(Context& context, wire::ServerCall& call);  // entry_change.cc
std::unique_ptr<wire::ServerFlow> open_delete_entries(Context& context, wire::ServerCall& call);  // entry_change.cc
std::unique_ptr<wire::ServerFlow> open_get_authorized(Context& context, wire::ServerCall& call,
                                                      const Caller& caller);  // entry_sync.cc
std::unique_ptr<wire::ServerFlow> open_sync_authorized(Context& context, wire::ServerCall& call,
                                                       const Caller& caller);  // entry_sync.cc

}  // namespace limpet::server
