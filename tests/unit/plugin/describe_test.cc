// SPDX-License-Identifier: Apache-2.0
// A look at plugins that are sound, refused, or break the process that looks.
#include "plugin/describe.h"

#include <gtest/gtest.h>

#include "plugin/loader.h"

namespace limpet {
namespace {

std::string mock(const std::string& name) { return LIMPET_MOCKS "/mock_" + name + ".so"; }

std::string error_of(const std::string& name, int64_t ms = 20'000) {
  const auto found = describe_plugin_file(mock(name), ms);
  return found ? "described" : found.error().text();
}

TEST(Describe, TellsWhatTheDescriptorSays) {
  const auto found = describe_plugin_file(mock("good"), 20'000);
  ASSERT_TRUE(found) << found.error().text();
  EXPECT_EQ(found->id, "org.example.mock");
  EXPECT_EQ(found->version, "1.2.3");
  EXPECT_EQ(found->license, "Apache-2.0");
  EXPECT_EQ(found->abi_major, 1u);
  EXPECT_EQ(found->abi_minor, 0u);
  EXPECT_EQ(found->sha256.size(), 64u);
  ASSERT_EQ(found->components.size(), 1u);
  EXPECT_EQ(found->components[0].interface_id, "limpet.workload-attestor/1");
  EXPECT_EQ(found->components[0].name, "mock");
  EXPECT_FALSE(found->components[0].blocking);
  // and the digest is the one to configure
  EXPECT_TRUE(load_plugin_file(mock("good"), found->sha256));
}

TEST(Describe, TellsOfEveryComponent) {
  const auto found = describe_plugin_file(mock("counter"), 20'000);
  ASSERT_TRUE(found) << found.error().text();
  ASSERT_EQ(found->components.size(), 2u);
  EXPECT_EQ(found->components[1].interface_id, "limpet.bundle-publisher/1");
}

TEST(Describe, PassesOnWhyTheLoaderRefuses) {
  EXPECT_EQ(error_of("major_two"), "FailedPrecondition: plugin " + mock("major_two") +
                                       " refused: it needs plugin ABI 2.0, this limpet has 1.0");
  EXPECT_NE(error_of("no_entry").find("it does not export limpet_plugin_main"), std::string::npos);
  EXPECT_TRUE(error_of("absent").starts_with("NotFound: plugin ")) << error_of("absent");
}

TEST(Describe, SurvivesAPluginThatEndsTheProcess) {
  EXPECT_EQ(error_of("crashes"), "Internal: plugin " + mock("crashes") +
                                     " refused: its code ended the process that looked at it with signal 6 (Aborted)");
  EXPECT_EQ(error_of("exits"),
            "Internal: plugin " + mock("exits") +
                " refused: its code ended the process that looked at it with exit code 0 before it was looked at");
}

TEST(Describe, DoesNotWaitForAPluginThatHangs) {
  EXPECT_EQ(error_of("hangs", 1000), "DeadlineExceeded: plugin " + mock("hangs") +
                                         " refused: its code did not return within 1 s of being loaded");
}

}  // namespace
}  // namespace limpet
