// SPDX-License-Identifier: Apache-2.0
#pragma once
// What BatchCreateEntry, BatchUpdateEntry and BatchDeleteEntry share: the outcome of an item, and the answer made of
// it.

#include <optional>
#include <string>
#include <vector>

#include "server/batch_flow.h"
#include "server/entry_api.h"

namespace limpet::server {

// One item's outcome: the entry as it will be, or why not. An existing entry may come with an error.
struct Outcome {
  std::optional<Error> error;
  std::optional<Entry> entry;
  std::string id;
};

inline Outcome failed_item(Code code, std::string message) {
  return {Error{code, std::move(message)}, std::nullopt, {}};
}

// The shape all three share.
template <class Request, class Response>
class EntryBatchFlow : public BatchFlow<Request, Response> {
 public:
  using BatchFlow<Request, Response>::BatchFlow;

 protected:
  // Judges the items of `request` and fills `changes`; one outcome each, in order.
  virtual std::vector<Outcome> judge_all(const Request& request, const Snapshot& snapshot, ChangeSet& changes) = 0;
  virtual void write(const Request& request, const std::vector<Outcome>& outcomes, Response& response) = 0;
  virtual const char* verb() const = 0;

 private:
  void judge(const Request& request, const Snapshot& snapshot, ChangeSet& changes) final {
    outcomes_ = judge_all(request, snapshot, changes);
  }
  void settle(const Result<uint64_t>& revision) final {
    if (revision) return;
    for (Outcome& outcome : outcomes_) {
      if (outcome.error) continue;
      outcome.error = Error(revision.error()).within(std::string("failed to ") + verb() + " entry");
      outcome.entry.reset();
    }
  }
  void write(const Request& request, Response& response) final { write(request, outcomes_, response); }

  std::vector<Outcome> outcomes_;
};

// Create and update answer alike: status and entry.
template <class Request, class Response>
void write_entries(const Request& request, const std::vector<Outcome>& outcomes, Response& response) {
  const auto* mask = wire::mask_of(request.has_output_mask, request.output_mask);
  auto* out = wire::set_array(response.results, response.results_count, outcomes.size());
  for (size_t i = 0; i < outcomes.size(); ++i) {
    write_outcome(outcomes[i].error, out[i]);
    if (!outcomes[i].entry) continue;
    out[i].has_entry = true;
    wire::write_entry(out[i].entry, *outcomes[i].entry, mask);
  }
}

// Every federated trust domain must have a bundle here, and still have it when the entry is written.
std::optional<Error> check_federation(const Snapshot& snapshot, const Entry& entry, const char* verb,
                                      ChangeSet& changes);

}  // namespace limpet::server
