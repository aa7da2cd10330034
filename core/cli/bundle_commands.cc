// SPDX-License-Identifier: Apache-2.0
#include "cli/bundle_commands.h"

#include <cstdio>

#include "cli/bundle_input.h"
#include "cli/json.h"
#include "cli/session.h"
#include "proto/spire_bundle.pb.h"
#include "wire/api_types.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::items;
using wire::Message;
using wire::set_array;
using wire::set_string;
using wire::view;

namespace {

constexpr int32_t kPage = 500;

using ShowRequest = spire_api_server_bundle_v1_GetBundleRequest;
using CountRequest = spire_api_server_bundle_v1_CountBundlesRequest;
using CountResponse = spire_api_server_bundle_v1_CountBundlesResponse;
using GetRequest = spire_api_server_bundle_v1_GetFederatedBundleRequest;
using ListRequest = spire_api_server_bundle_v1_ListFederatedBundlesRequest;
using ListResponse = spire_api_server_bundle_v1_ListFederatedBundlesResponse;
using SetRequest = spire_api_server_bundle_v1_BatchSetFederatedBundleRequest;
using SetResponse = spire_api_server_bundle_v1_BatchSetFederatedBundleResponse;
using DeleteRequest = spire_api_server_bundle_v1_BatchDeleteFederatedBundleRequest;
using DeleteResponse = spire_api_server_bundle_v1_BatchDeleteFederatedBundleResponse;

#define METHOD(name) "/spire.api.server.bundle.v1.Bundle/" name

int print_one(const spire_api_types_Bundle& bundle, std::string_view format, bool json) {
  if (json) {
    std::printf("%s\n", wire::to_json(bundle).c_str());
    return 0;
  }
  const auto printed = print_bundle(bundle, format, false);
  return printed ? 0 : failed(printed.error());
}

int show(Context& context) {
  const std::string& format = context.flags->text("format");
  if (const auto known = check_bundle_format(format); !known) return failed(known.error());
  return with_rpc(context, kServer, [&format](Rpc& rpc, bool json) {
    const auto bundle = rpc.call<ShowRequest, spire_api_types_Bundle>(METHOD("GetBundle"), Message<ShowRequest>());
    if (!bundle) return failed("", bundle.error());
    return print_one(**bundle, format, json);
  });
}

int count(Context& context) {
  return with_rpc(context, kServer, [](Rpc& rpc, bool json) {
    const auto response = rpc.call<CountRequest, CountResponse>(METHOD("CountBundles"), Message<CountRequest>());
    if (!response) return failed("", response.error());
    if (json) {
      std::printf("{\"count\":%d}\n", (*response)->count);
    } else {
      std::printf("%s\n", counted(static_cast<uint64_t>((*response)->count), "bundle", "bundles").c_str());
    }
    return 0;
  });
}

int list_one(Rpc& rpc, const std::string& id, const std::string& format, bool json) {
  const auto trust_domain = TrustDomain::parse(id);
  if (!trust_domain) return failed(trust_domain.error());
  Message<GetRequest> request;
  set_string(request->trust_domain, trust_domain->name());
  const auto bundle = rpc.call<GetRequest, spire_api_types_Bundle>(METHOD("GetFederatedBundle"), request);
  if (!bundle) return failed("", bundle.error());
  return print_one(**bundle, format, json);
}

int print_listing(const std::vector<Message<ListResponse>>& pages, const std::string& format, bool json) {
  JsonWriter out;
  out.begin_object().key("bundles").begin_array();
  bool first = true;
  for (const auto& page : pages) {
    for (const auto& bundle : items(page->bundles, page->bundles_count)) {
      if (json) {
        out.raw(wire::to_json(bundle));
        continue;
      }
      if (!first) std::puts("");
      first = false;
      if (const auto printed = print_bundle(bundle, format, true); !printed) return failed(printed.error());
    }
  }
  out.end_array().key("next_page_token").string("").end_object();
  if (json) std::printf("%s\n", out.text().c_str());
  return 0;
}

int list(Context& context) {
  const std::string& format = context.flags->text("format");
  if (const auto known = check_bundle_format(format); !known) return failed(known.error());
  return with_rpc(context, kServer, [&](Rpc& rpc, bool json) {
    if (!context.flags->text("id").empty()) return list_one(rpc, context.flags->text("id"), format, json);
    std::vector<Message<ListResponse>> pages;
    std::string token;
    do {
      Message<ListRequest> request;
      request->page_size = kPage;
      set_string(request->page_token, token);
      auto page = rpc.call<ListRequest, ListResponse>(METHOD("ListFederatedBundles"), request);
      if (!page) return failed("", page.error());
      token = view((*page)->next_page_token);
      pages.push_back(std::move(*page));
    } while (!token.empty());
    return print_listing(pages, format, json);
  });
}

Result<Bundle> bundle_to_set(const Flags& flags) {
  if (flags.text("id").empty()) return fail(Code::invalid_argument, "id flag is required");
  TRY(check_bundle_format(flags.text("format")));
  TRY_ASSIGN(const TrustDomain trust_domain, TrustDomain::parse(flags.text("id")));
  const std::string& path = flags.text("path");
  TRY_ASSIGN_WITHIN("unable to load bundle data", const std::string text, read_file(path.empty() ? "-" : path));
  return parse_bundle(text, flags.text("format"), trust_domain);
}

int set(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    const auto bundle = bundle_to_set(*context.flags);
    if (!bundle) return failed(bundle.error());
    Message<SetRequest> request;
    wire::write_bundle(*set_array(request->bundle, request->bundle_count, 1), *bundle);
    const auto response = rpc.call<SetRequest, SetResponse>(METHOD("BatchSetFederatedBundle"), request);
    if (!response) return failed("failed to set federated bundle", response.error());
    if (json) {
      std::printf("%s\n", wire::to_json(*response).c_str());
      return 0;
    }
    if ((*response)->results_count != 1) return failed(Error{Code::internal, "the server answered without a result"});
    const auto& status = (*response)->results[0].status;
    if (status.code != 0) {
      return failed(Error{Code::unknown, "failed to set federated bundle: " + std::string(view(status.message))});
    }
    std::puts("bundle set.");
    return 0;
  });
}

Result<spire_api_server_bundle_v1_BatchDeleteFederatedBundleRequest_Mode> delete_mode(const std::string& mode) {
  if (mode.empty() || mode == "restrict") {
    return spire_api_server_bundle_v1_BatchDeleteFederatedBundleRequest_Mode_RESTRICT;
  }
  if (mode == "delete") return spire_api_server_bundle_v1_BatchDeleteFederatedBundleRequest_Mode_DELETE;
  if (mode == "dissociate") return spire_api_server_bundle_v1_BatchDeleteFederatedBundleRequest_Mode_DISSOCIATE;
  return fail(Code::invalid_argument, "unsupported mode " + go_quoted(mode));
}

int remove(Context& context) {
  const Flags& flags = *context.flags;
  if (flags.text("id").empty()) return failed(Error{Code::invalid_argument, "id is required"});
  const auto mode = delete_mode(flags.text("mode"));
  if (!mode) return failed(mode.error());
  return with_rpc(context, kServer, [&flags, &mode](Rpc& rpc, bool json) {
    Message<DeleteRequest> request;
    request->mode = *mode;
    set_string(*set_array(request->trust_domains, request->trust_domains_count, 1), flags.text("id"));
    const auto response = rpc.call<DeleteRequest, DeleteResponse>(METHOD("BatchDeleteFederatedBundle"), request);
    if (!response) return failed("failed to delete federated bundle", response.error());
    if (json) {
      std::printf("%s\n", wire::to_json(*response).c_str());
      return 0;
    }
    if ((*response)->results_count != 1) return failed(Error{Code::internal, "the server answered without a result"});
    const auto& result = (*response)->results[0];
    if (result.status.code != 0) {
      return failed(Error{Code::unknown, "failed to delete federated bundle " + go_quoted(view(result.trust_domain)) +
                                             ": " + std::string(view(result.status.message))});
    }
    std::puts("bundle deleted.");
    return 0;
  });
}

#undef METHOD

}  // namespace

std::vector<Command> bundle_commands() {
  const Flag id = {"id", FlagType::text, "", "SPIFFE ID of the trust domain"};
  const Flag format = {"format", FlagType::text, "pem", "pem or spiffe"};
  return {
      {"bundle show",
       kServer,
       "Prints the trust bundle",
       {format, server_socket_flag(), instance_flag(), output_flag()},
       show},
      {"bundle list",
       kServer,
       "Prints the bundles of federated trust domains",
       {id, format, server_socket_flag(), instance_flag(), output_flag()},
       list},
      {"bundle set",
       kServer,
       "Stores the bundle of a federated trust domain",
       {id,
        {"path", FlagType::text, "", "A file with the bundle; standard input when left out"},
        format,
        server_socket_flag(),
        instance_flag(),
        output_flag()},
       set},
      {"bundle count", kServer, "Counts trust bundles", {server_socket_flag(), instance_flag(), output_flag()}, count},
      {"bundle delete",
       kServer,
       "Deletes the bundle of a federated trust domain",
       {id,
        {"mode", FlagType::text, "restrict",
         "What becomes of entries that federate with it: restrict (then nothing is deleted), delete or dissociate"},
        server_socket_flag(),
        instance_flag(),
        output_flag()},
       remove},
  };
}

}  // namespace limpet::cli
