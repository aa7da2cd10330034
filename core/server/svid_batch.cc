// SPDX-License-Identifier: Apache-2.0
// BatchNewX509SVID: an agent asks for the SVIDs of entries it is authorised for. Each item has its own outcome.
#include <unordered_map>

#include "proto/spire_svid.pb.h"
#include "server/csr_check.h"
#include "server/svid_api.h"
#include "server/wire_values.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

using Request = spire_api_server_svid_v1_BatchNewX509SVIDRequest;
using Response = spire_api_server_svid_v1_BatchNewX509SVIDResponse;
using Params = spire_api_server_svid_v1_NewX509SVIDParams;

class BatchNewX509SvidFlow;

// One item: its CSR checked on a worker, its SVID signed. Everything it needs of the entry is copied: entries change.
class BatchItem {
 public:
  BatchItem(BatchNewX509SvidFlow& batch, Context& context) : batch_(batch), context_(context) {}
  void start(const Params& params, const Entry* entry);
  [[nodiscard]] const Result<SignedSvid>& svid() const { return svid_; }
  [[nodiscard]] const SpiffeId& id() const { return request_.id; }

 private:
  void on_checked(Result<CheckedCsr> checked);
  void on_signed(Result<SignedSvid> svid);
  void end(Result<SignedSvid> svid);

  BatchNewX509SvidFlow& batch_;
  Context& context_;
  SvidRequest request_;
  Result<SignedSvid> svid_;
  Pending<CheckedCsr> checked_;
  Pending<SignedSvid> signed_;
};

class BatchNewX509SvidFlow final : public wire::UnaryFlow<Request, Response> {
 public:
  BatchNewX509SvidFlow(Context& context, wire::ServerCall& call, const Caller& caller)
      : UnaryFlow(call), context_(context), caller_(caller) {}

  // 3. an item has its outcome; the last one answers for all
  void on_item_done() {
    if (--open_ == 0) answer();
  }

 private:
  // 1. asked
  void handle(const Request& request) override {
    if (request.params_count == 0) return refuse({Code::invalid_argument, "missing parameters"});
    request_ = &request;
    context_.limits.sign_x509.wait(call().peer().address.ip, request.params_count, call().time_left_ms(),
                                   allowed_.then<&BatchNewX509SvidFlow::on_allowed>(this));
  }
  // 2. their turn has come. The flow itself counts as one open item, so that items which fail at once do not answer
  // early.
  void on_allowed(Result<void> allowed) {
    if (!allowed)
      return refuse(std::move(allowed).error().within("rejecting request due to certificate signing rate limiting"));
    open_ = size_t{request_->params_count} + 1;
    std::unordered_map<std::string_view, const Entry*> authorized;  // the pointers live until the next commit
    for (const Entry* entry : context_.index.authorized(caller_.id, caller_.agent_selectors))
      authorized.emplace(entry->id, entry);
    for (const Params& params : wire::items(request_->params, request_->params_count)) {
      items_.push_back(std::make_unique<BatchItem>(*this, context_));
      auto found = authorized.find(wire::view(params.entry_id));
      items_.back()->start(params, found == authorized.end() ? nullptr : found->second);
    }
    on_item_done();
  }
  void answer() {
    wire::Message<Response> response;
    auto* results = wire::set_array(response->results, response->results_count, items_.size());
    for (size_t i = 0; i < items_.size(); i++) {
      const Result<SignedSvid>& svid = items_[i]->svid();
      if (!svid) {
        wire::write_error(results[i].has_status, results[i].status, svid.error());
        continue;
      }
      wire::write_ok(results[i].has_status, results[i].status);
      results[i].has_svid = true;
      write_svid(results[i].svid, *svid, items_[i]->id());
    }
    reply(response);
  }

  Context& context_;
  const Caller& caller_;
  const Request* request_ = nullptr;  // lives as long as this flow
  size_t open_ = 0;
  std::vector<std::unique_ptr<BatchItem>> items_;
  Pending<void> allowed_;
};

void BatchItem::start(const Params& params, const Entry* entry) {
  BytesView csr = wire::view(params.csr);
  if (wire::view(params.entry_id).empty()) return end(fail(Code::invalid_argument, "missing entry ID"));
  if (csr.empty()) return end(fail(Code::invalid_argument, "missing CSR"));
  if (entry == nullptr) return end(fail(Code::not_found, "entry not found or not authorized"));
  request_.id = entry->spiffe_id;
  request_.ttl = entry->x509_svid_ttl > 0 ? entry->x509_svid_ttl : context_.config.default_x509_svid_ttl_s;
  request_.dns_names = entry->dns_names;
  context_.loop.work([der = to_bytes(csr)] { return check_csr(der, "malformed CSR", "invalid CSR signature"); },
                     checked_.then<&BatchItem::on_checked>(this));
}

void BatchItem::on_checked(Result<CheckedCsr> checked) {
  if (!checked) return end(std::unexpected(std::move(checked).error()));
  request_.spki = checked->csr.key.spki();
  request_.subject_key_id = std::move(checked->key_id);
  context_.ca.sign(request_, signed_.then<&BatchItem::on_signed>(this));
}

void BatchItem::on_signed(Result<SignedSvid> svid) {
  if (!svid) return end(fail(not_signed("failed to sign X509-SVID", svid.error())));
  end(std::move(svid));
}

void BatchItem::end(Result<SignedSvid> svid) {
  svid_ = std::move(svid);
  batch_.on_item_done();
}

}  // namespace

std::unique_ptr<wire::ServerFlow> open_batch_new_x509_svid(Context& context, wire::ServerCall& call,
                                                           const Caller& caller) {
  return std::make_unique<BatchNewX509SvidFlow>(context, call, caller);
}

}  // namespace limpet::server
