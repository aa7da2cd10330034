// SPDX-License-Identifier: Apache-2.0
// BatchDeleteFederatedBundle. The entries that federate with the trust domains are looked for first, a slice a turn of
// the loop; what happens to them is in the same commit as the bundles' end. Entries that changed in between are looked
// at anew, so that none goes on federating with a bundle that is gone.
#include <map>
#include <set>

#include "proto/spire_bundle.pb.h"
#include "server/batch_flow.h"
#include "server/bundle_drafts.h"
#include "server/federated_bundles.h"
#include "server/wire_values.h"
#include "store/change_log.h"
#include "store/codec.h"
#include "store/entries.h"
#include "wire/api_types.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

constexpr size_t kRowsPerTurn = 2'000;  // some 5 ms
constexpr int kAttempts = 32;           // any commit of anybody may come between

using Request = spire_api_server_bundle_v1_BatchDeleteFederatedBundleRequest;
using Response = spire_api_server_bundle_v1_BatchDeleteFederatedBundleResponse;

enum class Mode : int32_t { restrict = 0, remove = 1, dissociate = 2 };

struct Outcome {
  std::optional<Error> error;
  std::string trust_domain;  // as asked
};

class DeleteFederatedFlow final : public wire::UnaryFlow<Request, Response> {
 public:
  DeleteFederatedFlow(Context& context, wire::ServerCall& call)
      : UnaryFlow(call), context_(context), next_turn_(context.loop) {}

 private:
  // 1. the mode, and which trust domains are meant
  void handle(const Request& request) override {
    const int32_t mode = enum_number(request.mode);
    if (mode < 0 || mode > 2) {
      return refuse({Code::invalid_argument,
                     "failed to parse deletion mode: unhandled delete mode \"" + std::to_string(mode) + "\""});
    }
    mode_ = static_cast<Mode>(mode);
    asked_ = wire::read_strings(request.trust_domains, request.trust_domains_count);
    for (const std::string& name : asked_) {
      if (const auto trust_domain = TrustDomain::parse(name)) names_.insert(trust_domain->name());
    }
    begin();
  }
  void begin() {
    after_ = 0;
    rows_.clear();
    seen_ = context_.store.read().revision();
    on_turn();
  }
  // 2. a slice of entries a turn
  void on_turn() {
    size_t looked_at = 0;
    const auto scanned = scan_entries(context_.store.read(), after_, [this, &looked_at](EntryRow&& row) {
      after_ = row.row;
      if (federates(row.entry)) rows_.emplace(row.row, Planned{row, row.entry, false});
      return ++looked_at < kRowsPerTurn;
    });
    if (!scanned) return refuse(Error(scanned.error()).within("failed to delete federated bundle"));
    if (looked_at >= kRowsPerTurn) return next_turn_.start<&DeleteFederatedFlow::on_turn>(0, this);
    commit();
  }
  [[nodiscard]] bool federates(const Entry& entry) const {
    return std::ranges::any_of(entry.federates_with, [this](const std::string& name) { return names_.contains(name); });
  }
  // 3. judge, and write all of it at once
  void commit() {
    outcomes_.clear();
    ChangeSet changes;
    {
      const Snapshot snapshot = context_.store.read();
      if (auto caught_up = catch_up(snapshot); !caught_up)
        return refuse(Error(caught_up.error()).within("failed to delete federated bundle"));
      require_newest(changes, seen_);
      BundleDrafts drafts(snapshot);
      for (const std::string& name : asked_) outcomes_.push_back({judge(name, drafts), name});
      drafts.write(changes);
    }
    for (const auto& [row, planned] : rows_) {
      if (planned.removed) {
        EntryTable::remove(changes, planned.old);
      } else if (planned.now.federates_with != planned.old.entry.federates_with) {
        Entry entry = planned.now;
        entry.revision_number++;  // agents see by it that the entry changed
        EntryTable::update(changes, planned.old, entry);
      }
    }
    if (changes.operations().empty()) return answer();
    context_.store.commit(std::move(changes), committed_.then<&DeleteFederatedFlow::on_committed>(this));
  }
  // What was written since the slices went by, or since the last attempt.
  Result<void> catch_up(const Snapshot& snapshot) {
    std::set<uint64_t> written;
    TRY(snapshot.changes(seen_, [&written](uint64_t, const std::vector<limpet::Change>& changes) {
      for (const auto& change : changes) {
        if (change.table == TableId::entries) written.insert(decode_u64(change.key));
      }
      return true;
    }));
    for (const uint64_t row : written) rows_.erase(row);
    for (auto& [row, planned] : rows_) planned = Planned{planned.old, planned.old.entry, false};
    for (const uint64_t row : written) {
      TRY(scan_entries(snapshot, row - 1, [this, row](EntryRow&& found) {
        if (found.row == row && federates(found.entry)) rows_.emplace(row, Planned{found, found.entry, false});
        return false;
      }));
    }
    seen_ = snapshot.revision();
    return {};
  }
  std::optional<Error> judge(const std::string& name, BundleDrafts& drafts) {
    const auto trust_domain = TrustDomain::parse(name);
    if (!trust_domain) {
      return Error{Code::invalid_argument, "trust domain argument is not valid: " + trust_domain.error().message};
    }
    if (*trust_domain == context_.trust_domain) {
      return Error{Code::invalid_argument, "removing the bundle for the server trust domain is not allowed"};
    }
    const auto known = drafts.find(*trust_domain);
    if (!known) return Error(known.error()).within("failed to delete federated bundle");
    if (*known == nullptr) return Error{Code::not_found, "bundle not found"};
    if (auto refused = settle_entries(trust_domain->name())) return refused;
    drafts.remove(*trust_domain);
    return std::nullopt;
  }
  // What becomes of the entries that federate with `name`.
  std::optional<Error> settle_entries(const std::string& name) {
    size_t users = 0;
    for (auto& [row, planned] : rows_) {
      if (planned.removed || !std::ranges::count(planned.now.federates_with, name)) continue;
      ++users;
      if (mode_ == Mode::remove) planned.removed = true;
      if (mode_ == Mode::dissociate) std::erase(planned.now.federates_with, name);
    }
    if (mode_ != Mode::restrict || users == 0) return std::nullopt;
    return Error{Code::failed_precondition, "failed to delete federated bundle: cannot delete bundle; federated with " +
                                                std::to_string(users) + " registration entries"};
  }
  // 4. written, or somebody else was faster
  void on_committed(Result<uint64_t> revision) {
    if (!revision && revision.error().code == Code::aborted && ++attempts_ < kAttempts) return commit();
    for (Outcome& outcome : outcomes_) {
      if (outcome.error) continue;
      if (revision) {
        context_.logger.info("Federated bundle deleted", {{"trust_domain", outcome.trust_domain}});
      } else {
        outcome.error = Error(revision.error()).within("failed to delete federated bundle");
      }
    }
    answer();
  }
  void answer() {
    wire::Message<Response> response;
    auto* out = wire::set_array(response->results, response->results_count, outcomes_.size());
    for (size_t i = 0; i < outcomes_.size(); ++i) {
      wire::set_string(out[i].trust_domain, outcomes_[i].trust_domain);
      write_outcome(outcomes_[i].error, out[i]);
    }
    reply(response);
  }

  struct Planned {
    EntryRow old;
    Entry now;
    bool removed;
  };
  Context& context_;
  Timer next_turn_;
  Mode mode_ = Mode::restrict;
  std::vector<std::string> asked_;
  std::set<std::string> names_;
  uint64_t after_ = 0;
  uint64_t seen_ = 0;                 // the revision up to which changes are in rows_
  std::map<uint64_t, Planned> rows_;  // the entries that federate with any of them
  std::vector<Outcome> outcomes_;
  Pending<uint64_t> committed_;
  int attempts_ = 0;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> open_delete_federated(Context& context, wire::ServerCall& call) {
  return std::make_unique<DeleteFederatedFlow>(context, call);
}

}  // namespace limpet::server
