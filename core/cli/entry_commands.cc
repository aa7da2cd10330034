// SPDX-License-Identifier: Apache-2.0
#include "cli/entry_commands.h"

#include <algorithm>
#include <cstdio>

#include "cli/entry_data.h"
#include "cli/json.h"
#include "cli/match.h"
#include "cli/session.h"
#include "spiffe/entry.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::items;
using wire::Message;
using wire::set_array;
using wire::set_string;
using wire::view;

namespace {

using CreateRequest = spire_api_server_entry_v1_BatchCreateEntryRequest;
using CreateResponse = spire_api_server_entry_v1_BatchCreateEntryResponse;
using UpdateRequest = spire_api_server_entry_v1_BatchUpdateEntryRequest;
using UpdateResponse = spire_api_server_entry_v1_BatchUpdateEntryResponse;
using ListRequest = spire_api_server_entry_v1_ListEntriesRequest;
using ListResponse = spire_api_server_entry_v1_ListEntriesResponse;
using CountRequest = spire_api_server_entry_v1_CountEntriesRequest;
using CountResponse = spire_api_server_entry_v1_CountEntriesResponse;
using GetRequest = spire_api_server_entry_v1_GetEntryRequest;

// `create` and `update` differ in their messages and words only.
struct CreateKind {
  using Request = CreateRequest;
  using Response = CreateResponse;
  static constexpr const char* kMethod = "/spire.api.server.entry.v1.Entry/BatchCreateEntry";
  static constexpr const char* kVerb = "create";
  static constexpr bool kIdRequired = false;
};
struct UpdateKind {
  using Request = UpdateRequest;
  using Response = UpdateResponse;
  static constexpr const char* kMethod = "/spire.api.server.entry.v1.Entry/BatchUpdateEntry";
  static constexpr const char* kVerb = "update";
  static constexpr bool kIdRequired = true;
};

// Sends entries in batches; the responses in the same order. The requests are kept for what is printed of failures.
template <class Kind>
struct Batches {
  std::vector<Message<typename Kind::Request>> requests;
  std::vector<Message<typename Kind::Response>> responses;
};

template <class Kind>
Result<Batches<Kind>> send_entries(Rpc& rpc, std::vector<EntryMessage> entries) {
  Batches<Kind> batches;
  Progress progress(std::string("entries: ") + Kind::kVerb, entries.size());
  for (size_t start = 0; start < entries.size(); start += kEntryBatch) {
    const size_t count = std::min(kEntryBatch, entries.size() - start);
    Message<typename Kind::Request> request;
    auto* out = set_array(request->entries, request->entries_count, count);
    for (size_t i = 0; i < count; ++i) std::swap(out[i], *entries[start + i]);
    TRY_ASSIGN(auto response, rpc.call<typename Kind::Request, typename Kind::Response>(Kind::kMethod, request));
    if (response->results_count != count) {
      return fail(Code::internal, "the server answered " + std::to_string(response->results_count) + " results for " +
                                      std::to_string(count) + " entries");
    }
    batches.requests.push_back(std::move(request));
    batches.responses.push_back(std::move(response));
    progress.at(start + count);
  }
  return batches;
}

// The entries of -data, or the one that the flags describe.
Result<std::vector<EntryMessage>> entries_to_write(const Flags& flags, bool id_required) {
  if (!flags.text("data").empty()) return entries_from_file(flags.text("data"));
  if (id_required && flags.text("entryID").empty()) return fail(Code::invalid_argument, "entry ID is required");
  TRY_ASSIGN(EntryMessage entry, entry_from_flags(flags));
  std::vector<EntryMessage> entries;
  entries.push_back(std::move(entry));
  return entries;
}

template <class Kind>
void print_written_json(const Batches<Kind>& batches) {
  JsonWriter out;
  out.begin_object().key("results").begin_array();
  for (const auto& response : batches.responses) {
    for (const auto& result : items(response->results, response->results_count)) {
      out.begin_object();
      if (result.has_entry) out.key("entry").raw(wire::to_json(result.entry));
      out.key("status").raw(wire::to_json(result.status));
      out.end_object();
    }
  }
  out.end_array().end_object();
  std::printf("%s\n", out.text().c_str());
}

// What succeeded to standard output, then what failed to standard error. The exit code.
template <class Kind>
int print_written(const Batches<Kind>& batches) {
  for (const auto& response : batches.responses) {
    for (const auto& result : items(response->results, response->results_count)) {
      if (result.status.code == 0) std::fputs(describe_entry(result.entry).c_str(), stdout);
    }
  }
  std::fflush(stdout);
  bool all = true;
  for (size_t b = 0; b < batches.responses.size(); ++b) {
    const auto& response = batches.responses[b];
    for (size_t i = 0; i < response->results_count; ++i) {
      const auto& status = response->results[i].status;
      if (status.code == 0) continue;
      all = false;
      std::fprintf(stderr, "Failed to %s the following entry (code: %s, msg: %s):\n%s", Kind::kVerb,
                   code_name(static_cast<Code>(status.code)).c_str(), go_quoted(view(status.message)).c_str(),
                   describe_entry(batches.requests[b]->entries[i]).c_str());
    }
  }
  if (all) return 0;
  std::fprintf(stderr, "Error: failed to %s one or more entries\n", Kind::kVerb);
  return 1;
}

template <class Kind>
int run_write(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    auto entries = entries_to_write(*context.flags, Kind::kIdRequired);
    if (!entries) return failed(entries.error());
    const auto batches = send_entries<Kind>(rpc, std::move(*entries));
    if (!batches) return failed("", batches.error());
    if (!json) return print_written(*batches);
    print_written_json(*batches);
    return 0;
  });
}

// The filter of list and count, whose messages are alike but have types of their own.
template <class Filter>
Result<void> fill_filter(Filter& filter, const Flags& flags) {
  if (!flags.text("parentID").empty())
    TRY(set_id(filter.has_by_parent_id, filter.by_parent_id, flags.text("parentID")));
  if (!flags.text("spiffeID").empty())
    TRY(set_id(filter.has_by_spiffe_id, filter.by_spiffe_id, flags.text("spiffeID")));
  const auto& selectors = flags.list("selector");
  if (!selectors.empty()) {
    filter.has_by_selectors = true;
    TRY(fill_selector_match(filter.by_selectors, flags.text("matchSelectorsOn"), selectors));
  }
  const auto& federates = flags.list("federatesWith");
  if (!federates.empty()) {
    TRY_ASSIGN(const MatchBehavior match, match_behavior(flags.text("matchFederatesWithOn")));
    filter.has_by_federates_with = true;
    filter.by_federates_with.match = static_cast<spire_api_types_FederatesWithMatch_MatchBehavior>(match);
    auto& field = filter.by_federates_with;
    char** out = set_array(field.trust_domains, field.trust_domains_count, federates.size());
    for (size_t i = 0; i < federates.size(); ++i) set_string(out[i], federates[i]);
  }
  if (!flags.text("hint").empty()) {
    filter.has_by_hint = true;
    set_string(filter.by_hint.value, flags.text("hint"));
  }
  if (flags.on("downstream")) {
    filter.has_by_downstream = true;
    filter.by_downstream.value = true;
  }
  return {};
}

// Every page of a listing, kept so that the entries in them live.
struct Listing {
  std::vector<Message<ListResponse>> pages;
  std::vector<const spire_api_types_Entry*> entries;  // sorted by SPIFFE ID, parent ID, entry ID
};

void sort_listing(Listing& listing) {
  const auto key = [](const spire_api_types_Entry* e) {
    return std::tuple(id_text(e->has_spiffe_id, e->spiffe_id), id_text(e->has_parent_id, e->parent_id), view(e->id));
  };
  std::ranges::sort(listing.entries, [&key](const auto* a, const auto* b) { return key(a) < key(b); });
}

Result<Listing> list_entries(Rpc& rpc, const Flags& flags) {
  Listing listing;
  std::string token;
  do {
    Message<ListRequest> request;
    request->has_filter = true;
    TRY(fill_filter(request->filter, flags));
    request->page_size = kEntryBatch;
    set_string(request->page_token, token);
    auto page = rpc.call<ListRequest, ListResponse>("/spire.api.server.entry.v1.Entry/ListEntries", request);
    if (!page) return fail(Error{page.error().code, "error fetching entries: " + rpc_text(page.error())});
    token = view((*page)->next_page_token);
    listing.pages.push_back(std::move(*page));
    for (const auto& entry : items(listing.pages.back()->entries, listing.pages.back()->entries_count)) {
      listing.entries.push_back(&entry);
    }
  } while (!token.empty());
  sort_listing(listing);
  return listing;
}

int print_listing(const std::vector<const spire_api_types_Entry*>& entries, bool json) {
  if (json) {
    JsonWriter out;
    out.begin_object().key("entries").begin_array();
    for (const auto* entry : entries) out.raw(wire::to_json(*entry));
    out.end_array().key("next_page_token").string("").end_object();
    std::printf("%s\n", out.text().c_str());
    return 0;
  }
  std::printf("Found %s\n", counted(entries.size(), "entry", "entries").c_str());
  for (const auto* entry : entries) std::fputs(describe_entry(*entry).c_str(), stdout);
  return 0;
}

int show_one(Rpc& rpc, const std::string& id, bool json) {
  Message<GetRequest> request;
  set_string(request->id, id);
  const auto entry = rpc.call<GetRequest, spire_api_types_Entry>("/spire.api.server.entry.v1.Entry/GetEntry", request);
  if (!entry) return failed("error fetching entry ID " + id, entry.error());
  return print_listing({&**entry}, json);
}

int show(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    const Flags& flags = *context.flags;
    if (!flags.text("entryID").empty()) return show_one(rpc, flags.text("entryID"), json);
    // a bad word is an error before anything is asked
    if (const auto match = match_behavior(flags.text("matchSelectorsOn")); !match) return failed(match.error());
    if (const auto match = match_behavior(flags.text("matchFederatesWithOn")); !match) return failed(match.error());
    const auto listing = list_entries(rpc, flags);
    if (!listing) return failed(listing.error());
    return print_listing(listing->entries, json);
  });
}

int count(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    Message<CountRequest> request;
    request->has_filter = true;
    if (const auto filled = fill_filter(request->filter, *context.flags); !filled) return failed(filled.error());
    const auto response =
        rpc.call<CountRequest, CountResponse>("/spire.api.server.entry.v1.Entry/CountEntries", request);
    if (!response) return failed("", response.error());
    const auto number = static_cast<uint64_t>((*response)->count);
    if (json) {
      std::printf("%s\n", wire::to_json(*response).c_str());
    } else {
      std::printf("%s\n", counted(number, "registration entry", "registration entries").c_str());
    }
    return 0;
  });
}

std::vector<Flag> write_flags(bool update) {
  return {
      {"parentID", FlagType::text, "", "The SPIFFE ID of this entry's parent"},
      {"spiffeID", FlagType::text, "", "The SPIFFE ID this entry stands for"},
      {"selector", FlagType::list, "", "A type:value selector a workload must have"},
      {"node", FlagType::boolean, "false", "This entry stands for nodes, by their selectors"},
      {"federatesWith", FlagType::list, "", "A trust domain whose bundle the workload gets too"},
      {"dns", FlagType::list, "", "A DNS name for the certificate"},
      {"admin", FlagType::boolean, "false", "The identity may call the server's admin APIs"},
      {"downstream", FlagType::boolean, "false", "The identity is a downstream server"},
      {"storeSVID", FlagType::boolean, "false", "The SVID is for an SVID store"},
      {"x509SVIDTTL", FlagType::number, "0", "Lifetime of X.509-SVIDs in seconds; 0 is the server's default"},
      {"jwtSVIDTTL", FlagType::number, "0", "Lifetime of JWT-SVIDs in seconds; 0 is the server's default"},
      {"entryExpiry", FlagType::number, "0", "When the entry ends, in Unix seconds; 0 is never"},
      {"hint", FlagType::text, "", "A word that tells workloads with several identities apart"},
      {"entryID", FlagType::text, "", update ? "The entry to change" : "The entry's ID; made up when left out"},
      {"data", FlagType::text, "", "A JSON file with entries, - for standard input, in place of the flags above"},
      {"disableX509SVIDPrefetch", FlagType::boolean, "false", "Sign the X.509-SVID only when it is first asked for"},
      {"jwtSVIDIncludeJTI", FlagType::boolean, "false", "Give each JWT-SVID an ID of its own"},
      server_socket_flag(),
      instance_flag(),
      output_flag(),
  };
}

std::vector<Flag> filter_flags() {
  return {
      {"entryID", FlagType::text, "", "The entry with this ID"},
      {"spiffeID", FlagType::text, "", "Entries for this SPIFFE ID"},
      {"parentID", FlagType::text, "", "Entries below this SPIFFE ID"},
      {"selector", FlagType::list, "", "Entries by selector; see -matchSelectorsOn"},
      {"federatesWith", FlagType::list, "", "Entries by federated trust domain; see -matchFederatesWithOn"},
      {"hint", FlagType::text, "", "Entries with this hint"},
      {"downstream", FlagType::boolean, "false", "Only entries of downstream servers"},
      {"matchSelectorsOn", FlagType::text, "superset", "How selectors match: exact, any, superset or subset"},
      {"matchFederatesWithOn", FlagType::text, "superset", "How trust domains match: exact, any, superset or subset"},
      server_socket_flag(),
      instance_flag(),
      output_flag(),
  };
}

}  // namespace

std::vector<Command> entry_commands() {
  return {
      {"entry create", kServer, "Creates registration entries", write_flags(false), run_write<CreateKind>},
      {"entry update", kServer, "Changes registration entries", write_flags(true), run_write<UpdateKind>},
      {"entry show", kServer, "Shows registration entries", filter_flags(), show},
      entry_delete_command(),
      {"entry count", kServer, "Counts registration entries", filter_flags(), count},
  };
}

}  // namespace limpet::cli
