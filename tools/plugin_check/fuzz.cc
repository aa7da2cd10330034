// SPDX-License-Identifier: Apache-2.0
// Random calls from a seed: the same seed makes the same calls in the same order.
#include <unistd.h>

#include <random>

#include "plugin_check/check.h"

namespace limpet::check {
namespace {

// Two instances, used at random until the time is over.
class Fuzz {
 public:
  explicit Fuzz(Check& check) : c_(check), random_(check.seed) {}

  void run() {
    for (Subject*& s : subjects_) {
      s = &s == &subjects_[0] ? c_.ready() : c_.ready_beside();
      if (s == nullptr) return;
    }
    const auto end = Clock::now() + std::chrono::milliseconds(c_.fuzz_ms);
    size_t calls = 0;
    for (; Clock::now() < end && !c_.failed(); ++calls) {
      act(subjects_[below(2)]);
      if (below(4) == 0) c_.bench().run_for(below(3) == 0 ? 1 : 0);
      if (open_.size() > 24 && !settle()) return;
    }
    if (!settle()) return;
    for (Subject* s : subjects_) {
      if (!c_.destroyed(*s)) return;
    }
    c_.bench().run_for(50);
    const std::string what = c_.bench().first_of({Flaw::done_twice, Flaw::wrong_done, Flaw::after_destroy,
                                                  Flaw::bad_status, Flaw::bad_result, Flaw::late_return});
    if (!what.empty()) return c_.fail(what);
    c_.note(std::to_string(calls) + " steps");
  }

 private:
  std::string own_config(const Subject* s) {
    return c_.expand(s == subjects_[0] || c_.config.second.empty() ? c_.config.data : c_.config.second);
  }
  size_t below(size_t n) { return static_cast<size_t>(random_()) % n; }

  std::string noise() {
    static constexpr size_t kSizes[] = {0, 1, 2, 16, 31, 32, 33, 64, 255, 4096, 4097, 70'000};
    std::string out(kSizes[below(std::size(kSizes))], '\0');
    const bool text = below(2) == 0;
    for (char& byte : out) byte = static_cast<char>(text ? 0x20 + below(95) : below(256));
    return out;
  }
  // Something the plugin said before, perhaps altered; or noise.
  std::string words() {
    if (heard_.empty() || below(3) == 0) return noise();
    std::string out = heard_[below(heard_.size())];
    if (!out.empty() && below(2) == 0) out[below(out.size())] = static_cast<char>(below(256));
    if (below(4) == 0) out.resize(below(out.size() + 1));
    return out;
  }
  // The host gives texts in UTF-8 only.
  std::string text() {
    static constexpr const char* kLetters[] = {
        "a", "Z", "0", "/", "\"", "\\", "\n", " ", "\xc3\xa9", "\xf0\x9f\x98\x80", "{", "}"};
    std::string out;
    for (size_t left = below(4) == 0 ? below(5000) : below(40); left > 0; --left)
      out += kLetters[below(std::size(kLetters))];
    return out;
  }
  std::string id() { return below(3) == 0 ? text() : "key-" + std::to_string(below(4)); }

  void act(Subject* s) {
    CallOptions options;
    options.deadline_ms = below(8) == 0 ? 0 : 10'000;
    Op* op = nullptr;
    switch (below(12)) {
      case 0:
        op = &s->configure(own_config(s), below(2) == 0, c_.trust_domain, options);
        break;
      case 1:
        op = &s->configure(text(), below(2) == 0, c_.trust_domain, options);
        break;
      case 2:
        op = &probe(*s, options);
        break;
      case 3:
        if (!open_.empty()) {
          const auto& [whose, one] = open_[below(open_.size())];
          whose->cancel(*one);
        }
        return;
      default:
        op = call(*s, options);
        break;
    }
    if (op == nullptr) return;
    open_.emplace_back(s, op);
    if (below(6) == 0) s->cancel(*op);
  }

  Op* call(Subject& s, CallOptions options) {
    switch (s.kind()) {
      case Kind::workload:
        return &attest(
            s,
            {below(2) == 0 ? ::getpid() : static_cast<int32_t>(random_()), -1, static_cast<uint32_t>(random_()),
             static_cast<uint32_t>(random_()), below(4) == 0 ? text() : "", noise()},
            options);
      case Kind::key_manager:
        switch (below(4)) {
          case 0:
            return &generate(s, id(), below(4) == 0 ? static_cast<uint32_t>(random_()) : 1, options);
          case 1:
            return &list(s, options);
          case 2:
            return has_remove(s) ? &remove(s, id(), options) : nullptr;
          default:
            return &sign(s,
                         {id(), static_cast<uint32_t>(4 + below(5)), std::string(below(2) == 0 ? 32 : below(80), 'd'),
                          static_cast<int32_t>(below(70)) - 1},
                         options);
        }
      case Kind::agent: {
        Conversation& to = conversation(s);
        return below(2) == 0 ? &payload(s, to, options) : &answer(s, to, words(), options);
      }
      case Kind::server:
        return &step(s, conversation(s), words(), options);
      case Kind::sealer:
        return below(2) == 0 ? &seal(s, noise(), noise(), options) : &unseal(s, words(), noise(), options);
      case Kind::upstream:
        if (below(4) == 0) return &publish_jwt_key(s, text(), words(), options);
        return &mint_ca(s, below(2) == 0 ? sample_csr() : words(), static_cast<uint32_t>(random_()), options);
      case Kind::publisher:
        return &publish(s, {{words(), words()}, text(), words()}, options);
      case Kind::unknown:
        break;
    }
    return nullptr;
  }

  // A session has one call at a time: the host sees to it. So a call gets a new session, or one that rests.
  Conversation& conversation(Subject& s) {
    auto& resting = resting_[&s];
    Conversation* one = nullptr;
    if (!resting.empty() && below(2) == 0) {
      one = resting.back();
      resting.pop_back();
    } else {
      one = &s.converse();
    }
    busy_.emplace_back(&s, one);
    return *one;
  }

  // Waits for everything. False after fail().
  bool settle() {
    for (const auto& [s, op] : open_) {
      if (!c_.answered(*s, *op, "a random call", 60'000)) return false;
      if (!op->bytes.empty() && heard_.size() < 64) heard_.push_back(op->bytes);
    }
    open_.clear();
    for (const auto& [s, conversation] : busy_) {
      if (resting_[s].size() < 4) {
        resting_[s].push_back(conversation);
      } else {
        s->close(*conversation);
      }
    }
    busy_.clear();
    return true;
  }

  Check& c_;
  std::mt19937_64 random_;
  Subject* subjects_[2] = {};
  std::vector<std::pair<Subject*, Op*>> open_;
  std::map<Subject*, std::vector<Conversation*>> resting_;
  std::vector<std::pair<Subject*, Conversation*>> busy_;
  std::vector<std::string> heard_;
};

void calls(Check& c) { Fuzz(c).run(); }

}  // namespace

std::span<const TestCase> fuzz_tests() {
  static const TestCase kTests[] = {{.name = "fuzz.calls",
                                     .rule = "random calls are each answered once, and nothing crashes",
                                     .run = calls,
                                     .needs = {"op.answers", "op.once"}}};
  return kTests;
}

}  // namespace limpet::check
