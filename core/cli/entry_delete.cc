// SPDX-License-Identifier: Apache-2.0
// entry delete: one entry, or those whose IDs a file lists.
#include <algorithm>
#include <cstdio>

#include "cli/entry_commands.h"
#include "cli/json.h"
#include "cli/session.h"
#include "proto/spire_entry.pb.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::items;
using wire::Message;
using wire::view;

namespace {

using DeleteRequest = spire_api_server_entry_v1_BatchDeleteEntryRequest;
using DeleteResponse = spire_api_server_entry_v1_BatchDeleteEntryResponse;
using DeleteResult = spire_api_server_entry_v1_BatchDeleteEntryResponse_Result;

// One ID a line.
Result<std::vector<std::string>> ids_to_delete(const Flags& flags) {
  if (!flags.text("entryID").empty()) return std::vector<std::string>{flags.text("entryID")};
  if (flags.text("file").empty()) return fail(Code::invalid_argument, "one of -entryID and -file is required");
  TRY_ASSIGN(const std::string content, read_file(flags.text("file")));
  std::vector<std::string> ids;
  size_t start = 0;
  while (start < content.size()) {
    const size_t end = std::min(content.find('\n', start), content.size());
    std::string id = content.substr(start, end - start);
    if (id.ends_with('\r')) id.pop_back();
    if (!id.empty()) ids.push_back(std::move(id));
    start = end + 1;
  }
  return ids;
}

// What the server answered, batch by batch: the responses own the results.
struct Deleted {
  std::vector<Message<DeleteResponse>> responses;
  std::vector<const DeleteResult*> results;
  Result<void> ended;  // why not all of them were asked for
};

Result<Message<DeleteResponse>> delete_batch(Rpc& rpc, std::span<const std::string> ids) {
  Message<DeleteRequest> request;
  char** out = wire::set_array(request->ids, request->ids_count, ids.size());
  for (size_t i = 0; i < ids.size(); ++i) wire::set_string(out[i], ids[i]);
  TRY_ASSIGN(auto response,
             rpc.call<DeleteRequest, DeleteResponse>("/spire.api.server.entry.v1.Entry/BatchDeleteEntry", request));
  if (response->results_count == ids.size()) return response;
  return fail(Code::internal, "the server answered " + std::to_string(response->results_count) + " results for " +
                                  std::to_string(ids.size()) + " entries");
}

Deleted delete_all(Rpc& rpc, std::span<const std::string> ids) {
  Deleted deleted;
  Progress progress("entries: delete", ids.size());
  for (size_t start = 0; start < ids.size(); start += kEntryBatch) {
    const auto batch = ids.subspan(start, std::min(kEntryBatch, ids.size() - start));
    auto response = delete_batch(rpc, batch);
    if (!response) {
      deleted.ended = std::unexpected(std::move(response).error());
      return deleted;
    }
    deleted.responses.push_back(std::move(*response));
    const auto& answer = *deleted.responses.back();
    for (const auto& result : items(answer.results, answer.results_count)) deleted.results.push_back(&result);
    progress.at(start + batch.size());
  }
  return deleted;
}

void print_json(std::span<const DeleteResult* const> results) {
  JsonWriter writer;
  writer.begin_object().key("results").begin_array();
  for (const auto* result : results) {
    writer.begin_object().key("id").string(view(result->id));
    writer.key("status").raw(wire::to_json(result->status)).end_object();
  }
  writer.end_array().end_object();
  std::printf("%s\n", writer.text().c_str());
}

int print(std::span<const DeleteResult* const> results) {
  size_t deleted = 0;
  for (const auto* result : results) {
    if (result->status.code != 0) continue;
    ++deleted;
    std::printf("Deleted entry with ID: %s\n", std::string(view(result->id)).c_str());
  }
  for (const auto* result : results) {
    if (result->status.code == 0) continue;
    std::fprintf(stderr, "Failed to delete entry with ID %s (code: %s, msg: %s)\n",
                 std::string(view(result->id)).c_str(), code_name(static_cast<Code>(result->status.code)).c_str(),
                 go_quoted(view(result->status.message)).c_str());
  }
  if (deleted > 0) std::printf("\n\nDeleted %zu entries successfully", deleted);
  if (deleted == results.size()) return 0;
  std::printf("\n\nFailed to delete %zu entries", results.size() - deleted);
  std::fflush(stdout);
  std::fputs("Error: failed to delete one or more entries\n", stderr);
  return 1;
}

int run(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    const auto ids = ids_to_delete(*context.flags);
    if (!ids) return failed(ids.error());
    const Deleted deleted = delete_all(rpc, *ids);
    if (deleted.ended && json) {
      print_json(deleted.results);
      return 0;
    }
    const int code = json || deleted.results.empty() ? 0 : print(deleted.results);
    std::fflush(stdout);
    return deleted.ended ? code : failed("", deleted.ended.error());  // after what the batches before it did
  });
}

}  // namespace

Command entry_delete_command() {
  return {"entry delete",
          kServer,
          "Deletes registration entries",
          {{"entryID", FlagType::text, "", "The entry to delete"},
           {"file", FlagType::text, "", "A file with one entry ID a line, - for standard input"},
           server_socket_flag(),
           instance_flag(),
           output_flag()},
          run};
}

}  // namespace limpet::cli
