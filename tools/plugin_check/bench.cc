// SPDX-License-Identifier: Apache-2.0
// The loop, arguments' memory, and the bookkeeping of flaws.
#include "plugin_check/bench.h"

#include <sys/mman.h>
#include <unistd.h>
#include <uv.h>

#include <cstdlib>
#include <cstring>

namespace limpet::check {

Loan::~Loan() {
  for (const Piece& piece : pieces_) {
    if (sheltered_) {
      std::free(piece.address);
    } else {
      ::munmap(piece.address, piece.size);
    }
  }
}

void* Loan::copy(const void* from, size_t size) {
  void* to = nullptr;
  size_t taken = std::max<size_t>(size, 1);
  if (sheltered_) {
    to = std::malloc(taken);
  } else {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    taken = (taken + page - 1) / page * page;
    to = ::mmap(nullptr, taken, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (to == MAP_FAILED) to = nullptr;
  }
  if (to == nullptr) std::abort();
  if (size > 0) std::memcpy(to, from, size);
  pieces_.push_back({to, taken});
  return to;
}

limpet_str Loan::text(std::string_view content) {
  if (content.empty()) return {nullptr, 0};
  return {static_cast<const char*>(copy(content.data(), content.size())), content.size()};
}
limpet_bytes Loan::bytes(std::string_view content) {
  if (content.empty()) return {nullptr, 0};
  return {static_cast<const uint8_t*>(copy(content.data(), content.size())), content.size()};
}

void Loan::call_returned() {
  if (sheltered_) return;
  for (const Piece& piece : pieces_) {
    std::memset(piece.address, 0xdb, piece.size);
    ::mprotect(piece.address, piece.size, PROT_NONE);
  }
}

Bench::Bench() = default;
Bench::~Bench() { forget(); }

void Bench::note(Flaw flaw, std::string what) {
  const std::lock_guard lock(mutex_);
  flaws_.try_emplace(flaw, std::move(what));
}

std::string Bench::first(Flaw flaw) {
  const std::lock_guard lock(mutex_);
  const auto place = flaws_.find(flaw);
  return place == flaws_.end() ? std::string() : place->second;
}

std::string Bench::first_of(std::vector<Flaw> of) {
  for (const Flaw flaw : of) {
    if (std::string what = first(flaw); !what.empty()) return what;
  }
  return {};
}

Op& Bench::new_op(HostSide& host, Answer kind, bool sheltered) {
  ops_.push_back(std::make_unique<Op>(host, kind, sheltered));
  return *ops_.back();
}

HostSide& Bench::new_host(Offer offer, const limpet_component& component) {
  hosts_.push_back(std::make_unique<HostSide>(*this, offer, component));
  return *hosts_.back();
}

void Bench::forget() {
  run_for(0);  // what was posted to a host that is closed
  ops_.clear();
  hosts_.clear();
}

bool Bench::run_until(const std::function<bool()>& ready, int64_t ms) {
  const auto end = Clock::now() + std::chrono::milliseconds(ms);
  for (int idle = 0;; ++idle) {
    uv_run(loop.raw(), UV_RUN_NOWAIT);
    if (ready()) return true;
    if (Clock::now() >= end) return false;
    if (idle > 50) std::this_thread::sleep_for(std::chrono::microseconds(idle > 1000 ? 1000 : 200));
  }
}

void Bench::run_for(int64_t ms) {
  run_until([] { return false; }, ms);
}

}  // namespace limpet::check
