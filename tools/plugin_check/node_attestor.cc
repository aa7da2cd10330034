// SPDX-License-Identifier: Apache-2.0
// Tests of node attestors. Where the plugin has both halves they are talked to each other, and then lied to.
#include "plugin_check/check.h"

namespace limpet::check {
namespace {

constexpr int kMaxRounds = 8;  // the host's bound
constexpr int64_t kStepMs = 60'000;

struct Halves {
  Subject* agent = nullptr;
  Subject* server = nullptr;
};

// Both halves, configured; false after fail() or skip().
bool both(Check& c, Halves& out) {
  const limpet_component* other = c.other_half();
  if (other == nullptr) {
    c.skip("this plugin has only one half of the attestor");
    return false;
  }
  Subject* mine = c.ready();
  Subject* theirs = mine == nullptr ? nullptr : c.ready(Offer::everything, other);
  if (theirs == nullptr) return false;
  const bool agent = mine->kind() == Kind::agent;
  out = {agent ? mine : theirs, agent ? theirs : mine};
  return true;
}

// What was said in one attestation.
struct Talk {
  std::vector<std::string> said;  // by the agent: payload, then answers
  std::vector<std::string> challenges;
  bool attested = false;
  std::string agent_path;
  std::vector<std::string> selectors;
  std::string refused;  // the server's error
};

// Plays one attestation; `change` may alter what the agent says. False after fail().
using Change = std::function<void(size_t round, std::string& said)>;
bool talk(Check& c, const Halves& h, Talk& out, const Change& change = {}) {
  Conversation& agent = h.agent->converse();
  Conversation& server = h.server->converse();
  const Op* op = &payload(*h.agent, agent);
  for (int round = 0; round <= kMaxRounds; ++round) {
    if (!c.answered(*h.agent, *op, "the agent half", kStepMs)) return false;
    if (!op->ok()) {
      if (change) break;  // lied to, it may notice
      c.fail("the agent half gave " + op->outcome());
      return false;
    }
    std::string said = op->bytes;
    if (change) change(out.said.size(), said);
    out.said.push_back(said);
    const Op& judged = step(*h.server, server, said);
    if (!c.answered(*h.server, judged, "the server half", kStepMs)) return false;
    out.refused = judged.ok() ? "" : judged.outcome();
    out.attested = judged.ok() && judged.attested;
    out.agent_path = judged.agent_path;
    out.selectors = judged.selectors;
    if (!judged.ok() || judged.attested) break;
    out.challenges.push_back(judged.bytes);
    op = &answer(*h.agent, agent, judged.bytes);
  }
  h.agent->close(agent);
  h.server->close(server);
  return true;
}

bool goes_well(Check& c, const Halves& h, Talk& out) {
  if (!talk(c, h, out)) return false;
  if (out.attested) return true;
  c.fail(out.refused.empty() ? "no verdict after 8 rounds" : "the server half refused the agent half: " + out.refused);
  return false;
}

bool end(Check& c, const Halves& h) { return c.destroyed(*h.agent) && c.destroyed(*h.server); }

void talks(Check& c) {
  Halves h;
  Talk first;
  if (!both(c, h) || !goes_well(c, h, first)) return;
  const std::string prefix = std::string("/spire/agent/") + c.component->name + "/";
  if (!first.agent_path.starts_with(prefix) || first.agent_path.size() == prefix.size())
    return c.fail("the agent path is " + first.agent_path + "; it must begin with " + prefix);
  for (const std::string& selector : first.selectors) {
    if (selector.empty()) return c.fail("an empty selector");
  }
  Talk second;
  if (!goes_well(c, h, second)) return;
  c.note(first.agent_path + ", " + std::to_string(first.challenges.size()) + " challenges");
  end(c, h);
}

void replayed(Check& c) {
  Halves h;
  Talk first;
  if (!both(c, h) || !goes_well(c, h, first)) return;
  if (first.challenges.empty()) return c.skip("the attestor does not challenge");
  // the same words again, by one who heard them
  Conversation& server = h.server->converse();
  for (const std::string& said : first.said) {
    const Op& op = step(*h.server, server, said);
    if (!c.answered(*h.server, op, "the server half", kStepMs)) return;
    if (!op.ok()) break;
    if (op.attested) return c.fail("what was said in one attestation was believed in another");
  }
  end(c, h);
}

void truncated(Check& c) {
  Halves h;
  Talk whole;
  if (!both(c, h) || !goes_well(c, h, whole)) return;
  for (size_t round = 0; round < whole.said.size(); ++round) {
    // of this talk's own message: its length may differ from the last one's, as signatures' lengths do
    for (const auto keep_of : {+[](size_t) { return size_t{0}; }, +[](size_t) { return size_t{1}; },
                               +[](size_t size) { return size / 2; }, +[](size_t size) { return size - 1; }}) {
      Talk lie;
      std::string cut;  // empty: nothing was
      const auto shorten = [&](size_t at, std::string& said) {
        if (at != round || said.empty() || keep_of(said.size()) >= said.size()) return;
        cut = "cut from " + std::to_string(said.size()) + " to " + std::to_string(keep_of(said.size())) + " bytes";
        said.resize(keep_of(said.size()));
      };
      if (!talk(c, h, lie, shorten)) return;
      if (lie.attested && !cut.empty())
        return c.fail("the agent's message " + std::to_string(round + 1) + ", " + cut + ", was believed");
    }
  }
  end(c, h);
}

void forged(Check& c) {
  Halves h;
  Talk whole;
  if (!both(c, h) || !goes_well(c, h, whole)) return;
  for (size_t round = 0; round < whole.said.size(); ++round) {
    for (const char* words : {"", "{}", "null", "\xff\xff\xff\xff", "[[[[[[[[", "{\"nonce\":\"\"}"}) {
      Talk lie;
      const auto replace = [&](size_t at, std::string& said) {
        if (at == round) said = words;
      };
      if (!talk(c, h, lie, replace)) return;
      if (lie.attested && whole.said[round] != words)
        return c.fail("instead of the agent's message " + std::to_string(round + 1) + " this was believed: " + words);
    }
  }
  end(c, h);
}

// A challenge by one who is no server.
void odd_challenges(Check& c) {
  if (kind_of(c.component->interface_id) != Kind::agent) return c.skip("for the agent half");
  Subject* s = c.ready();
  if (s == nullptr) return;
  for (const char* words : {"", "{}", "\xff\xff", "{\"nonce\":17}", "[[[[["}) {
    Conversation& conversation = s->converse();
    const Op& first = payload(*s, conversation);
    if (!c.answered(*s, first, "payload", kStepMs)) return;
    const Op& op = answer(*s, conversation, words);
    if (!c.answered(*s, op, "answer to a strange challenge", kStepMs)) return;
    s->close(conversation);
  }
  c.destroyed(*s);
}

void given_up(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const bool agent = s->kind() == Kind::agent;
  for (int i = 0; i < 20; ++i) {
    Conversation& conversation = s->converse();
    Op& op = agent ? payload(*s, conversation) : step(*s, conversation, "plugin-check");
    s->cancel(op);
    if (!c.answered(*s, op, "a cancelled call", kStepMs)) return;
    s->close(conversation);
  }
  c.destroyed(*s);
}

}  // namespace

std::span<const TestCase> node_attestor_tests() {
  static constexpr uint32_t kKinds = of_kind(Kind::agent) | of_kind(Kind::server);
  static constexpr uint32_t kServer = of_kind(Kind::server);
  static const TestCase kTests[] = {
      {.name = "node_attestor.talks",
       .rule = "the halves of the plugin attest each other, under the attestor's own path",
       .run = talks,
       .needs = {"op.answers"},
       .kinds = kServer,
       .present = true},
      {.name = "node_attestor.replayed",
       .rule = "what was said once proves nothing again",
       .run = replayed,
       .needs = {"node_attestor.talks"},
       .kinds = kServer,
       .present = true},
      {.name = "node_attestor.truncated",
       .rule = "a message that was cut is not believed",
       .run = truncated,
       .needs = {"node_attestor.talks"},
       .kinds = kServer,
       .present = true},
      {.name = "node_attestor.forged",
       .rule = "other words are not believed",
       .run = forged,
       .needs = {"node_attestor.talks"},
       .kinds = kServer,
       .present = true},
      {.name = "node_attestor.odd_challenges",
       .rule = "the agent half survives strange challenges",
       .run = odd_challenges,
       .needs = {"op.answers"},
       .kinds = of_kind(Kind::agent)},
      {.name = "node_attestor.given_up",
       .rule = "a session that is given up can be closed",
       .run = given_up,
       .needs = {"op.answers"},
       .kinds = kKinds},
  };
  return kTests;
}

}  // namespace limpet::check
