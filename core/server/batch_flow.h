// SPDX-License-Identifier: Apache-2.0
#pragma once
// The shape of the batches that change the store: every item is judged against one snapshot, all of them become one
// change set, and if another commit came between, all is judged anew.

#include <optional>

#include "server/context.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::server {

// How often a batch is judged anew before the caller is told to try again.
inline constexpr int kBatchAttempts = 8;

template <class Request, class Response>
class BatchFlow : public wire::UnaryFlow<Request, Response> {
 public:
  BatchFlow(Context& context, wire::ServerCall& call) : wire::UnaryFlow<Request, Response>(call), context_(context) {}

 protected:
  // Judges every item, from the first on, and fills `changes`.
  virtual void judge(const Request& request, const Snapshot& snapshot, ChangeSet& changes) = 0;
  // All of it was written, or on an error nothing. Not called where there was nothing to write.
  virtual void settle(const Result<uint64_t>& revision) = 0;
  virtual void write(const Request& request, Response& response) = 0;
  Context& context_;

 private:
  void handle(const Request& request) final {
    request_ = &request;
    attempt();
  }
  void attempt() {
    ++attempts_;
    ChangeSet changes;
    judge(*request_, context_.store.read(), changes);
    if (changes.empty()) return answer();
    context_.store.commit(std::move(changes), committed_.template then<&BatchFlow::on_committed>(this));
  }
  void on_committed(Result<uint64_t> revision) {
    if (!revision && revision.error().code == Code::aborted && attempts_ < kBatchAttempts) return attempt();
    settle(revision);
    answer();
  }
  void answer() {
    wire::Message<Response> response;
    write(*request_, *response);
    this->reply(response);
  }

  const Request* request_ = nullptr;
  Pending<uint64_t> committed_;
  int attempts_ = 0;
};

// The status of one item.
template <class Item>
void write_outcome(const std::optional<Error>& error, Item& out) {
  if (error) {
    wire::write_error(out.has_status, out.status, *error);
  } else {
    wire::write_ok(out.has_status, out.status);
  }
}

}  // namespace limpet::server
