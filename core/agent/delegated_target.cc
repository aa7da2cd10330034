// SPDX-License-Identifier: Apache-2.0
#include "agent/delegated_target.h"

#include <unistd.h>

#include <utility>

#include "wire/api_types.h"
#include "wire/peer_info.h"

namespace limpet::agent {

namespace {

Result<SelectorSet> read_target(std::span<const spire_api_types_Selector> selectors) {
  if (selectors.size() > DelegatedApi::kMostSelectors)
    return fail(Code::invalid_argument,
                "selectors has more than " + std::to_string(DelegatedApi::kMostSelectors) + " selectors");
  auto read = wire::read_selectors(selectors.data(), static_cast<pb_size_t>(selectors.size()));
  if (!read) return fail(Code::invalid_argument, "could not parse provided selectors");
  return make_selector_set(std::move(*read));
}

}  // namespace

DelegatedTarget::~DelegatedTarget() {
  attest_.reset();  // looks at the descriptor
  if (process_.pidfd >= 0) ::close(process_.pidfd);
}

void DelegatedTarget::start(std::span<const spire_api_types_Selector> selectors, int32_t pid, Done<SelectorSet> done) {
  done_ = std::move(done);
  if (selectors.empty() == (pid == 0))
    return end_later(fail(Code::invalid_argument, "must provide either selectors or non-zero PID, but not both"));
  if (pid != 0) return attest(pid);
  end_later(read_target(selectors));
}

void DelegatedTarget::attest(int32_t pid) {
  process_ = wire::describe_process(pid);
  if (!process_.credentials) return end_later(fail(Code::internal, "could not attest provided pid"));
  attest_ = std::make_unique<WorkloadAttest>(parts_.loop, parts_.log, parts_.attestors);
  attest_->start(process_, attested_.then<&DelegatedTarget::on_attested>(this));
}

void DelegatedTarget::on_attested(Result<SelectorSet> selectors) {
  attest_.reset();
  Done<SelectorSet> done = std::move(done_);
  if (!selectors) return done(fail(Code::internal, "could not attest provided pid"));
  done(std::move(selectors));
}

void DelegatedTarget::end_later(Result<SelectorSet> selectors) {
  parts_.loop.post([s = std::move(selectors), done = std::move(done_)]() mutable { done(std::move(s)); });
}

}  // namespace limpet::agent
