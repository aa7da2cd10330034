// SPDX-License-Identifier: Apache-2.0
#include "agent/sign_batch.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "crypto/x509.h"
#include "wire/api_types.h"

namespace limpet::agent {

SignBatch::SignBatch(Loop& loop, Link& link, KeyType key_type) : loop_(loop), link_(link), key_type_(key_type) {}

// 1. the connection first: no keys are made while the server is away
void SignBatch::start(std::vector<SignItem> items, Done<std::vector<SignedItem>> done) {
  items_ = std::move(items);
  done_ = std::move(done);
  link_.acquire(acquired_.then<&SignBatch::on_channel>(this));
}

void SignBatch::on_channel(Result<SharedChannel> channel) {
  if (!channel) return end(fail(std::move(channel).error()));
  channel_ = std::move(*channel);
  make_keys();
}

// 2. keys, a few per job so that handshakes get their turn on the workers
void SignBatch::make_keys() {
  std::vector<SpiffeId> ids;
  for (size_t i = made_.size(); i < items_.size() && ids.size() < kKeysPerJob; i++) ids.push_back(items_[i].spiffe_id);
  loop_.work([ids = std::move(ids), type = key_type_] { return make(ids, type); },
             keyed_.then<&SignBatch::on_keys>(this));
}

void SignBatch::on_keys(Result<std::vector<Made>> made) {
  if (!made) return end(fail(std::move(made).error().within("make workload keys")));
  std::move(made->begin(), made->end(), std::back_inserter(made_));
  if (made_.size() < items_.size()) return make_keys();
  ask();
}

// 3. the call
void SignBatch::ask() {
  wire::Message<Request> request;
  auto* params = wire::set_array(request->params, request->params_count, items_.size());
  for (size_t i = 0; i < request->params_count; i++) {
    wire::set_string(params[i].entry_id, items_[i].entry_id);
    wire::set_bytes(params[i].csr, made_[i].csr);
  }
  call_.start(*channel_, "/spire.api.server.svid.v1.SVID/BatchNewX509SVID", request, {kRpcTimeoutMs, {}},
              signed_.then<&SignBatch::on_signed>(this));
}

// 4. the answers are parsed on a worker: five hundred certificates would hold the loop for 25 ms
void SignBatch::on_signed(Result<wire::Message<Response>> response) {
  if (!response) {
    link_.failed(channel_.get(), response.error());
    return end(fail(std::move(response).error()));
  }
  if ((*response)->results_count != items_.size())
    return end(fail(Code::internal, "the server answered " + std::to_string((*response)->results_count) + " of " +
                                        std::to_string(items_.size()) + " requests"));
  loop_.work(
      [items = std::move(items_), made = std::move(made_), answer = std::move(*response)]() mutable {
        return Result<std::vector<SignedItem>>(read(std::move(items), std::move(made), answer));
      },
      read_.then<&SignBatch::on_read>(this));
}

void SignBatch::on_read(Result<std::vector<SignedItem>> read) { end(std::move(read)); }

void SignBatch::end(Result<std::vector<SignedItem>> result) {
  Done<std::vector<SignedItem>> done = std::move(done_);
  done(std::move(result));  // the owner destroys this
}

Result<std::vector<SignBatch::Made>> SignBatch::make(std::vector<SpiffeId> ids, KeyType type) {
  std::vector<Made> made;
  const Bytes subject = encode_name({{kOidCountry, "US"}, {kOidOrganization, "SPIRE"}});
  for (const SpiffeId& id : ids) {
    TRY_ASSIGN(const PrivateKey key, PrivateKey::generate(type));
    TRY_ASSIGN(Bytes csr, make_csr({subject, key.public_key().spki(), {id.text()}, {}}, key));
    made.push_back({key.pkcs8(), key.public_key().spki(), std::move(csr)});
  }
  return made;
}

std::vector<SignedItem> SignBatch::read(std::vector<SignItem> items, std::vector<Made> made,
                                        const wire::Message<Response>& response) {
  std::vector<SignedItem> out;
  for (size_t i = 0; i < items.size(); i++) {
    auto svid = read_one(items[i], made[i], response, i);
    out.push_back({std::move(items[i]), std::move(svid)});
  }
  return out;
}

Result<std::unique_ptr<CachedSvid>> SignBatch::read_one(const SignItem& item, Made& made,
                                                        const wire::Message<Response>& response, size_t i) {
  const auto& result = response->results[i];
  TRY(wire::read_status(result.has_status, result.status));
  if (!result.has_svid) return fail(Code::internal, "the server's answer has no SVID");
  TRY_ASSIGN(const wire::X509Svid svid, wire::read_x509_svid(result.svid));
  TRY_ASSIGN(const std::vector<Certificate> chain, parse_chain(svid.chain));
  const Certificate& leaf = chain.front();
  TRY_ASSIGN(const SpiffeId id, spiffe_id_of(leaf));
  if (id != item.spiffe_id) return fail(Code::internal, "the server signed \"" + id.text() + "\" instead");
  if (leaf.key.spki() != made.spki) return fail(Code::internal, "the server signed another key");
  auto cached = std::make_unique<CachedSvid>();
  for (const Bytes& certificate : svid.chain) append(cached->chain, certificate);
  cached->key = std::move(made.key);
  cached->not_before = leaf.not_before;
  cached->not_after = leaf.not_after;
  cached->root_key_id = chain.back().authority_key_id;
  cached->revision_number = item.revision_number;
  cached->created_at = item.created_at;
  return cached;
}

}  // namespace limpet::agent
