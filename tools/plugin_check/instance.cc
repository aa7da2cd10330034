// SPDX-License-Identifier: Apache-2.0
// Tests of an instance's life: configurations, cycles, what is left behind.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <clocale>
#include <cstdio>

#include "plugin_check/check.h"
#include "plugin_check/resources.h"

namespace limpet::check {
namespace {

void configures(Check& c) {
  Subject* s = c.ready();
  if (s != nullptr) c.destroyed(*s);
}

void unconfigured(Check& c) {
  Subject s(c.bench(), *c.component);
  if (s.create() != LIMPET_OK) return c.fail("create failed");
  c.destroyed(s);
}

void bad_config(Check& c) {
  std::vector<std::string> bad = c.config.bad;
  bad.insert(bad.begin(), R"({"plugin_check_knows_no_such_key":1})");
  for (const std::string& json : bad) {
    Subject s(c.bench(), *c.component);
    if (s.create() != LIMPET_OK) return c.fail("create failed");
    const Op& op = s.configure(c.expand(json), false, c.trust_domain);
    if (!c.answered(s, op, "configure")) return;
    if (op.ok()) return c.fail("accepted: " + json);
    if (op.code != LIMPET_INVALID_ARGUMENT)
      return c.fail(json + " gave " + op.outcome() + " instead of InvalidArgument");
    if (!c.destroyed(s)) return;
  }
  for (const char* json : {"", "{", "[]", "7", "\"text\"", "{\"a\":"}) {
    Subject s(c.bench(), *c.component);
    if (s.create() != LIMPET_OK) return c.fail("create failed");
    const Op& op = s.configure(json, false, c.trust_domain);
    if (!c.answered(s, op, "configure")) return;
    if (op.ok() && json[0] != 0) c.warn(std::string("accepted, though it is no JSON object: ") + json);
    if (!c.destroyed(s)) return;
  }
}

void bad_keeps(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Op& before = probe(*s);
  if (!c.answered(*s, before, "a call")) return;
  const Op& bad = s->configure(R"({"plugin_check_knows_no_such_key":1})", false, c.trust_domain);
  if (!c.answered(*s, bad, "configure")) return;
  const Op& after = probe(*s);
  if (!c.answered(*s, after, "a call")) return;
  if (told(before) != told(after))
    c.fail("after a refused configuration a call gave " + told(after) + " where it had given " + told(before));
  c.destroyed(*s);
}

void dry_run(Check& c) {
  {
    Subject fresh(c.bench(), *c.component);
    if (fresh.create() != LIMPET_OK) return c.fail("create failed");
    const std::string before = list_tree(c.directory);
    const Op& op = fresh.configure(c.expand(c.config.data), true, c.trust_domain);
    if (!c.answered(fresh, op, "a dry run")) return;
    if (!op.ok() && c.config.absent.empty()) return c.fail("a dry run of the configuration given gave " + op.outcome());
    if (!c.destroyed(fresh)) return;
    if (list_tree(c.directory) != before) return c.fail("a dry run changed files in " + c.directory);
  }
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Op& before = probe(*s);
  if (!c.answered(*s, before, "a call")) return;
  for (const std::string& json : {c.config.other.empty() ? c.config.data : c.config.other,
                                  std::string(R"({"plugin_check_knows_no_such_key":1})")}) {
    const Op& op = s->configure(c.expand(json), true, c.trust_domain);
    if (!c.answered(*s, op, "a dry run")) return;
  }
  const Op& after = probe(*s);
  if (!c.answered(*s, after, "a call")) return;
  if (told(before) != told(after))
    return c.fail("after a dry run a call gave " + told(after) + " where it had given " + told(before));
  if (c.config.other.empty()) c.note("no \"other\" configuration was given: only the same one was tried");
  c.destroyed(*s);
}

void reconfigure(Check& c) {
  Subject* s = c.ready();
  if (s == nullptr) return;
  std::vector<const Op*> ops;
  for (int i = 0; i < 4; ++i) {
    ops.push_back(&probe(*s));
    ops.push_back(&s->configure(c.expand(i % 2 == 0 || c.config.other.empty() ? c.config.data : c.config.other), false,
                                c.trust_domain));
  }
  for (const Op* op : ops) {
    if (!c.answered(*s, *op, "a call during configure", 60'000)) return;
  }
  const Op& after = probe(*s);
  if (c.answered(*s, after, "a call after configure")) c.destroyed(*s);
}

void two(Check& c) {
  Subject* first = c.ready();
  Subject* second = first == nullptr ? nullptr : c.ready_beside();
  if (second == nullptr) return;
  const Op& a = probe(*first);
  const Op& b = probe(*second);
  if (!c.answered(*first, a, "a call of the first instance")) return;
  if (!c.answered(*second, b, "a call of the second instance")) return;
  if (!c.destroyed(*first)) return;
  const Op& again = probe(*second);
  if (c.answered(*second, again, "a call of the second instance after the first was destroyed")) c.destroyed(*second);
}

// One life: create, configure, a call, destroy. False after fail().
bool cycle(Check& c) {
  Subject s(c.bench(), *c.component);
  if (s.create() != LIMPET_OK) {
    c.fail("create failed");
    return false;
  }
  const Op& op = s.configure(c.expand(c.config.data), false, c.trust_domain);
  if (!c.succeeded(s, op, "configure")) return false;
  const Op& call = probe(s);
  return c.answered(s, call, "a call") && c.destroyed(s);
}

// As many as asked for, or for five seconds; -1 after fail().
int cycles(Check& c, int wanted) {
  const auto end = Clock::now() + std::chrono::seconds(5);
  int done = 0;
  for (; done < wanted && Clock::now() < end; ++done) {
    if (!cycle(c)) return -1;
    c.bench().forget();
  }
  return done;
}

void many(Check& c) {
  const int done = cycles(c, c.cycles);
  if (done >= 0) c.note(std::to_string(done) + " cycles");
}

void descriptors(Check& c) {
  if (cycles(c, 3) < 0) return;
  const size_t before = open_descriptors();
  const int done = cycles(c, std::clamp(c.cycles, 4, 20));
  if (done < 0) return;
  c.bench().run_until([&] { return open_descriptors() <= before; },
                      2'000);  // a process of the shim ends in its own time
  const size_t after = open_descriptors();
  if (after > before)
    c.fail(std::to_string(after - before) + " descriptors more after " + std::to_string(done) + " cycles");
}

void leaves_threads(Check& c) {
  if (cycles(c, 3) < 0) return;
  const size_t before = threads();
  const int done = cycles(c, std::clamp(c.cycles, 4, 20));
  if (done < 0) return;
  c.bench().run_until([&] { return threads() <= before; }, 2'000);  // one that was joined may still be seen
  const size_t after = threads();
  if (after > before)
    c.fail(std::to_string(after - before) + " threads more after " + std::to_string(done) + " cycles");
}

// What is kept for a process of the shim goes when that has ended, in its own time.
size_t bytes_at_rest(Check& c) {
  c.bench().run_until([] { return !has_children(); }, 2'000);
  return allocated_bytes();
}

void memory(Check& c) {
  const int half = std::max(c.cycles / 4, 4);
  if (cycles(c, half) < 0) return;
  const size_t first = bytes_at_rest(c);
  const int one = cycles(c, half);
  const size_t second = bytes_at_rest(c);
  const int two = one < 0 ? -1 : cycles(c, half);
  const size_t third = bytes_at_rest(c);
  if (two <= 0) return;
  // both halves: what is allocated once and kept is no leak
  const auto grew = [](size_t from, size_t to, int n) { return to > from && to - from >= static_cast<size_t>(n) * 8; };
  if (grew(first, second, one) && grew(second, third, two)) {
    c.fail("about " + std::to_string((third - second) / static_cast<size_t>(two)) +
           " bytes of memory are lost in each of " + std::to_string(one + two) + " cycles");
  }
}

void quiet(Check& c) {
  char directory_before[PATH_MAX] = {};
  if (::getcwd(directory_before, sizeof directory_before) == nullptr) directory_before[0] = 0;
  const mode_t mask_before = ::umask(0);
  ::umask(mask_before);
  const std::string locale_before = std::setlocale(LC_ALL, nullptr);
  c.bench();  // the loop ignores SIGPIPE: ours
  const std::string signals_before = signal_dispositions();
  Subject* s = c.ready();
  if (s == nullptr) return;
  const Op& op = probe(*s);
  if (!c.answered(*s, op, "a call") || !c.destroyed(*s)) return;
  std::fflush(nullptr);
  struct stat out = {};
  struct stat err = {};
  if (::fstat(STDOUT_FILENO, &out) == 0 && S_ISREG(out.st_mode) && out.st_size > 0)
    return c.fail("wrote to standard output");
  if (::fstat(STDERR_FILENO, &err) == 0 && S_ISREG(err.st_mode) && err.st_size > 0)
    return c.fail("wrote to standard error");
  char directory_after[PATH_MAX] = {};
  if (::getcwd(directory_after, sizeof directory_after) == nullptr) directory_after[0] = 0;
  if (std::string(directory_before) != directory_after) return c.fail("changed the working directory");
  const mode_t mask_after = ::umask(mask_before);
  if (mask_after != mask_before) return c.fail("changed the umask");
  if (std::setlocale(LC_ALL, nullptr) != locale_before) return c.fail("changed the locale");
  if (signal_dispositions() != signals_before) c.fail("changed a signal's handler");
}

}  // namespace

std::span<const TestCase> instance_tests() {
  static const TestCase kTests[] = {
      {.name = "instance.configures",
       .rule = "create, configure and destroy work with the configuration given",
       .run = configures,
       .needs = {"library.load"}},
      {.name = "instance.unconfigured",
       .rule = "an instance that was never configured can be destroyed",
       .run = unconfigured,
       .needs = {"library.load"}},
      {.name = "instance.bad_config",
       .rule = "a bad configuration gives InvalidArgument",
       .run = bad_config,
       .needs = {"instance.configures"}},
      {.name = "instance.bad_config_keeps",
       .rule = "a refused configuration leaves the running one in force",
       .run = bad_keeps,
       .needs = {"op.answers"}},
      {.name = "instance.dry_run", .rule = "a dry run changes nothing", .run = dry_run, .needs = {"op.answers"}},
      {.name = "instance.reconfigure",
       .rule = "configure during traffic disturbs no call",
       .run = reconfigure,
       .needs = {"op.answers"}},
      {.name = "instance.two", .rule = "two instances live side by side", .run = two, .needs = {"op.answers"}},
      {.name = "instance.cycles", .rule = "many lives, one after the other", .run = many, .needs = {"op.answers"}},
      {.name = "instance.descriptors", .rule = "no descriptor stays open", .run = descriptors, .needs = {"op.answers"}},
      {.name = "instance.threads", .rule = "no thread stays", .run = leaves_threads, .needs = {"op.answers"}},
      {.name = "instance.memory",
       .rule = "no memory is lost",
       .run = memory,
       .needs = {"instance.cycles", "instance.threads"}},
      {.name = "instance.quiet",
       .rule = "nothing on standard output or error; working directory, umask, locale and signals are left alone",
       .run = quiet,
       .needs = {"op.answers"}},
  };
  return kTests;
}

}  // namespace limpet::check
