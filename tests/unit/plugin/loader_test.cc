// SPDX-License-Identifier: Apache-2.0
#include "plugin/loader.h"

#include <gtest/gtest.h>
#include <limpet_plugin.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/bytes.h"
#include "crypto/key.h"

namespace limpet {
namespace {

std::string mock(const std::string& name) { return LIMPET_MOCKS "/mock_" + name + ".so"; }

std::string digest_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  EXPECT_FALSE(text.empty()) << path;
  return hex_encode(sha256(as_bytes(text)));
}

std::string load_error(const std::string& path) {
  const auto loaded = load_plugin_file(path, digest_of(path));
  return loaded ? "loaded" : loaded.error().text();
}

class LoaderFiles : public ::testing::Test {
 protected:
  LoaderFiles() { EXPECT_NE(::mkdtemp(directory.data()), nullptr); }
  ~LoaderFiles() override { std::filesystem::remove_all(directory); }
  std::string copy(const std::string& from, mode_t mode) {
    const std::string to = directory + "/plugin.so";
    std::filesystem::copy_file(from, to, std::filesystem::copy_options::overwrite_existing);
    EXPECT_EQ(::chmod(to.c_str(), mode), 0);
    return to;
  }
  std::string directory = ::testing::TempDir() + "limpet_loader_XXXXXX";
};

TEST(Loader, RefusesEachFlawWithItsReason) {
  struct Case {
    const char* name;
    const char* reason;
  };
  const Case cases[] = {
      {"null", "it says it cannot live with plugin ABI 1.0"},
      {"major_two", "it needs plugin ABI 2.0, this limpet has 1.0"},
      {"future_minor", "it needs plugin ABI 1.1, this limpet has 1.0"},
      {"short_plugin", "its descriptor struct is too short"},
      {"no_license", "its descriptor lacks id, version or license"},
      {"no_components", "it has no components"},
      {"short_component", "a component struct is too short"},
      {"no_interface", "a component has no interface id"},
      {"bad_name", "a component has no name of lower-case letters"},
      {"no_create", "a component lacks create, destroy or configure"},
      {"no_table", "a component has no table of functions"},
      {"short_table", "its workload attestor table is too short"},
      {"missing_function", "its workload attestor table lacks attest"},
      {"upstream_short_table", "its upstream authority table is too short"},
      {"upstream_missing_function", "its upstream authority table lacks a function"},
      {"sealer_short_table", "its sealer table is too short"},
      {"sealer_missing_function", "its sealer table lacks a function"},
      {"no_entry", "it does not export limpet_plugin_main"},
  };
  for (const Case& c : cases) {
    const std::string error = load_error(mock(c.name));
    EXPECT_TRUE(error.starts_with("FailedPrecondition: plugin " + mock(c.name) + " refused: ")) << error;
    EXPECT_NE(error.find(c.reason), std::string::npos) << error;
  }
}

TEST(Loader, LoadsASoundPluginAndFindsItsComponent) {
  const auto plugin = load_plugin_file(mock("good"), digest_of(mock("good")));
  ASSERT_TRUE(plugin) << plugin.error().text();
  EXPECT_STREQ((*plugin)->id, "org.example.mock");
  EXPECT_NE(find_component(**plugin, LIMPET_WORKLOAD_ATTESTOR, "mock"), nullptr);
  EXPECT_NE(find_component(**plugin, LIMPET_WORKLOAD_ATTESTOR, ""), nullptr);
  EXPECT_EQ(find_component(**plugin, LIMPET_WORKLOAD_ATTESTOR, "mick"), nullptr);
  EXPECT_EQ(find_component(**plugin, LIMPET_KEY_MANAGER, "mock"), nullptr);
}

TEST(Loader, LoadsAnUpstreamAuthority) {
  const auto plugin = load_plugin_file(mock("upstream"), digest_of(mock("upstream")));
  ASSERT_TRUE(plugin) << plugin.error().text();
  EXPECT_NE(find_component(**plugin, LIMPET_UPSTREAM_AUTHORITY, "mock"), nullptr);
}

TEST(Loader, LoadsTwoDifferentFilesAsTwoPlugins) {
  const auto first = load_plugin_file(mock("good"), digest_of(mock("good")));
  ASSERT_TRUE(first);
  // Were the second mapped under the first one's name, the linker would give back the first.
  EXPECT_NE(load_error(mock("no_entry")).find("does not export"), std::string::npos);
}

TEST_F(LoaderFiles, RefusesADigestThatDiffersAndDoesNotLoadIt) {
  const std::string path = copy(mock("good"), 0644);
  std::string wrong = digest_of(path);
  wrong[0] = wrong[0] == '0' ? '1' : '0';
  for (const std::string& digest : {wrong, std::string(), std::string("abc")}) {
    const auto loaded = load_plugin_file(path, digest);
    ASSERT_FALSE(loaded);
    EXPECT_NE(loaded.error().message.find("its SHA-256 is " + digest_of(path) + " but the configuration expects"),
              std::string::npos)
        << loaded.error().text();
  }
}

TEST_F(LoaderFiles, RefusesAFileThatEveryoneMayWrite) {
  EXPECT_NE(load_error(copy(mock("good"), 0666)).find("every user may write it"), std::string::npos);
}

TEST_F(LoaderFiles, RefusesWhatIsNoSharedObject) {
  EXPECT_EQ(load_plugin_file(directory + "/absent.so", "").error().code, Code::not_found);
  EXPECT_NE(load_plugin_file(directory, "").error().message.find("it is not a regular file"), std::string::npos);
  const std::string empty = directory + "/empty.so";
  std::ofstream(empty).flush();
  EXPECT_NE(load_plugin_file(empty, "").error().message.find("the file is empty"), std::string::npos);
  const std::string text = directory + "/text.so";
  std::ofstream(text) << "not an object";
  EXPECT_NE(load_error(text).find("the dynamic linker says"), std::string::npos);
}

}  // namespace
}  // namespace limpet
