// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/event_log.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "boot_log.h"

namespace limpet::tpm_wire {
namespace {

using namespace test;

template <class T>
std::string said(const Result<T>& result) {
  return result ? "ok" : result.error().message;
}

std::string state_of(const BootLog& log) {
  const auto events = parse_event_log(log.bytes(), kAlgSha256);
  if (!events) return events.error().message;
  if (auto replayed = check_replay(*events, log.bank()); !replayed) return replayed.error().message;
  const auto on = secure_boot(*events, kAlgSha256);
  return !on ? on.error().message : *on ? "enabled" : "disabled";
}

TEST(EventLog, SaysWhetherSecureBootWasOn) {
  EXPECT_EQ(state_of(BootLog::usual(true)), "enabled");
  EXPECT_EQ(state_of(BootLog::usual(false)), "disabled");
}

TEST(EventLog, ALogThatDoesNotLeadToTheQuoteSaysNothing) {
  const BootLog log = BootLog::usual(true);
  const auto events = parse_event_log(log.bytes(), kAlgSha256);
  ASSERT_EQ(said(events), "ok");
  for (uint32_t pcr = 0; pcr < 8; ++pcr) {
    const std::string text = "event log: it does not lead to the quoted value of PCR " + std::to_string(pcr);
    PcrBank bank = log.bank();
    bank.values[pcr][5] ^= 1;
    EXPECT_EQ(said(check_replay(*events, bank)), text);
    bank.values.erase(pcr);
    EXPECT_EQ(said(check_replay(*events, bank)), text);
    // a PCR that the log never extends
    auto fewer = *events;
    std::erase_if(fewer, [pcr](const BootEvent& event) { return event.pcr == pcr && event.type != 3; });
    EXPECT_EQ(said(check_replay(fewer, log.bank())), text);
  }
}

TEST(EventLog, PcrZeroBeginsWithTheLocalityThatStartedTheTpm) {
  BootLog log;
  log.locality(3);
  log.fill();
  EXPECT_EQ(said(check_replay(*parse_event_log(log.bytes(), kAlgSha256), log.bank())), "ok");
  BootLog silent;
  silent.fill();
  EXPECT_NE(silent.bank().values.at(0), log.bank().values.at(0));
}

TEST(EventLog, TricksWithTheVariableAreSeen) {
  BootLog twice;
  twice.secure_boot_variable(false);
  twice.secure_boot_variable(true);
  twice.fill();
  EXPECT_EQ(state_of(twice), "event log: SecureBoot was measured twice, or after the separator");

  BootLog late;
  late.fill();
  late.secure_boot_variable(true);
  EXPECT_EQ(state_of(late), "event log: SecureBoot was measured twice, or after the separator");

  BootLog never;
  never.fill();
  EXPECT_EQ(state_of(never), "event log: SecureBoot was not measured before a separator");

  BootLog lie;  // the digest of one thing, the data of another
  lie.event(7, 0x80000001, variable_data("SecureBoot", {0}), variable_data("SecureBoot", {1}));
  lie.fill();
  EXPECT_EQ(state_of(lie), "event log: a variable's digest is not that of its data");

  BootLog unmeasured;  // an event that never extends
  unmeasured.event(7, 3, {}, variable_data("SecureBoot", {1}));
  unmeasured.fill();
  EXPECT_EQ(state_of(unmeasured), "event log: SecureBoot was not measured before a separator");

  BootLog foreign;  // somebody else's variable of that name
  Bytes data = variable_data("SecureBoot", {1});
  data[0] ^= 1;
  foreign.event(7, 0x80000001, data, data);
  foreign.fill();
  EXPECT_EQ(state_of(foreign), "event log: SecureBoot was not measured before a separator");

  BootLog debug;
  debug.event(7, 0x80000007, to_bytes("UEFI Debug Mode"), to_bytes("UEFI Debug Mode"));
  debug.secure_boot_variable(true);
  debug.fill();
  EXPECT_EQ(state_of(debug), "disabled");

  BootLog long_value;
  long_value.event(7, 0x80000001, variable_data("SecureBoot", {1, 1}), variable_data("SecureBoot", {1, 1}));
  long_value.fill();
  EXPECT_EQ(state_of(long_value), "disabled");
}

TEST(EventLog, MalformedLogsAreRefused) {
  const Bytes good = BootLog::usual(true).bytes();
  for (size_t size = 0; size < good.size(); ++size) {
    const auto events = parse_event_log(BytesView(good).first(size), kAlgSha256);
    // cut at the end of an event it is a log, but not one that leads anywhere
    if (events) {
      EXPECT_FALSE(check_replay(*events, BootLog::usual(true).bank())) << size;
    }
  }
  EXPECT_EQ(said(parse_event_log(good, kAlgSha384)), "event log: no digests of bank sha384 in it");
  Bytes old = good;
  old[32] = 'X';
  EXPECT_EQ(said(parse_event_log(old, kAlgSha256)),
            "event log: not a crypto-agile log (it does not begin with \"Spec ID Event03\")");
  EXPECT_EQ(said(parse_event_log(Bytes(kMaxEventLogBytes + 1), kAlgSha256)), "event log: larger than 512 KiB");
  Bytes huge = good;
  const size_t name_size = good.size();  // an event whose data claims to be almost endless
  append(huge, Bytes{7, 0, 0, 0, 1, 0, 0, 0x80, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff});
  EXPECT_FALSE(parse_event_log(huge, kAlgSha256)) << name_size;
  Bytes variable = variable_data("SecureBoot", {1});
  std::fill_n(variable.begin() + 16, 16, uint8_t{0xff});
  BootLog endless;
  endless.event(7, 0x80000001, variable, variable);
  endless.fill();
  EXPECT_EQ(state_of(endless), "event log: variable: truncated");
}

TEST(PcrDigest, IsTheHashOfTheValuesInAscendingOrder) {
  PcrBank bank{kAlgSha256, {{0, Bytes(32, 1)}, {7, Bytes(32, 2)}}};
  Bytes both(32, 1);
  append(both, Bytes(32, 2));
  EXPECT_EQ(*pcr_digest(bank, {0, 7}), sha256(both));
  EXPECT_EQ(said(pcr_digest(bank, {0, 1})), "PCR 1 of bank sha256 is missing");
}

}  // namespace
}  // namespace limpet::tpm_wire
