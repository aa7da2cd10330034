// SPDX-License-Identifier: Apache-2.0
#include "agent/renew_flow.h"

#include <utility>

#include "wire/api_types.h"

namespace limpet::agent {

RenewFlow::RenewFlow(Loop& loop, const Clock& clock, Link& link, ServerTrust& trust, KeyManager& keys)
    : loop_(loop), clock_(clock), link_(link), trust_(trust), new_key_(keys), deadline_(loop) {}

// 1. the connection first: no key is made while the server is away
void RenewFlow::start(const std::string& key_id, Done<NewIdentity> done) {
  key_id_ = key_id;
  done_ = std::move(done);
  deadline_.start<&RenewFlow::on_deadline>(kDeadlineMs, this);
  link_.acquire(acquired_.then<&RenewFlow::on_channel>(this));
}

// 2. connected
void RenewFlow::on_channel(Result<SharedChannel> channel) {
  if (!channel) return end(fail(std::move(channel).error()));
  channel_ = std::move(*channel);
  new_key_.start(agent_csr(key_id_), keyed_.then<&RenewFlow::on_key>(this));
}

// 3. the key stands
void RenewFlow::on_key(Result<KeyAndCsr> key) {
  if (!key) return end(fail(std::move(key).error()));
  identity_.key = std::move(key->key);
  identity_.svid.key_id = identity_.key.id;
  wire::Message<Request> request;
  request->has_params = true;
  wire::set_bytes(request->params.csr, key->csr);
  renew_.start(*channel_, "/spire.api.server.agent.v1.Agent/RenewAgent", request, {kRpcTimeoutMs, {}},
               renewed_.then<&RenewFlow::on_renewed>(this));
}

// 4. the server answered
void RenewFlow::on_renewed(Result<wire::Message<Response>> response) {
  if (!response) {
    link_.failed(channel_.get(), response.error());
    return end(fail(std::move(response).error()));
  }
  if (!(*response)->has_svid) return end(fail(Code::internal, "the server's answer has no SVID"));
  auto svid = wire::read_x509_svid((*response)->svid);
  if (!svid) return end(fail(std::move(svid).error()));
  identity_.svid.chain = std::move(svid->chain);
  if (!trust_.bundle()) return end(fail(Code::failed_precondition, "no trust bundle to check the new SVID with"));
  loop_.work([chain = identity_.svid.chain, key = identity_.key.key, roots = *trust_.bundle(),
              now = judged_at(clock_, identity_.svid.chain)] { return check_agent_svid(chain, key, roots, now); },
             checked_.then<&RenewFlow::on_checked>(this));
}

// 5. it is ours
void RenewFlow::on_checked(Result<void> checked) {
  if (!checked) return end(fail(std::move(checked).error().within("the SVID the server gave")));
  end(std::move(identity_));
}

void RenewFlow::on_deadline() { end(fail(Code::deadline_exceeded, "the renewal took longer than 60 s")); }

void RenewFlow::end(Result<NewIdentity> result) {
  Done<NewIdentity> done = std::move(done_);
  done(std::move(result));  // the owner destroys this
}

}  // namespace limpet::agent
