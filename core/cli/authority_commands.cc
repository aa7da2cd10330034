// SPDX-License-Identifier: Apache-2.0
#include "cli/authority_commands.h"

#include <cstdio>

#include "base/clock.h"
#include "cli/session.h"
#include "proto/spire_localauthority.pb.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::Message;
using wire::view;

namespace {

#define MESSAGE(name) spire_api_server_localauthority_v1_##name
using State = spire_api_server_localauthority_v1_AuthorityState;

constexpr const char* kService = "/spire.api.server.localauthority.v1.LocalAuthority/";

// What tells X.509 from JWT: the words, and that only a certificate can hang under an upstream authority.
struct X509 {
  static constexpr const char* kName = "X.509";
  static constexpr bool kUpstream = true;
  using GetRequest = MESSAGE(GetX509AuthorityStateRequest);
  using GetResponse = MESSAGE(GetX509AuthorityStateResponse);
  using PrepareRequest = MESSAGE(PrepareX509AuthorityRequest);
  using PrepareResponse = MESSAGE(PrepareX509AuthorityResponse);
  using ActivateRequest = MESSAGE(ActivateX509AuthorityRequest);
  using ActivateResponse = MESSAGE(ActivateX509AuthorityResponse);
  using TaintRequest = MESSAGE(TaintX509AuthorityRequest);
  using TaintResponse = MESSAGE(TaintX509AuthorityResponse);
  using RevokeRequest = MESSAGE(RevokeX509AuthorityRequest);
  using RevokeResponse = MESSAGE(RevokeX509AuthorityResponse);
  static std::string method(const char* verb, const char* end = "") {
    return std::string(kService) + verb + "X509Authority" + end;
  }
};
struct Jwt {
  static constexpr const char* kName = "JWT";
  static constexpr bool kUpstream = false;
  using GetRequest = MESSAGE(GetJWTAuthorityStateRequest);
  using GetResponse = MESSAGE(GetJWTAuthorityStateResponse);
  using PrepareRequest = MESSAGE(PrepareJWTAuthorityRequest);
  using PrepareResponse = MESSAGE(PrepareJWTAuthorityResponse);
  using ActivateRequest = MESSAGE(ActivateJWTAuthorityRequest);
  using ActivateResponse = MESSAGE(ActivateJWTAuthorityResponse);
  using TaintRequest = MESSAGE(TaintJWTAuthorityRequest);
  using TaintResponse = MESSAGE(TaintJWTAuthorityResponse);
  using RevokeRequest = MESSAGE(RevokeJWTAuthorityRequest);
  using RevokeResponse = MESSAGE(RevokeJWTAuthorityResponse);
  static std::string method(const char* verb, const char* end = "") {
    return std::string(kService) + verb + "JWTAuthority" + end;
  }
};

template <class Kind>
void print_state(const char* title, const char* none, bool present, const State& state) {
  std::printf("%s %s authority:\n", title, Kind::kName);
  if (!present) {
    std::printf("  No %s %s authority found\n", none, Kind::kName);
    return;
  }
  std::printf("  Authority ID: %s\n  Expires at: %s\n", std::string(view(state.authority_id)).c_str(),
              TimeText(state.expires_at).go());
  if (!Kind::kUpstream) return;
  const std::string upstream(view(state.upstream_authority_subject_key_id));
  std::printf("  Upstream authority ID: %s\n", upstream.empty() ? "No upstream authority" : upstream.c_str());
}

template <class Kind>
int show(Context& context) {
  return with_rpc(context, kServer, [](Rpc& rpc, bool json) {
    const auto states = rpc.call<typename Kind::GetRequest, typename Kind::GetResponse>(
        Kind::method("Get", "State"), Message<typename Kind::GetRequest>());
    if (!states) return failed(std::string("could not get ") + Kind::kName + " authorities", states.error());
    if (json) {
      std::printf("%s\n", wire::to_json(*states).c_str());
      return 0;
    }
    const auto& s = **states;
    print_state<Kind>("Active", "active", s.has_active, s.active);
    std::puts("");
    print_state<Kind>("Prepared", "prepared", s.has_prepared, s.prepared);
    std::puts("");
    print_state<Kind>("Old", "old", s.has_old, s.old);
    return 0;
  });
}

template <class Kind>
int prepare(Context& context) {
  return with_rpc(context, kServer, [](Rpc& rpc, bool json) {
    const auto done = rpc.call<typename Kind::PrepareRequest, typename Kind::PrepareResponse>(
        Kind::method("Prepare"), Message<typename Kind::PrepareRequest>());
    if (!done) return failed(std::string("could not prepare ") + Kind::kName + " authority", done.error());
    if (json) {
      std::printf("%s\n", wire::to_json(*done).c_str());
      return 0;
    }
    print_state<Kind>("Prepared", "prepared", (*done)->has_prepared_authority, (*done)->prepared_authority);
    return 0;
  });
}

// Activate, taint and revoke: an authority's ID goes, its state comes back.
template <class Kind, class Request, class Response>
int change(Context& context, const char* verb, const char* word, const char* done_word, bool Response::* present,
           State Response::* state) {
  return with_rpc(context, kServer, [&](Rpc& rpc, bool json) {
    const std::string& id = context.flags->text("authorityID");
    if (id.empty()) return failed(Error{Code::invalid_argument, "an authority ID is required"});
    Message<Request> request;
    wire::set_string(request->authority_id, id);
    const auto done = rpc.call<Request, Response>(Kind::method(verb), request);
    if (!done) return failed(std::string("could not ") + word + " " + Kind::kName + " authority", done.error());
    if (json) {
      std::printf("%s\n", wire::to_json(*done).c_str());
      return 0;
    }
    print_state<Kind>(done_word, word, (**done).*present, (**done).*state);
    return 0;
  });
}

template <class Kind>
int activate(Context& context) {
  using Response = typename Kind::ActivateResponse;
  return change<Kind, typename Kind::ActivateRequest, Response>(
      context, "Activate", "activate", "Activated", &Response::has_activated_authority, &Response::activated_authority);
}
template <class Kind>
int taint(Context& context) {
  using Response = typename Kind::TaintResponse;
  return change<Kind, typename Kind::TaintRequest, Response>(
      context, "Taint", "taint", "Tainted", &Response::has_tainted_authority, &Response::tainted_authority);
}
template <class Kind>
int revoke(Context& context) {
  using Response = typename Kind::RevokeResponse;
  return change<Kind, typename Kind::RevokeRequest, Response>(
      context, "Revoke", "revoke", "Revoked", &Response::has_revoked_authority, &Response::revoked_authority);
}

template <class Request, class Response>
int change_upstream(Context& context, const char* verb, const char* word, const char* done_word) {
  return with_rpc(context, kServer, [&](Rpc& rpc, bool json) {
    const std::string& id = context.flags->text("subjectKeyID");
    if (id.empty()) return failed(Error{Code::invalid_argument, "a Subject Key ID is required"});
    Message<Request> request;
    wire::set_string(request->subject_key_id, id);
    const auto done = rpc.call<Request, Response>(std::string(kService) + verb + "X509UpstreamAuthority", request);
    if (!done) return failed(std::string("could not ") + word + " X.509 upstream authority", done.error());
    if (json) {
      std::printf("%s\n", wire::to_json(*done).c_str());
      return 0;
    }
    std::printf("%s X.509 upstream authority:\n  Subject Key ID: %s\n", done_word,
                std::string(view((*done)->upstream_authority_subject_key_id)).c_str());
    return 0;
  });
}

int taint_upstream(Context& context) {
  return change_upstream<MESSAGE(TaintX509UpstreamAuthorityRequest), MESSAGE(TaintX509UpstreamAuthorityResponse)>(
      context, "Taint", "taint", "Tainted");
}
int revoke_upstream(Context& context) {
  return change_upstream<MESSAGE(RevokeX509UpstreamAuthorityRequest), MESSAGE(RevokeX509UpstreamAuthorityResponse)>(
      context, "Revoke", "revoke", "Revoked");
}

using Run = int (*)(Context&);
Command command(const char* words, const char* summary, Run run, std::vector<Flag> flags = {}) {
  flags.push_back(server_socket_flag());
  flags.push_back(instance_flag());
  flags.push_back(output_flag());
  return {words, kServer, summary, std::move(flags), run};
}

}  // namespace

std::vector<Command> authority_commands() {
  const Flag id{"authorityID", FlagType::text, "", "The ID of the authority, as `show` prints it"};
  const Flag upstream_id{"subjectKeyID", FlagType::text, "", "The Subject Key ID of the upstream authority"};
#define AUTHORITY_COMMANDS(word, name, Kind)                                                                           \
  command("localauthority " word " show", "Shows the active, the prepared and the old " name " authority",             \
          show<Kind>),                                                                                                 \
      command("localauthority " word " prepare", "Makes the next " name " authority and publishes it", prepare<Kind>), \
      command("localauthority " word " activate", "Has the prepared " name " authority sign from now on",              \
              activate<Kind>, {id}),                                                                                   \
      command("localauthority " word " taint", "Marks the old " name " authority: what it signed is signed anew",      \
              taint<Kind>, {id}),                                                                                      \
      command("localauthority " word " revoke", "Takes the tainted " name " authority out of the bundle",              \
              revoke<Kind>, {id})
  return {AUTHORITY_COMMANDS("x509", "X.509", X509), AUTHORITY_COMMANDS("jwt", "JWT", Jwt),
          command("upstreamauthority taint", "Marks an upstream X.509 authority: what hangs under it is signed anew",
                  taint_upstream, {upstream_id}),
          command("upstreamauthority revoke", "Takes a tainted upstream X.509 authority out of the bundle",
                  revoke_upstream, {upstream_id})};
#undef AUTHORITY_COMMANDS
}

}  // namespace limpet::cli
