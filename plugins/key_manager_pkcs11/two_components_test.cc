// SPDX-License-Identifier: Apache-2.0
// Key manager and sealer of one process and one module, which one of them has initialized anew: each in a process of
// its own, as only the first to call C_Initialize may do so again.
#include "soft_token.h"

namespace limpet {
namespace {

using namespace test;

class Pkcs11TwoComponents : public SoftToken {
 protected:
  // The key manager opens the first session.
  std::string make_key_and_blob() {
    if (open(troubled()) != "ok" || open_sealer(troubled()) != "ok") return "not configured";
    const auto made = generate("k");
    const auto sealed = seal();
    if (!made || !sealed) return "no key, or nothing sealed";
    key = *made;
    blob = *sealed;
    return "";
  }
  // Then the sealer sees no token come back, has the module initialized anew,
  // and its session is the first one of that: SoftHSM gives it the handle that the key manager's had.
  std::string have_it_initialized_anew() {
    if (const std::string failed = make_key_and_blob(); !failed.empty()) return failed;
    tokens.trouble("stuck_once\n");
    const std::string opened = unseal();
    if (opened != "secret") return opened;
    return tokens.calls("C_Finalize") == 1 ? "" : "not initialized anew";
  }
  std::string unseal() {
    const auto opened = wait<SecretBytes>([&](Done<SecretBytes> done) { sealer->unseal(blob, {}, std::move(done)); });
    return opened ? std::string(as_text(opened->view())) : opened.error().text();
  }
  // Whether the sealer's session is there still.
  std::string works_as_before() {
    const size_t sessions = tokens.calls("C_OpenSession");
    const std::string opened = unseal();
    if (opened != "secret") return opened;
    return tokens.calls("C_OpenSession") == sessions ? "" : "its session was closed";
  }
  void end(const std::string& failed) {
    keys.reset();
    raw.reset();
    sealer.reset();
    tokens.remove();
    std::fprintf(stderr, "%s.", failed.c_str());
    ::_exit(failed.empty() ? 0 : 1);
  }

  std::optional<ManagedKey> key;
  Bytes blob;
};

TEST_P(Pkcs11TwoComponents, AnotherOnesSessionIsNotClosedForAnOldOneOfTheSameHandle) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto scenario = [this] {
    std::string failed = have_it_initialized_anew();
    if (failed.empty() && signs(*key) != "ok") failed = "the key manager does not sign";
    end(failed.empty() ? works_as_before() : failed);
  };
  EXPECT_EXIT(scenario(), ::testing::ExitedWithCode(0), "");
}

TEST_P(Pkcs11TwoComponents, NorWhenTheOneWithTheOldOneEnds) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto scenario = [this] {
    const std::string failed = have_it_initialized_anew();
    keys.reset();
    raw.reset();
    while (loop.run_ready() > 0) {
    }
    end(failed.empty() ? works_as_before() : failed);
  };
  EXPECT_EXIT(scenario(), ::testing::ExitedWithCode(0), "");
}

TEST_P(Pkcs11TwoComponents, NorOneThatGotTheHandleOfASessionThatEndedWithItsToken) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto scenario = [this] {
    std::string failed = make_key_and_blob();
    tokens.trouble("pulled\n");
    if (failed.empty()) failed = unseal();  // with the handle that was the key manager's
    if (failed == "secret") failed = "";
    const size_t sessions = tokens.calls("C_OpenSession");
    if (failed.empty() && signs(*key) != "ok") failed = "the key manager does not sign";
    if (failed.empty() && tokens.calls("C_OpenSession") != sessions + 1) failed = "it signed in the sealer's session";
    end(failed.empty() ? works_as_before() : failed);
  };
  EXPECT_EXIT(scenario(), ::testing::ExitedWithCode(0), "");
}

// The login of the other one hangs, and this one waits behind it.
TEST_P(Pkcs11TwoComponents, OneThatIsStoppedDoesNotWaitForTheOthersLogin) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto scenario = [this] {
    Waiter<std::vector<ManagedKey>> listing;
    Waiter<Bytes> sealing;
    std::string failed;
    if (open(troubled()) != "ok" || open_sealer(troubled()) != "ok") failed = "not configured";
    tokens.trouble("hold_login\n");
    keys->list(listing.arm());
    sealer->seal(SecretBytes(as_bytes("secret")), {}, sealing.arm());
    for (int i = 0; i < 20'000 && (i < 200 || tokens.calls("C_Login") == 0); ++i) {
      loop.run_ready();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const std::weak_ptr<Instance> first = std::exchange(raw, nullptr);
    const std::weak_ptr<Instance> second = std::exchange(sealer_raw, nullptr);
    keys.reset();
    sealer.reset();
    // whichever hangs within the module is abandoned
    if (failed.empty() && first.expired() == second.expired()) failed = "both waited, or none did";
    end(failed);
  };
  EXPECT_EXIT(scenario(), ::testing::ExitedWithCode(0), "");
}

INSTANTIATE_TEST_SUITE_P(Loaded, Pkcs11TwoComponents, ::testing::Values(Carrier::shared_object), carrier_name);

}  // namespace
}  // namespace limpet
