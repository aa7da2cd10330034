// SPDX-License-Identifier: Apache-2.0
#include "server/entry_api.h"

namespace limpet::server {

std::unique_ptr<wire::ServerFlow> EntryApi::open(wire::ServerCall& call, const Caller& caller) {
  const std::string_view method = call.method().substr(call.method().rfind('/') + 1);
  if (method == "ListEntries") return open_list_entries(context_, call);
  if (method == "CountEntries") return open_count_entries(context_, call);
  if (method == "GetEntry") return open_get_entry(context_, call);
  if (method == "BatchCreateEntry") return open_create_entries(context_, call);
  if (method == "BatchUpdateEntry") return open_update_entries(context_, call);
  if (method == "BatchDeleteEntry") return open_delete_entries(context_, call);
  if (method == "GetAuthorizedEntries") return open_get_authorized(context_, call, caller);
  if (method == "SyncAuthorizedEntries") return open_sync_authorized(context_, call, caller);
  return nullptr;
}

}  // namespace limpet::server
