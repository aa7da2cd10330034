// SPDX-License-Identifier: Apache-2.0
#include "cli/federation_commands.h"

#include <cstdio>

#include "cli/federation_data.h"
#include "cli/json.h"
#include "cli/session.h"
#include "proto/google/protobuf/empty.pb.h"
#include "proto/spire_trustdomain.pb.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::items;
using wire::Message;
using wire::set_array;
using wire::set_string;
using wire::view;

namespace {

constexpr int32_t kPage = 500;

using CreateRequest = spire_api_server_trustdomain_v1_BatchCreateFederationRelationshipRequest;
using CreateResponse = spire_api_server_trustdomain_v1_BatchCreateFederationRelationshipResponse;
using UpdateRequest = spire_api_server_trustdomain_v1_BatchUpdateFederationRelationshipRequest;
using UpdateResponse = spire_api_server_trustdomain_v1_BatchUpdateFederationRelationshipResponse;
using DeleteRequest = spire_api_server_trustdomain_v1_BatchDeleteFederationRelationshipRequest;
using DeleteResponse = spire_api_server_trustdomain_v1_BatchDeleteFederationRelationshipResponse;
using ListRequest = spire_api_server_trustdomain_v1_ListFederationRelationshipsRequest;
using ListResponse = spire_api_server_trustdomain_v1_ListFederationRelationshipsResponse;
using GetRequest = spire_api_server_trustdomain_v1_GetFederationRelationshipRequest;
using RefreshRequest = spire_api_server_trustdomain_v1_RefreshBundleRequest;
using Relationship = spire_api_types_FederationRelationship;

#define METHOD(name) "/spire.api.server.trustdomain.v1.TrustDomain/" name

// `create` and `update` differ in their messages and words only.
struct CreateKind {
  using Request = CreateRequest;
  using Response = CreateResponse;
  static constexpr const char* kMethod = METHOD("BatchCreateFederationRelationship");
  static constexpr const char* kVerb = "create";
};
struct UpdateKind {
  using Request = UpdateRequest;
  using Response = UpdateResponse;
  static constexpr const char* kMethod = METHOD("BatchUpdateFederationRelationship");
  static constexpr const char* kVerb = "update";
};

void print_relationship(std::FILE* to, const Relationship& relationship) {
  std::fprintf(to, "Trust domain              : %s\n", std::string(view(relationship.trust_domain)).c_str());
  std::fprintf(to, "Bundle endpoint URL       : %s\n", std::string(view(relationship.bundle_endpoint_url)).c_str());
  if (relationship.which_bundle_endpoint_profile == spire_api_types_FederationRelationship_https_web_tag) {
    std::fputs("Bundle endpoint profile   : https_web\n", to);
  } else if (relationship.which_bundle_endpoint_profile == spire_api_types_FederationRelationship_https_spiffe_tag) {
    const auto& spiffe = relationship.bundle_endpoint_profile.https_spiffe;
    std::fprintf(to, "Bundle endpoint profile   : https_spiffe\nEndpoint SPIFFE ID        : %s\n",
                 std::string(view(spiffe.endpoint_spiffe_id)).c_str());
  }
}

// The relationships of -data, or the one that the flags describe.
Result<std::vector<RelationshipMessage>> relationships_to_write(const Flags& flags) {
  if (!flags.text("data").empty()) {
    for (const char* name :
         {"trustDomain", "bundleEndpointURL", "bundleEndpointProfile", "endpointSpiffeID", "trustDomainBundlePath"}) {
      if (flags.text(name).empty()) continue;
      return fail(Code::invalid_argument,
                  "cannot use other flags to specify relationship fields when 'data' flag is set");
    }
    return relationships_from_file(flags.text("data"));
  }
  TRY_ASSIGN(RelationshipMessage one, relationship_from_flags(flags));
  std::vector<RelationshipMessage> all;
  all.push_back(std::move(one));
  return all;
}

// What succeeded to standard output, then what failed to standard error. The exit code.
template <class Kind>
int print_written(const typename Kind::Request& request, const typename Kind::Response& response) {
  const auto results = items(response.results, response.results_count);
  for (const auto& result : results) {
    if (result.status.code != 0) continue;
    std::puts("");
    print_relationship(stdout, result.federation_relationship);
  }
  bool all = true;
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i].status.code == 0) continue;
    all = false;
    std::puts("");
    std::fflush(stdout);
    std::fprintf(stderr, "Failed to %s the following federation relationship (code: %s, msg: %s):\n", Kind::kVerb,
                 code_name(static_cast<Code>(results[i].status.code)).c_str(),
                 go_quoted(view(results[i].status.message)).c_str());
    print_relationship(stderr, request.federation_relationships[i]);
  }
  if (all) return 0;
  std::fprintf(stderr, "Error: failed to %s one or more federation relationships\n", Kind::kVerb);
  return 1;
}

template <class Kind>
int run_write(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    auto relationships = relationships_to_write(*context.flags);
    if (!relationships) return failed(relationships.error());
    Message<typename Kind::Request> request;
    auto* out =
        set_array(request->federation_relationships, request->federation_relationships_count, relationships->size());
    for (size_t i = 0; i < relationships->size(); ++i) std::swap(out[i], *(*relationships)[i]);
    const auto response = rpc.call<typename Kind::Request, typename Kind::Response>(Kind::kMethod, request);
    if (!response) return failed("request failed", response.error());
    if ((*response)->results_count != request->federation_relationships_count) {
      return failed(Error{Code::internal, "the server did not answer every relationship with a result"});
    }
    if (!json) return print_written<Kind>(*request, **response);
    std::printf("%s\n", wire::to_json(*response).c_str());
    return 0;
  });
}

int print_listing(const std::vector<Message<ListResponse>>& pages, bool json) {
  size_t found = 0;
  JsonWriter out;
  out.begin_object().key("federation_relationships").begin_array();
  for (const auto& page : pages) {
    found += page->federation_relationships_count;
    if (!json) continue;
    for (const auto& one : items(page->federation_relationships, page->federation_relationships_count)) {
      out.raw(wire::to_json(one));
    }
  }
  out.end_array().key("next_page_token").string("").end_object();
  if (json) {
    std::printf("%s\n", out.text().c_str());
    return 0;
  }
  std::printf("Found %s\n", counted(found, "federation relationship", "federation relationships").c_str());
  for (const auto& page : pages) {
    for (const auto& one : items(page->federation_relationships, page->federation_relationships_count)) {
      std::puts("");
      print_relationship(stdout, one);
    }
  }
  return 0;
}

int list(Context& context) {
  return with_rpc(context, kServer, [](Rpc& rpc, bool json) {
    std::vector<Message<ListResponse>> pages;
    std::string token;
    do {
      Message<ListRequest> request;
      request->page_size = kPage;
      set_string(request->page_token, token);
      auto page = rpc.call<ListRequest, ListResponse>(METHOD("ListFederationRelationships"), request);
      if (!page) return failed("error listing federation relationship", page.error());
      token = view((*page)->next_page_token);
      pages.push_back(std::move(*page));
    } while (!token.empty());
    return print_listing(pages, json);
  });
}

int show(Context& context) {
  const std::string& name = context.flags->text("trustDomain");
  if (name.empty()) return failed(Error{Code::invalid_argument, "a trust domain name is required"});
  return with_rpc(context, kServer, [&name](Rpc& rpc, bool json) {
    Message<GetRequest> request;
    set_string(request->trust_domain, name);
    const auto found = rpc.call<GetRequest, Relationship>(METHOD("GetFederationRelationship"), request);
    if (!found) return failed("error showing federation relationship", found.error());
    if (json) {
      std::printf("%s\n", wire::to_json(*found).c_str());
      return 0;
    }
    std::printf("Found a federation relationship with trust domain %s:\n\n", name.c_str());
    print_relationship(stdout, **found);
    return 0;
  });
}

int remove(Context& context) {
  const std::string& id = context.flags->text("id");
  if (id.empty()) return failed(Error{Code::invalid_argument, "id is required"});
  return with_rpc(context, kServer, [&id](Rpc& rpc, bool json) {
    Message<DeleteRequest> request;
    set_string(*set_array(request->trust_domains, request->trust_domains_count, 1), id);
    const auto response = rpc.call<DeleteRequest, DeleteResponse>(METHOD("BatchDeleteFederationRelationship"), request);
    if (!response) return failed("failed to delete federation relationship", response.error());
    if (json) {
      std::printf("%s\n", wire::to_json(*response).c_str());
      return 0;
    }
    if ((*response)->results_count != 1) return failed(Error{Code::internal, "the server answered without a result"});
    const auto& result = (*response)->results[0];
    if (result.status.code != 0) {
      return failed(Error{Code::unknown, "failed to delete federation relationship " +
                                             go_quoted(view(result.trust_domain)) + ": " +
                                             std::string(view(result.status.message))});
    }
    std::puts("federation relationship deleted.");
    return 0;
  });
}

int refresh(Context& context) {
  const std::string& id = context.flags->text("id");
  if (id.empty()) return failed(Error{Code::invalid_argument, "id is required"});
  return with_rpc(context, kServer, [&id](Rpc& rpc, bool json) {
    Message<RefreshRequest> request;
    set_string(request->trust_domain, id);
    const auto response = rpc.call<RefreshRequest, google_protobuf_Empty>(METHOD("RefreshBundle"), request);
    if (!response && response.error().code == Code::not_found) {
      return failed(Error{Code::not_found, "there is no federation relationship with trust domain " + go_quoted(id)});
    }
    if (!response) return failed("failed to refresh bundle", response.error());
    std::puts(json ? "{\"code\":0,\"message\":\"OK\"}" : "Bundle refreshed");
    return 0;
  });
}

#undef METHOD

std::vector<Flag> write_flags() {
  return {
      {"trustDomain", FlagType::text, "", "Name of the trust domain to federate with"},
      {"bundleEndpointURL", FlagType::text, "", "https URL where its bundle is fetched"},
      {"bundleEndpointProfile", FlagType::text, "", "How the endpoint proves itself: https_web or https_spiffe"},
      {"endpointSpiffeID", FlagType::text, "", "SPIFFE ID of the endpoint, with https_spiffe"},
      {"trustDomainBundlePath", FlagType::text, "", "A file with its bundle to begin with"},
      {"trustDomainBundleFormat", FlagType::text, "pem", "Format of that file: pem or spiffe"},
      {"data", FlagType::text, "", "A JSON file with relationships, - for standard input, in place of the flags above"},
      server_socket_flag(),
      instance_flag(),
      output_flag(),
  };
}

}  // namespace

std::vector<Command> federation_commands() {
  const Flag id = {"id", FlagType::text, "", "The trust domain"};
  return {
      {"federation create", kServer, "Makes federation relationships", write_flags(), run_write<CreateKind>},
      {"federation update", kServer, "Changes federation relationships", write_flags(), run_write<UpdateKind>},
      {"federation show",
       kServer,
       "Shows one federation relationship",
       {{"trustDomain", FlagType::text, "", "Name of the trust domain"},
        server_socket_flag(),
        instance_flag(),
        output_flag()},
       show},
      {"federation list",
       kServer,
       "Lists federation relationships",
       {server_socket_flag(), instance_flag(), output_flag()},
       list},
      {"federation refresh",
       kServer,
       "Fetches the bundle of a federated trust domain now",
       {id, server_socket_flag(), instance_flag(), output_flag()},
       refresh},
      {"federation delete",
       kServer,
       "Ends a federation relationship; the bundle stays",
       {id, server_socket_flag(), instance_flag(), output_flag()},
       remove},
  };
}

}  // namespace limpet::cli
