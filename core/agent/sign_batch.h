// SPDX-License-Identifier: Apache-2.0
#pragma once
// One batch of workload SVIDs: makes keys and CSRs on workers, a few at a time, asks the server to sign them in one
// call, and checks each answer against its key and SPIFFE ID. Owned by the SvidRenewer; loop thread only.

#include <memory>
#include <string>
#include <vector>

#include "agent/identity_cache.h"
#include "agent/link.h"
#include "proto/spire_svid.pb.h"
#include "wire/unary.h"

namespace limpet::agent {

struct SignItem {
  std::string entry_id;
  SpiffeId spiffe_id;
  int64_t revision_number = 0;
  int64_t created_at = 0;
};
struct SignedItem {
  SignItem item;
  Result<std::unique_ptr<CachedSvid>> svid;
};

class SignBatch {
 public:
  static constexpr size_t kKeysPerJob = 16;  // 16 P-256 keys and CSRs burn some 30 ms of one worker

  SignBatch(Loop& loop, Link& link, KeyType key_type);
  // One answer per item, in order; an error when the call as a whole failed.
  void start(std::vector<SignItem> items, Done<std::vector<SignedItem>> done);

 private:
  using Request = spire_api_server_svid_v1_BatchNewX509SVIDRequest;
  using Response = spire_api_server_svid_v1_BatchNewX509SVIDResponse;
  struct Made {
    SecretBytes key;
    Bytes spki;
    Bytes csr;
  };

  void on_channel(Result<SharedChannel> channel);
  void make_keys();
  void on_keys(Result<std::vector<Made>> made);
  void ask();
  void on_signed(Result<wire::Message<Response>> response);
  void on_read(Result<std::vector<SignedItem>> read);
  void end(Result<std::vector<SignedItem>> result);
  static Result<std::vector<Made>> make(std::vector<SpiffeId> ids, KeyType type);
  static std::vector<SignedItem> read(std::vector<SignItem> items, std::vector<Made> made,
                                      const wire::Message<Response>& response);
  static Result<std::unique_ptr<CachedSvid>> read_one(const SignItem& item, Made& made,
                                                      const wire::Message<Response>& response, size_t i);

  Loop& loop_;
  Link& link_;
  KeyType key_type_;
  std::vector<SignItem> items_;
  std::vector<Made> made_;
  SharedChannel channel_;
  wire::UnaryCall<Request, Response> call_;
  Done<std::vector<SignedItem>> done_;
  Pending<SharedChannel> acquired_;
  Pending<std::vector<Made>> keyed_;
  Pending<wire::Message<Response>> signed_;
  Pending<std::vector<SignedItem>> read_;
};

}  // namespace limpet::agent
