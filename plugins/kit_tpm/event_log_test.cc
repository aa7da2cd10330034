// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/event_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

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

// What PCR 7 says of Secure Boot, when `tell` made its events and the other PCRs are as usual.
std::string told(const std::function<void(BootLog&)>& tell) {
  BootLog log;
  for (uint32_t pcr = 0; pcr < 7; ++pcr) log.plain(pcr, BootLog::kSeparator, Bytes(4));
  tell(log);
  return state_of(log);
}
const Bytes kOff = variable_data("SecureBoot", Bytes{0});
const Bytes kOn = variable_data("SecureBoot", Bytes{1});
constexpr uint32_t kAction = 0x80000007;
void separator(BootLog& log) { log.plain(7, BootLog::kSeparator, Bytes(4)); }
void honest_end(BootLog& log) {
  log.keys();
  separator(log);
}

TEST(EventLog, TricksWithTheVariableAreSeen) {
  EXPECT_EQ(told([](BootLog& log) {
              log.secure_boot_variable(false);
              log.secure_boot_variable(true);
              honest_end(log);
            }),
            "event log: PCR 7: SecureBoot was measured twice");
  EXPECT_EQ(told([](BootLog& log) {
              honest_end(log);
              log.secure_boot_variable(true);
            }),
            "event log: PCR 7: SecureBoot was measured after the separator");
  EXPECT_EQ(told(honest_end), "event log: PCR 7: SecureBoot was not measured");
  EXPECT_EQ(told([](BootLog& log) { log.secure_boot_variable(true); }), "event log: PCR 7: no separator");
  EXPECT_EQ(told([](BootLog& log) {  // the digest of one thing, the data of another
              log.event(7, BootLog::kConfig, kOff, kOn);
              honest_end(log);
            }),
            "event log: PCR 7: an event of type 0x80000001 whose digest is not that of its data");
  EXPECT_EQ(told([](BootLog& log) {  // an event that never extends
              log.event(7, 3, {}, kOn);
              honest_end(log);
            }),
            "event log: PCR 7: SecureBoot was not measured");
  EXPECT_EQ(told([](BootLog& log) {  // somebody else's variable of that name
              Bytes data = kOn;
              data[0] ^= 1;
              log.plain(7, BootLog::kConfig, data);
              honest_end(log);
            }),
            "event log: PCR 7: SecureBoot was not measured");
  EXPECT_EQ(told([](BootLog& log) {
              log.plain(7, BootLog::kConfig, variable_data("SecureBoot", Bytes{1, 1}));
              honest_end(log);
            }),
            "event log: PCR 7: SecureBoot is neither 0 nor 1");
  EXPECT_EQ(told([](BootLog& log) {  // where there is no such variable
              log.plain(7, BootLog::kConfig, variable_data("SecureBoot", {}));
              honest_end(log);
            }),
            "disabled");
}

// Root may extend PCR 7 after the boot as he likes, and only digests are quoted: he gives the true events other types,
// so that they count for nothing, and appends those of another boot.
TEST(EventLog, TrueEventsUnderOtherTypesAreSeen) {
  const auto forged = [](uint32_t config, const Bytes& config_data, uint32_t end, const Bytes& end_data) {
    return told([&](BootLog& log) {
      log.event(7, config, kOff, config_data);
      log.event(7, end, Bytes(4), end_data);
      log.secure_boot_variable(true);
      honest_end(log);
    });
  };
  const std::string disguised = "event log: PCR 7: the digest of SecureBoot or of a separator under type 0x";
  for (const auto& [type, text] : std::initializer_list<std::pair<uint32_t, const char*>>{{0x80000002, "80000002"},
                                                                                          {kAction, "80000007"},
                                                                                          {5, "00000005"},
                                                                                          {0x80000010, "80000010"},
                                                                                          {4, "00000004"},
                                                                                          {0x800000e0, "800000e0"}}) {
    EXPECT_EQ(forged(type, kOff, type, Bytes(4)), disguised + text);
    EXPECT_EQ(forged(type, {}, type, {}), disguised + text);
  }
  Bytes longer = kOff;  // what is overlooked in an old shim's events
  longer.push_back(0);
  EXPECT_EQ(forged(BootLog::kAuthority, longer, BootLog::kAuthority, Bytes(5)), disguised + "800000e0");
  EXPECT_EQ(forged(BootLog::kConfig, kOff, kAction, Bytes(4)), disguised + "80000007");
  EXPECT_EQ(forged(BootLog::kConfig, kOff, BootLog::kConfig, Bytes(4)), disguised + "80000001");
  EXPECT_EQ(forged(BootLog::kConfig, kOff, BootLog::kSeparator, Bytes(4)),
            "event log: PCR 7: SecureBoot was measured after the separator");
}

TEST(EventLog, OnlyWhatBelongsIntoPcrSevenMayStandThere) {
  const auto with = [](const std::function<void(BootLog&)>& before, const std::function<void(BootLog&)>& after) {
    return told([&](BootLog& log) {
      log.secure_boot_variable(true);
      before(log);
      honest_end(log);
      after(log);
    });
  };
  const auto nothing = [](BootLog&) {};
  const auto event = [](uint32_t type, const Bytes& data) {
    return [type, data](BootLog& log) { log.plain(7, type, data); };
  };
  const auto action = [&event](std::string_view text) { return event(kAction, to_bytes(text)); };
  const Bytes authority = variable_data("db", Bytes(40, 3));
  const std::string start = "event log: PCR 7: ";
  EXPECT_EQ(with(nothing, nothing), "enabled");
  EXPECT_EQ(with(event(BootLog::kAuthority, authority), event(BootLog::kAuthority, authority)), "enabled");
  EXPECT_EQ(with(action("DMA Protection Disabled"), nothing), "enabled");
  EXPECT_EQ(with(action(std::string_view("DMA Protection Disabled\0", 24)), nothing), "enabled");
  EXPECT_EQ(with(action("UEFI Debug Mode"), nothing), "disabled");
  EXPECT_EQ(with(action("UEFI Debug Mode, or so"), nothing), start + "an action that does not belong there");
  EXPECT_EQ(with(nothing, action("DMA Protection Disabled")),
            start + "an event of type 0x80000007 after the separator");
  EXPECT_EQ(with(event(0x80000002, authority), nothing), start + "an event of type 0x80000002 does not belong there");
  EXPECT_EQ(with(nothing, event(13, to_bytes("x"))), start + "an event of type 0x0000000d does not belong there");
  EXPECT_EQ(with(nothing, separator), start + "two separators");
  EXPECT_EQ(with(nothing, event(BootLog::kSeparator, Bytes{1, 0, 0, 0})), start + "a separator of an error");
  EXPECT_EQ(with(event(BootLog::kConfig, variable_data("PK", {})), nothing), start + "PK was measured twice");
  EXPECT_EQ(with(nothing, event(BootLog::kConfig, variable_data("dbt", {}))),
            start + "dbt was measured after the separator");
  EXPECT_EQ(with(nothing, event(BootLog::kAuthority, to_bytes("no variable"))), start + "authority: truncated");
  EXPECT_EQ(with(event(BootLog::kAuthority, variable_data("SecureBoot", Bytes{2})), nothing),
            start + "SecureBoot as an authority");
  EXPECT_EQ(with(nothing, [&](BootLog& log) { log.event(7, BootLog::kAuthority, to_bytes("x"), authority); }),
            start + "an event of type 0x800000e0 whose digest is not that of its data");
  EXPECT_EQ(with([](BootLog& log) { log.event(7, kAction, to_bytes("x"), to_bytes("UEFI Debug Mode")); }, nothing),
            start + "an event of type 0x80000007 whose digest is not that of its data");
  Bytes shim = authority;  // old versions of shim log a byte more than they measure
  shim.push_back(0);
  EXPECT_EQ(with(nothing, [&](BootLog& log) { log.event(7, BootLog::kAuthority, authority, shim); }), "enabled");
  for (const char* missing : {"PK", "KEK", "db"}) {
    EXPECT_EQ(told([&](BootLog& log) {
                log.secure_boot_variable(true);
                for (const char* name : {"PK", "KEK", "db"})
                  log.plain(7, BootLog::kConfig, variable_data(name, Bytes(name == missing ? 0 : 3)));
                separator(log);
              }),
              start + "Secure Boot without " + missing);
  }
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
  EXPECT_EQ(said(parse_event_log(Bytes(kMaxEventLogBytes + 1), kAlgSha256)), "event log: larger than 720 KiB");
  Bytes huge = good;
  const size_t name_size = good.size();  // an event whose data claims to be almost endless
  append(huge, Bytes{7, 0, 0, 0, 1, 0, 0, 0x80, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff});
  EXPECT_FALSE(parse_event_log(huge, kAlgSha256)) << name_size;
  Bytes variable = variable_data("SecureBoot", Bytes{1});
  std::fill_n(variable.begin() + 16, 16, uint8_t{0xff});
  BootLog endless;
  endless.event(7, 0x80000001, variable, variable);
  endless.fill();
  EXPECT_EQ(state_of(endless), "event log: PCR 7: variable: truncated");
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
