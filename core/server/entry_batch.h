// SPDX-License-Identifier: Apache-2.0
#pragma once
// What BatchCreateEntry, BatchUpdateEntry and BatchDeleteEntry share: each item is judged against a snapshot and what
// the items before it will do, then all of them are one change set. If another call's commit came between, the batch is
// judged anew.

#include <optional>
#include <string>
#include <vector>

#include "server/entry_api.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::server {

// How often a batch is judged anew before the caller is told to try again.
inline constexpr int kBatchAttempts = 8;

// One item's outcome: the entry as it will be, or why not. An existing entry may come with an error.
struct Outcome {
  std::optional<Error> error;
  std::optional<Entry> entry;
  std::string id;
};

inline Outcome failed_item(Code code, std::string message) {
  return {Error{code, std::move(message)}, std::nullopt, {}};
}

// The shape all three share: judge every item, commit, answer.
template <class Request, class Response>
class BatchFlow : public wire::UnaryFlow<Request, Response> {
 public:
  BatchFlow(Context& context, wire::ServerCall& call) : wire::UnaryFlow<Request, Response>(call), context_(context) {}

 protected:
  // Judges the items of `request` and fills `changes`; one outcome each, in order.
  virtual std::vector<Outcome> judge(const Request& request, const Snapshot& snapshot, ChangeSet& changes) = 0;
  virtual void write(const Request& request, const std::vector<Outcome>& outcomes, Response& response) = 0;
  virtual const char* verb() const = 0;
  Context& context_;

 private:
  void handle(const Request& request) final {
    request_ = &request;
    attempt();
  }
  void attempt() {
    ++attempts_;
    ChangeSet changes;
    outcomes_ = judge(*request_, context_.store.read(), changes);
    if (changes.empty()) return answer();
    context_.store.commit(std::move(changes), committed_.template then<&BatchFlow::on_committed>(this));
  }
  void on_committed(Result<uint64_t> revision) {
    if (!revision && revision.error().code == Code::aborted && attempts_ < kBatchAttempts) return attempt();
    if (!revision) fail_all(revision.error());
    answer();
  }
  // The commit failed: nothing was written, so no item succeeded.
  void fail_all(const Error& why) {
    for (Outcome& outcome : outcomes_) {
      if (outcome.error) continue;
      outcome.error = Error(why).within(std::string("failed to ") + verb() + " entry");
      outcome.entry.reset();
    }
  }
  void answer() {
    wire::Message<Response> response;
    write(*request_, outcomes_, *response);
    this->reply(response);
  }

  const Request* request_ = nullptr;
  std::vector<Outcome> outcomes_;
  Pending<uint64_t> committed_;
  int attempts_ = 0;
};

template <class Result_>
void write_status(const Outcome& outcome, Result_& out) {
  if (outcome.error) {
    wire::write_error(out.has_status, out.status, *outcome.error);
  } else {
    wire::write_ok(out.has_status, out.status);
  }
}

// Create and update answer alike: status and entry.
template <class Request, class Response>
void write_entries(const Request& request, const std::vector<Outcome>& outcomes, Response& response) {
  const auto* mask = wire::mask_of(request.has_output_mask, request.output_mask);
  auto* out = wire::set_array(response.results, response.results_count, outcomes.size());
  for (size_t i = 0; i < outcomes.size(); ++i) {
    write_status(outcomes[i], out[i]);
    if (!outcomes[i].entry) continue;
    out[i].has_entry = true;
    wire::write_entry(out[i].entry, *outcomes[i].entry, mask);
  }
}

// Every federated trust domain must have a bundle here, and still have it when the entry is written.
std::optional<Error> check_federation(const Snapshot& snapshot, const Entry& entry, const char* verb,
                                      ChangeSet& changes);

}  // namespace limpet::server
