// SPDX-License-Identifier: Apache-2.0
#include "agent/attest_flow.h"

#include <utility>

#include "base/limits.h"
#include "wire/api_types.h"

namespace limpet::agent {

AttestFlow::AttestFlow(Loop& loop, const Clock& clock, Dialer& dialer, ServerTrust& trust, KeyManager& keys,
                       NodeAttestorAgent& attestor)
    : loop_(loop),
      clock_(clock),
      dialer_(dialer),
      trust_(trust),
      attestor_(attestor),
      new_key_(keys),
      deadline_(loop) {}

// 1. the connection comes first: a server that cannot be reached must not cost a key or a token
void AttestFlow::start(std::string key_id, Done<NewIdentity> done) {
  key_id_ = std::move(key_id);
  done_ = std::move(done);
  deadline_.start<&AttestFlow::on_deadline>(kDeadlineMs, this);
  dialer_.dial(trust_.anonymous(), dialled_.then<&AttestFlow::on_dialled>(this));
}

// 2. connected
void AttestFlow::on_dialled(Result<std::unique_ptr<wire::Channel>> channel) {
  if (!channel) return end(fail(std::move(channel).error()));
  channel_ = std::move(*channel);
  new_key_.start(agent_csr(key_id_), keyed_.then<&AttestFlow::on_key>(this));
}

// 3. the key stands
void AttestFlow::on_key(Result<KeyAndCsr> key) {
  if (!key) return end(fail(std::move(key).error()));
  identity_.key = std::move(key->key);
  identity_.svid.key_id = identity_.key.id;
  csr_ = std::move(key->csr);
  session_ = attestor_.open();
  session_->payload(payload_.then<&AttestFlow::on_payload>(this));
}

// 4. the attestor said who we are
void AttestFlow::on_payload(Result<Bytes> payload) {
  if (!payload) return end(fail(std::move(payload).error().within("node attestor " + attestor_.name())));
  stream_ = channel_->open("/spire.api.server.agent.v1.Agent/AttestAgent", {kDeadlineMs, {}});
  wire::Message<Request> request;
  request.mark_secret();  // a join token is one
  request->has_params = request->params.has_data = request->params.has_params = true;
  wire::set_string(request->params.data.type, attestor_.name());
  wire::set_bytes(request->params.data.payload, *payload);
  wire::set_bytes(request->params.params.csr, csr_);
  wipe(*payload);
  send(request);
}

// 5. a challenge, or the SVID
void AttestFlow::on_said(Result<std::optional<Bytes>> message) {
  if (!message) return end(fail(std::move(message).error()));
  if (!*message) return end(fail(Code::internal, "the server ended the attestation without an SVID"));
  auto response = wire::Message<Response>::decode(**message);
  if (!response) return end(fail(std::move(response).error().within("attestation response")));
  if ((*response)->has_result) return take_result(**response);
  if (++rounds_ > limits::kAttestationRounds)
    return end(fail(Code::resource_exhausted, "the server asks more than 8 challenges in one attestation"));
  session_->answer(to_bytes(wire::view((*response)->challenge)), answer_.then<&AttestFlow::on_answer>(this));
}

// 6. the attestor answered the challenge
void AttestFlow::on_answer(Result<Bytes> answer) {
  if (!answer) return end(fail(std::move(answer).error().within("node attestor " + attestor_.name())));
  wire::Message<Request> request;
  wire::set_present(request->challenge_response, *answer);
  send(request);
}

void AttestFlow::take_result(const Response& response) {
  if (!response.result.has_svid) return end(fail(Code::internal, "the server's attestation result has no SVID"));
  auto svid = wire::read_x509_svid(response.result.svid);
  if (!svid) return end(fail(std::move(svid).error().within("attestation result")));
  identity_.svid.chain = std::move(svid->chain);
  identity_.svid.reattestable = response.result.reattestable;
  stream_->close_send();
  get_bundle_.start(*channel_, "/spire.api.server.bundle.v1.Bundle/GetBundle", {}, {kRpcTimeoutMs, {}},
                    bundle_.then<&AttestFlow::on_bundle>(this));
}

// 7. the bundle, from the connection that gave the SVID
void AttestFlow::on_bundle(Result<wire::Message<spire_api_types_Bundle>> bundle) {
  if (!bundle) return end(fail(std::move(bundle).error().within("get the trust bundle")));
  auto read = wire::read_bundle(**bundle);
  if (!read) return end(fail(std::move(read).error().within("trust bundle")));
  identity_.bundle = std::move(*read);
  if (identity_.bundle.trust_domain != trust_.trust_domain())
    return end(fail(Code::unauthenticated,
                    "the server's bundle is of trust domain \"" + identity_.bundle.trust_domain.name() + "\""));
  loop_.work([chain = identity_.svid.chain, key = identity_.key.key, roots = identity_.bundle,
              now = judged_at(clock_, identity_.svid.chain)] { return check_agent_svid(chain, key, roots, now); },
             checked_.then<&AttestFlow::on_checked>(this));
}

// 8. all of it fits together
void AttestFlow::on_checked(Result<void> checked) {
  if (!checked) return end(fail(std::move(checked).error().within("the SVID the server gave")));
  end(std::move(identity_));
}

void AttestFlow::on_deadline() { end(fail(Code::deadline_exceeded, "the attestation took longer than 60 s")); }

void AttestFlow::send(const wire::Message<Request>& request) {
  auto bytes = request.encode();
  if (!bytes) return end(fail(std::move(bytes).error()));
  stream_->send(std::move(*bytes), sent_.then<&AttestFlow::on_sent>(this));
  stream_->receive(said_.then<&AttestFlow::on_said>(this));
}

void AttestFlow::end(Result<NewIdentity> result) {
  Done<NewIdentity> done = std::move(done_);
  done(std::move(result));  // the owner destroys this
}

}  // namespace limpet::agent
