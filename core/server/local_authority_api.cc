// SPDX-License-Identifier: Apache-2.0
#include "server/local_authority_api.h"

#include "proto/spire_localauthority.pb.h"
#include "server/unimplemented.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

using State = spire_api_server_localauthority_v1_AuthorityState;
#define MESSAGE(name) spire_api_server_localauthority_v1_##name

Error invalid(std::string message) { return {Code::invalid_argument, std::move(message)}; }

void write_state(bool& present, State& out, const AuthorityView& view) {
  present = true;
  wire::set_string(out.authority_id, view.id);
  out.expires_at = view.expires_at;
  wire::set_string(out.upstream_authority_subject_key_id, view.upstream_id);
}

// Which field of each answer holds the authority.
void answer_with(MESSAGE(PrepareX509AuthorityResponse) & out, const AuthorityView& view) {
  write_state(out.has_prepared_authority, out.prepared_authority, view);
}
void answer_with(MESSAGE(PrepareJWTAuthorityResponse) & out, const AuthorityView& view) {
  write_state(out.has_prepared_authority, out.prepared_authority, view);
}
void answer_with(MESSAGE(ActivateX509AuthorityResponse) & out, const AuthorityView& view) {
  write_state(out.has_activated_authority, out.activated_authority, view);
}
void answer_with(MESSAGE(ActivateJWTAuthorityResponse) & out, const AuthorityView& view) {
  write_state(out.has_activated_authority, out.activated_authority, view);
}
void answer_with(MESSAGE(TaintX509AuthorityResponse) & out, const AuthorityView& view) {
  write_state(out.has_tainted_authority, out.tainted_authority, view);
}
void answer_with(MESSAGE(TaintJWTAuthorityResponse) & out, const AuthorityView& view) {
  write_state(out.has_tainted_authority, out.tainted_authority, view);
}
void answer_with(MESSAGE(RevokeX509AuthorityResponse) & out, const AuthorityView& view) {
  write_state(out.has_revoked_authority, out.revoked_authority, view);
}
void answer_with(MESSAGE(RevokeJWTAuthorityResponse) & out, const AuthorityView& view) {
  write_state(out.has_revoked_authority, out.revoked_authority, view);
}
void answer_with(MESSAGE(TaintX509UpstreamAuthorityResponse) & out, const AuthorityView& view) {
  wire::set_string(out.upstream_authority_subject_key_id, view.upstream_id);
}
void answer_with(MESSAGE(RevokeX509UpstreamAuthorityResponse) & out, const AuthorityView& view) {
  wire::set_string(out.upstream_authority_subject_key_id, view.upstream_id);
}

std::string_view given_id(const auto& request) { return wire::view(request.authority_id); }
std::string_view given_id(const MESSAGE(TaintX509UpstreamAuthorityRequest) & request) {
  return wire::view(request.subject_key_id);
}
std::string_view given_id(const MESSAGE(RevokeX509UpstreamAuthorityRequest) & request) {
  return wire::view(request.subject_key_id);
}

const char* status_name(AuthorityStatus status) {
  if (status == AuthorityStatus::prepared) return "PREPARED";
  if (status == AuthorityStatus::active) return "ACTIVE";
  return status == AuthorityStatus::old ? "OLD" : "UNKNOWN";
}
std::string unsupported(AuthorityStatus status) {
  return std::string("unsupported local authority status: ") + status_name(status);
}

template <class Request, class Response>
class GetStateFlow final : public wire::UnaryFlow<Request, Response> {
 public:
  GetStateFlow(wire::ServerCall& call, AuthoritySlots& slots)
      : wire::UnaryFlow<Request, Response>(call), slots_(slots) {}

 private:
  void handle(const Request&) override {
    const auto active = slots_.active();
    if (!active) return this->refuse({Code::unavailable, "server is initializing"});
    wire::Message<Response> response;
    write_state(response->has_active, response->active, *active);
    if (const auto other = slots_.other()) {
      if (other->status == AuthorityStatus::prepared) write_state(response->has_prepared, response->prepared, *other);
      if (other->status == AuthorityStatus::old) write_state(response->has_old, response->old, *other);
    }
    this->reply(response);
  }
  AuthoritySlots& slots_;
};

template <class Request, class Response>
class PrepareFlow final : public wire::UnaryFlow<Request, Response> {
 public:
  PrepareFlow(wire::ServerCall& call, AuthoritySlots& slots)
      : wire::UnaryFlow<Request, Response>(call), slots_(slots) {}

 private:
  void handle(const Request&) override {
    if (!slots_.active()) return this->refuse({Code::unavailable, "server is initializing"});
    slots_.prepare(prepared_.template then<&PrepareFlow::on_prepared>(this));
  }
  void on_prepared(Result<void> prepared) {
    const auto other = slots_.other();
    if (prepared && !other) prepared = fail(Code::unavailable, "it was replaced meanwhile");
    if (!prepared) {
      return this->refuse({Code::internal, std::string("failed to prepare ") + slots_.name() +
                                               " authority: " + prepared.error().message});
    }
    wire::Message<Response> response;
    answer_with(*response, *other);
    this->reply(response);
  }
  AuthoritySlots& slots_;
  Pending<void> prepared_;
};

template <class Request, class Response>
class ActivateFlow final : public wire::UnaryFlow<Request, Response> {
 public:
  ActivateFlow(wire::ServerCall& call, AuthoritySlots& slots)
      : wire::UnaryFlow<Request, Response>(call), slots_(slots) {}

 private:
  void handle(const Request& request) override {
    if (!slots_.active()) return this->refuse({Code::unavailable, "server is initializing"});
    const auto id = given_id(request);
    if (id.empty()) return this->refuse(invalid("no authority ID provided"));
    const auto other = slots_.other();
    if (!other || other->id != id) return this->refuse(invalid("unexpected authority ID"));
    if (other->status != AuthorityStatus::prepared)
      return this->refuse(
          {Code::internal, "only Prepared authorities can be activated: " + unsupported(other->status)});
    if (auto done = slots_.activate(); !done) return this->refuse(std::move(done).error());
    wire::Message<Response> response;
    answer_with(*response, *slots_.active());
    this->reply(response);
  }
  AuthoritySlots& slots_;
};

// Taint and revoke: one edit of the bundle, of an old authority or of the upstream root it hangs under.
enum class Change : uint8_t { taint, revoke };

template <class Request, class Response>
class ChangeFlow final : public wire::UnaryFlow<Request, Response> {
 public:
  ChangeFlow(wire::ServerCall& call, Context& context, ServerSvid& svid, AuthoritySlots& slots, Change change,
             bool upstream)
      : wire::UnaryFlow<Request, Response>(call),
        context_(context),
        svid_(svid),
        slots_(slots),
        change_(change),
        upstream_(upstream) {}

 private:
  void handle(const Request& request) override {
    if (auto good = check(given_id(request)); !good) return this->refuse(std::move(good).error());
    // it may run again after this call is gone, and holds nothing of it; the slots live as long as the server
    context_.bundles.edit_own(
        [&slots = slots_, change = change_, id = upstream_ ? view_.upstream_id : view_.id](Bundle& bundle,
                                                                                           ChangeSet&) -> Result<bool> {
          TRY(change == Change::taint ? slots.taint(bundle, id) : slots.revoke(bundle, id));
          return true;
        },
        edited_.template then<&ChangeFlow::on_edited>(this));
  }
  Result<void> check(std::string_view id) {
    if (auto good = check_upstream(); !good) return good;
    const auto active = slots_.active();
    const auto other = slots_.other();
    if (upstream_) return check_upstream_id(id, active, other);
    const std::string prefix = change_ == Change::revoke ? "invalid authority ID: " : "";
    if (id.empty()) return fail(invalid(prefix + "no authority ID provided"));
    if (active && active->id == id) {
      return fail(invalid(change_ == Change::taint ? "unable to taint current local authority"
                                                   : prefix + "unable to use current authority"));
    }
    if (change_ == Change::revoke && slots_.revokes_published()) return check_published(id, other);
    if (!other || other->id != id) return fail(invalid(prefix + "unexpected authority ID"));
    if (other->status != AuthorityStatus::old) {
      return fail(invalid(change_ == Change::taint
                              ? "only Old local authorities can be tainted: " + unsupported(other->status)
                              : prefix + "only Old local authorities can be revoked: " + unsupported(other->status)));
    }
    view_ = *other;
    return {};
  }
  // A key of a server below, or one of two rotations ago, is in no slot: the bundle tells.
  Result<void> check_published(std::string_view id, const std::optional<AuthorityView>& other) {
    if (other && other->id == id && other->status == AuthorityStatus::prepared)
      return fail(invalid("invalid authority ID: unable to use a prepared key"));
    const Bundle* own = context_.bundles.own();
    auto found = own != nullptr ? slots_.published(*own, id) : std::nullopt;
    if (!found) return fail(invalid("invalid authority ID: no JWT authority found with provided authority ID"));
    view_ = std::move(*found);
    return {};
  }
  Result<void> check_upstream() const {
    if (upstream_ && !slots_.has_upstream())
      return fail(Code::failed_precondition, "upstream authority is not configured");
    if (!upstream_ && slots_.has_upstream()) {
      return fail(Code::failed_precondition, std::string("local authority can't be ") +
                                                 (change_ == Change::taint ? "tainted" : "revoked") +
                                                 " if there is an upstream authority");
    }
    return {};
  }
  // Only the root above the last authority that signed before the active one may go.
  Result<void> check_upstream_id(std::string_view id, const std::optional<AuthorityView>& active,
                                 const std::optional<AuthorityView>& other) {
    const auto wrong = [](const std::string& why) {
      return fail(invalid("provided subject key id is not valid: " + why));
    };
    if (id.empty()) return wrong("no subject key ID provided");
    if (active && active->upstream_id == id) return wrong("unable to use upstream authority signing current authority");
    if (!other || other->status != AuthorityStatus::old)
      return wrong("only upstream authorities signing an old authority can be used");
    if (other->upstream_id != id) return wrong("upstream authority didn't sign the old local authority");
    view_ = *other;
    return {};
  }
  void on_edited(Result<Bundle> bundle) {
    const bool taint = change_ == Change::taint;
    if (!bundle) {
      return this->refuse({Code::internal, std::string("failed to ") + (taint ? "taint " : "revoke ") + slots_.name() +
                                               (upstream_ ? " upstream" : "") +
                                               " authority: " + bundle.error().message});
    }
    context_.logger.info(
        taint ? "Authority tainted" : "Authority revoked",
        {{"kind", slots_.name()}, {"local_authority_id", view_.id}, {"upstream_authority_id", view_.upstream_id}});
    if (taint) svid_.renew_if_issued_by(view_.id);
    wire::Message<Response> response;
    answer_with(*response, view_);
    this->reply(response);
  }

  Context& context_;
  ServerSvid& svid_;
  AuthoritySlots& slots_;
  Change change_;
  bool upstream_;
  AuthorityView view_;
  Pending<Bundle> edited_;
};

}  // namespace

LocalAuthorityApi::LocalAuthorityApi(Context& context, ServerSvid& svid)
    : context_(context), svid_(svid), x509_(context.ca) {
  if (context.jwt != nullptr) jwt_.emplace(context.loop, *context.jwt);
}

#define FLOW(kind, name, ...) std::make_unique<kind<MESSAGE(name##Request), MESSAGE(name##Response)>>(call, __VA_ARGS__)

std::unique_ptr<wire::ServerFlow> LocalAuthorityApi::open(wire::ServerCall& call, const Caller&) {
  std::string_view method = call.method();
  method.remove_prefix(method.rfind('/') + 1);
  if (method == "GetX509AuthorityState") return FLOW(GetStateFlow, GetX509AuthorityState, x509_);
  if (method == "PrepareX509Authority") return FLOW(PrepareFlow, PrepareX509Authority, x509_);
  if (method == "ActivateX509Authority") return FLOW(ActivateFlow, ActivateX509Authority, x509_);
  if (method == "TaintX509Authority")
    return FLOW(ChangeFlow, TaintX509Authority, context_, svid_, x509_, Change::taint, false);
  if (method == "RevokeX509Authority")
    return FLOW(ChangeFlow, RevokeX509Authority, context_, svid_, x509_, Change::revoke, false);
  if (method == "TaintX509UpstreamAuthority")
    return FLOW(ChangeFlow, TaintX509UpstreamAuthority, context_, svid_, x509_, Change::taint, true);
  if (method == "RevokeX509UpstreamAuthority")
    return FLOW(ChangeFlow, RevokeX509UpstreamAuthority, context_, svid_, x509_, Change::revoke, true);
  if (method.find("WIT") != std::string_view::npos)
    return std::make_unique<UnimplementedFlow>(call, "WIT-SVID functionality is not yet implemented");
  if (method.find("JWT") == std::string_view::npos) return nullptr;
  if (!jwt_) return std::make_unique<UnimplementedFlow>(call, "JWT functionality is disabled");
  if (method == "GetJWTAuthorityState") return FLOW(GetStateFlow, GetJWTAuthorityState, *jwt_);
  if (method == "PrepareJWTAuthority") return FLOW(PrepareFlow, PrepareJWTAuthority, *jwt_);
  if (method == "ActivateJWTAuthority") return FLOW(ActivateFlow, ActivateJWTAuthority, *jwt_);
  if (method == "TaintJWTAuthority")
    return FLOW(ChangeFlow, TaintJWTAuthority, context_, svid_, *jwt_, Change::taint, false);
  if (method == "RevokeJWTAuthority")
    return FLOW(ChangeFlow, RevokeJWTAuthority, context_, svid_, *jwt_, Change::revoke, false);
  return nullptr;
}

}  // namespace limpet::server
