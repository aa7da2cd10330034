// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: destroys a flow after each of its steps. Every flow has one such test; under AddressSanitizer it proves
// that nothing points at a flow any more once it is gone, whatever it was waiting for.
//
// A scenario is built by a factory from a fresh FakeLoop and starts itself. It is either the flow alone, or a struct of
// the flow and the fakes it talks to, where the member `flow` is the owning pointer:
//
//   struct Scenario {
//     explicit Scenario(FakeLoop& loop) : pair(connect_memory(loop)), server(*pair.b) {
//       flow = std::make_unique<AttestAgentFlow>(loop, *pair.a);
//       flow->start();
//     }
//     MemoryPair pair;
//     FakeServer server;
//     std::unique_ptr<AttestAgentFlow> flow;   // last member: it dies first
//   };
//   TEST(AttestAgentFlow, MayDieAtEachOfItsSteps) {
//     const size_t steps = destroy_at_every_step([](FakeLoop& loop) { return std::make_unique<Scenario>(loop); });
//     EXPECT_GT(steps, 5u);   // it did run: a scenario that ends at once proves nothing
//   }
//
// A step is one task, one worker job, or, when nothing is ready, the passing of time until the next timer. First the
// scenario runs to its end (nothing ready and no timer left, or `most` steps: one with a timer that always restarts has
// no end) and its N steps are counted. Then, for each i from 0 to N, a fresh scenario runs i steps, its flow is
// destroyed, and the rest runs on without it. The result is N. A scenario must do the same each time: no real time, no
// randomness.

#include <cstddef>
#include <memory>

#include "loop/fake_loop.h"

namespace limpet {

// One step of a loop; false: nothing is left to happen.
inline bool step(FakeLoop& loop) { return loop.run_one() || loop.run_next_timer(); }

inline size_t steps(FakeLoop& loop, size_t most) {
  size_t count = 0;
  while (count < most && step(loop)) count++;
  return count;
}

template <class Factory>
size_t destroy_at_every_step(Factory make, size_t most = 2000) {
  size_t total = 0;
  {
    FakeLoop loop;
    const auto scenario = make(loop);
    total = steps(loop, most);
  }
  for (size_t i = 0; i <= total; i++) {
    FakeLoop loop;
    auto scenario = make(loop);
    steps(loop, i);
    if constexpr (requires { scenario->flow.reset(); }) {
      scenario->flow.reset();
    } else {
      scenario.reset();
    }
    steps(loop, most);
  }
  return total;
}

}  // namespace limpet
