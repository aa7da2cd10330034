// SPDX-License-Identifier: Apache-2.0
// Tests of what becomes of a call: answered once, whatever happens.
#include "plugin_check/check.h"

namespace limpet::check {
namespace {

constexpr int64_t kCancelMs = 2'000;  // how long the host waits for a cancelled call before it abandons the instance
constexpr int64_t kHoldMs = 250;      // a call that holds the loop so long each time is no accident of scheduling
constexpr int64_t kBudgetMs = 10;
constexpr size_t kMuch = 1u << 20;

void answers(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Op& op = probe(*s);
  if (!c.answered(*s, op, "a call")) return;
  c.note("a call gave " + op.outcome());
  c.destroyed(*s);
}

void once(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  for (int i = 0; i < 3; ++i) {
    if (!c.answered(*s, probe(*s), "a call")) return;
  }
  c.bench().run_for(100);
  if (!c.destroyed(*s)) return;
  if (const std::string what = c.bench().first_of({Flaw::done_twice, Flaw::wrong_done}); !what.empty()) c.fail(what);
}

void blocking_returns(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  if (!s->blocking()) return c.skip("the component is not BLOCKING");
  if (!c.answered(*s, probe(*s), "a call") || !c.destroyed(*s)) return;
  if (const std::string what = c.bench().first(Flaw::late_return); !what.empty()) c.fail(what);
}

void after_destroy(Check& c) {
  for (int i = 0; i < 3; ++i) {
    Subject* s = c.ready();
    if (s == nullptr) return;
    Op& op = probe(*s);
    if (!c.answered(*s, op, "a call")) return;
    s->cancel(op);
    if (!c.destroyed(*s)) return;
  }
  c.bench().run_for(200);
  if (const std::string what = c.bench().first(Flaw::after_destroy); !what.empty()) c.fail(what);
}

void cancel_before(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  if (c.component->cancel == nullptr) return c.skip("the component has no cancel");
  // on a BLOCKING instance's thread a call may be between the queue and the function when its cancel comes
  Op& never = c.bench().new_op(s->host(), Answer::plain, true);
  s->cancel(never);
  const Op& op = probe(*s);
  if (!c.answered(*s, op, "a call after a cancel of one that never began")) return;
  if (op.code == LIMPET_CANCELLED) return c.fail("a cancel of another call cancelled this one");
  if (never.dones > 0) return c.fail("a call that never began was answered");
  c.destroyed(*s);
}

void cancel_during(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  for (int i = 0; i < 4; ++i) {
    Op& op = probe(*s, {.deadline_ms = CallOptions::kUnlimited});
    if (i > 0) c.bench().run_for(i);  // at several moments of its life
    s->cancel(op);
    if (!s->wait(op, kCancelMs)) return c.fail("not answered within 2 s of cancel");
  }
  const Op& after = probe(*s);
  if (c.answered(*s, after, "a call after a cancelled one")) c.destroyed(*s);
}

void cancel_after(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  if (c.component->cancel == nullptr) return c.skip("the component has no cancel");
  Op& op = probe(*s);
  if (!c.answered(*s, op, "a call")) return;
  s->cancel(op);
  s->cancel(op);
  const Op& after = probe(*s);
  if (!c.answered(*s, after, "a call after a cancel that came too late")) return;
  if (after.code == LIMPET_CANCELLED) return c.fail("a cancel of a call that was over cancelled the next one");
  c.destroyed(*s);
}

void no_time(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Op& op = probe(*s, {.deadline_ms = 0});
  if (!c.answered(*s, op, "a call whose deadline has passed")) return;
  const Op& after = probe(*s);
  if (c.answered(*s, after, "a call after it")) c.destroyed(*s);
}

void crowd(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  std::vector<const Op*> ops;
  for (int i = 0; i < 16; ++i) ops.push_back(&probe(*s));
  for (const Op* op : ops) {
    if (!c.answered(*s, *op, "one of sixteen calls at once", 60'000)) return;
  }
  c.destroyed(*s);
}

void new_threads(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  if (!s->blocking()) return c.skip("the component is not BLOCKING: its calls come on the loop");
  const Op& before = probe(*s);
  if (!c.answered(*s, before, "a call")) return;
  s->use_new_threads();
  for (int i = 0; i < 4; ++i) {
    const Op& op = probe(*s);
    if (!c.answered(*s, op, "a call on another thread")) return;
    if (op.code != before.code) return c.fail("on another thread a call gave " + op.outcome());
  }
  c.destroyed(*s);
}

void borrowed(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  // a plugin that kept a pointer into the arguments dies here of a signal
  const Op& op = probe(*s, {.sheltered = false});
  if (!c.answered(*s, op, "a call")) return;
  const Op& config = s->configure(c.expand(c.config.data), false, c.trust_domain, {.sheltered = false});
  if (!c.answered(*s, config, "configure")) return;
  const Op& after = probe(*s, {.sheltered = false});
  if (!c.answered(*s, after, "a call")) return;
  if (told(op) != told(after)) return c.fail("after its arguments were taken away a call gave " + told(after));
  c.destroyed(*s);
}

void statuses(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  if (!c.answered(*s, s->configure(R"({"plugin_check_knows_no_such_key":1})", false, c.trust_domain), "configure"))
    return;
  if (!c.answered(*s, probe(*s), "a call")) return;
  if (!c.answered(*s, oversized(*s, 100), "a wrong call")) return;
  if (!c.destroyed(*s)) return;
  if (const std::string what = c.bench().first_of({Flaw::bad_status, Flaw::bad_result}); !what.empty()) c.fail(what);
}

void no_services(Check& c) {
  for (const Offer offer : {Offer::nothing, Offer::refusing}) {
    Subject s(c.bench(), *c.component, offer);
    if (s.create() != LIMPET_OK) {
      c.warn("create fails on a host without optional services");
      continue;
    }
    const Op& op = s.configure(c.expand(c.config.data), false, c.trust_domain);
    if (!c.answered(s, op, "configure on a host without optional services")) return;
    if (op.ok() && !c.answered(s, probe(s), "a call on a host without optional services")) return;
    if (!c.destroyed(s)) return;
  }
}

void large(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Op& op = oversized(*s, kMuch);
  if (!c.answered(*s, op, "a call with 1 MiB of argument", 60'000)) return;
  const std::string json = R"({"plugin_check_knows_no_such_key":")" + std::string(kMuch, 'A') + R"("})";
  if (!c.answered(*s, s->configure(json, false, c.trust_domain), "a configuration of 1 MiB", 60'000)) return;
  if (c.answered(*s, probe(*s), "a call after it")) c.destroyed(*s);
}

void empty(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Op& op = oversized(*s, 0);
  if (!c.answered(*s, op, "a call with empty arguments")) return;
  if (c.answered(*s, probe(*s), "a call after it")) c.destroyed(*s);
}

void loop_budget(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  if (s->blocking()) return c.skip("the component is BLOCKING: it has a thread of its own");
  int64_t shortest = INT64_MAX;
  for (int i = 0; i < 3; ++i) {
    const Op& op = probe(*s);
    if (!c.answered(*s, op, "a call")) return;
    shortest = std::min(shortest, s->held_ms(op));
  }
  if (!c.destroyed(*s)) return;
  if (shortest >= kHoldMs) {
    return c.fail("a call held the loop for " + std::to_string(shortest) +
                  " ms each of three times; 10 are allowed: set LIMPET_BLOCKING, or work on a thread of your own");
  }
  if (shortest > kBudgetMs) c.warn("a call held the loop for " + std::to_string(shortest) + " ms; 10 are allowed");
}

}  // namespace

std::span<const TestCase> op_tests() {
  static const TestCase kTests[] = {
      {.name = "op.answers", .rule = "a call is answered", .run = answers, .needs = {"instance.configures"}},
      {.name = "op.once", .rule = "done is called once", .run = once, .needs = {"op.answers"}},
      {.name = "op.blocking_returns",
       .rule = "a BLOCKING call has called done when it returns",
       .run = blocking_returns,
       .needs = {"op.answers"}},
      {.name = "op.after_destroy",
       .rule = "after destroy the host is left alone",
       .run = after_destroy,
       .needs = {"op.answers"}},
      {.name = "op.cancel_before",
       .rule = "cancel of a call that has not begun is harmless",
       .run = cancel_before,
       .needs = {"op.answers"}},
      {.name = "op.cancel_during",
       .rule = "a cancelled call is answered soon",
       .run = cancel_during,
       .needs = {"op.answers"}},
      {.name = "op.cancel_after",
       .rule = "cancel of a call that is over is harmless",
       .run = cancel_after,
       .needs = {"op.answers"}},
      {.name = "op.no_time",
       .rule = "a call whose deadline has passed is answered",
       .run = no_time,
       .needs = {"op.answers"}},
      {.name = "op.crowd", .rule = "sixteen calls at once are answered", .run = crowd, .needs = {"op.answers"}},
      {.name = "op.new_threads",
       .rule = "BLOCKING calls may come from any thread",
       .run = new_threads,
       .needs = {"op.answers"}},
      {.name = "op.borrowed",
       .rule = "arguments are not touched after the function returned",
       .run = borrowed,
       .needs = {"op.answers"}},
      {.name = "op.status",
       .rule = "errors have a code and a message, texts are UTF-8",
       .run = statuses,
       .needs = {"op.answers"}},
      {.name = "op.no_services",
       .rule = "a host without optional services is survived",
       .run = no_services,
       .needs = {"op.answers"}},
      {.name = "op.large", .rule = "arguments of 1 MiB are survived", .run = large, .needs = {"op.answers"}},
      {.name = "op.empty", .rule = "empty arguments are survived", .run = empty, .needs = {"op.answers"}},
      {.name = "op.loop_budget",
       .rule = "a call on the loop returns at once",
       .run = loop_budget,
       .needs = {"op.answers"}},
  };
  return kTests;
}

}  // namespace limpet::check
