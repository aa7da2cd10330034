// SPDX-License-Identifier: Apache-2.0
// ListEntries, CountEntries and GetEntry.
#include "proto/spire_entry.pb.h"
#include "server/entry_api.h"
#include "server/entry_filter.h"
#include "server/wire_values.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

using ListRequest = spire_api_server_entry_v1_ListEntriesRequest;
using ListResponse = spire_api_server_entry_v1_ListEntriesResponse;
using CountRequest = spire_api_server_entry_v1_CountEntriesRequest;
using CountResponse = spire_api_server_entry_v1_CountEntriesResponse;
using GetRequest = spire_api_server_entry_v1_GetEntryRequest;

// Rows looked at in one turn of the loop: some 5 ms, so that a listing of 100,000 holds up nobody.
constexpr size_t kRowsPerTurn = 2'000;

// Walks the entries in slices. `visit` returns false to end the walk.
class EntryWalk {
 public:
  EntryWalk(Context& context, uint64_t after) : context_(context), after_(after) {}

  void begin_after(uint64_t row) { after_ = row; }
  // One slice. True: the walk is over.
  template <class Visit>
  Result<bool> slice(Visit visit) {
    size_t looked_at = 0;
    bool ended = false;
    TRY(scan_entries(context_.store.read(), after_, [&](EntryRow&& row) {
      after_ = row.row;
      ended = !visit(std::move(row));
      return !ended && ++looked_at < kRowsPerTurn;
    }));
    return ended || looked_at < kRowsPerTurn;
  }

 private:
  Context& context_;
  uint64_t after_;
};

class ListEntriesFlow final : public wire::UnaryFlow<ListRequest, ListResponse> {
 public:
  ListEntriesFlow(Context& context, wire::ServerCall& call)
      : UnaryFlow(call), context_(context), walk_(context, 0), next_turn_(context.loop) {}

 private:
  // 1. the request: filter, page, token
  void handle(const ListRequest& request) override {
    auto filter = EntryFilter::read(request.has_filter, request.filter, context_.trust_domain);
    if (!filter) return refuse(std::move(filter).error());
    filter_ = std::move(*filter);
    mask_ = wire::mask_of(request.has_output_mask, request.output_mask);
    paged_ = request.page_size > 0;
    limit_ = page_limit(request.page_size);
    if (paged_) {
      const auto token = parse_page_token(wire::view(request.page_token));
      if (!token) return refuse({Code::internal, "failed to list entries: " + token.error().message});
      walk_.begin_after(*token);
    }
    on_turn();
  }
  // 2. a slice of rows a turn
  void on_turn() {
    const auto over = walk_.slice([this](EntryRow&& row) {
      if (filter_.takes(row.entry)) page_.push_back(std::move(row));
      return page_.size() < limit_;
    });
    if (!over) return refuse(Error(over.error()).within("failed to list entries"));
    if (!*over) return next_turn_.start<&ListEntriesFlow::on_turn>(0, this);
    answer();
  }
  void answer() {
    if (!paged_ && page_.size() >= limit_) {
      return refuse(too_many_items("failed to list entries"));
    }
    wire::Message<ListResponse> response;
    auto* out = wire::set_array(response->entries, response->entries_count, page_.size());
    for (size_t i = 0; i < page_.size(); ++i) wire::write_entry(out[i], page_[i].entry, mask_);
    if (paged_ && !page_.empty()) wire::set_string(response->next_page_token, std::to_string(page_.back().row));
    reply(response);
  }

  Context& context_;
  EntryFilter filter_;
  EntryWalk walk_;
  Timer next_turn_;
  const spire_api_types_EntryMask* mask_ = nullptr;
  std::vector<EntryRow> page_;
  size_t limit_ = 0;
  bool paged_ = false;
};

class CountEntriesFlow final : public wire::UnaryFlow<CountRequest, CountResponse> {
 public:
  CountEntriesFlow(Context& context, wire::ServerCall& call)
      : UnaryFlow(call), context_(context), walk_(context, 0), next_turn_(context.loop) {}

 private:
  void handle(const CountRequest& request) override {
    auto filter = EntryFilter::read(request.has_filter, request.filter, context_.trust_domain);
    if (!filter) return refuse(std::move(filter).error());
    filter_ = std::move(*filter);
    if (!request.has_filter) {
      count_ = context_.store.read().count(TableId::entries);
      return answer();
    }
    on_turn();
  }
  void on_turn() {
    const auto over = walk_.slice([this](EntryRow&& row) {
      if (filter_.takes(row.entry)) ++count_;
      return true;
    });
    if (!over) return refuse(Error(over.error()).within("failed to count entries"));
    if (!*over) return next_turn_.start<&CountEntriesFlow::on_turn>(0, this);
    answer();
  }
  void answer() {
    wire::Message<CountResponse> response;
    response->count = static_cast<int32_t>(count_);
    reply(response);
  }

  Context& context_;
  EntryFilter filter_;
  EntryWalk walk_;
  Timer next_turn_;
  uint64_t count_ = 0;
};

class GetEntryFlow final : public wire::UnaryFlow<GetRequest, spire_api_types_Entry> {
 public:
  GetEntryFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const GetRequest& request) override {
    if (wire::view(request.id).empty()) return refuse({Code::invalid_argument, "missing ID"});
    const auto row = find_entry(context_.store.read(), wire::view(request.id));
    if (!row && row.error().code == Code::not_found) return refuse({Code::not_found, "entry not found"});
    if (!row) return refuse(Error(row.error()).within("failed to fetch entry"));
    wire::Message<spire_api_types_Entry> response;
    wire::write_entry(*response, row->entry, wire::mask_of(request.has_output_mask, request.output_mask));
    reply(response);
  }
  Context& context_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_list_entries(Context& context, wire::ServerCall& call) {
  return std::make_unique<ListEntriesFlow>(context, call);
}
std::unique_ptr<wire::ServerFlow> open_count_entries(Context& context, wire::ServerCall& call) {
  return std::make_unique<CountEntriesFlow>(context, call);
}
std::unique_ptr<wire::ServerFlow> open_get_entry(Context& context, wire::ServerCall& call) {
  return std::make_unique<GetEntryFlow>(context, call);
}

}  // namespace limpet::server
