// SPDX-License-Identifier: Apache-2.0
#include "plugin/loader.h"

#include <dlfcn.h>
#include <elf.h>
#include <gtest/gtest.h>
#include <limpet_plugin.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/bytes.h"
#include "crypto/key.h"
#include "loop/fake_loop.h"
#include "plugin/elf_facts.h"
#include "plugin/instance.h"

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
    std::ofstream(to, std::ios::binary | std::ios::trunc) << std::ifstream(from, std::ios::binary).rdbuf();
    EXPECT_EQ(::chmod(to.c_str(), mode), 0);
    return to;
  }
  std::string directory = ::testing::TempDir() + "limpet_loader_XXXXXX";
};

// A table of a hundred thousand exported symbols with one long name: each entry costs the file 24 bytes, and must not
// cost the reader a kilobyte.
TEST_F(LoaderFiles, AFileOfCountlessSymbolsIsRefusedWithoutReadingThemAll) {
  const std::string path = copy(mock("moody"), 0644);
  std::ifstream file(path, std::ios::binary);
  std::string content((std::istreambuf_iterator<char>(file)), {});
  ElfW(Ehdr) header;
  std::memcpy(&header, content.data(), sizeof header);
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    ElfW(Shdr) section;
    const size_t at = header.e_shoff + i * sizeof section;
    std::memcpy(&section, content.data() + at, sizeof section);
    if (section.sh_type != SHT_DYNSYM) continue;
    ElfW(Sym) symbol = {};
    symbol.st_info = STB_GLOBAL << 4;
    symbol.st_shndx = 1;
    section.sh_offset = content.size();
    for (int n = 0; n < 100'000; ++n) content.append(reinterpret_cast<const char*>(&symbol), sizeof symbol);
    section.sh_size = content.size() - section.sh_offset;
    std::memcpy(content.data() + at, &section, sizeof section);
  }
  const auto facts = read_elf(content);
  ASSERT_TRUE(facts.has_value()) << facts.error().message;
  EXPECT_EQ(facts->exported.size(), kMostExported);
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  EXPECT_NE(load_error(path).find("it exports more than limpet_plugin_main: "), std::string::npos) << load_error(path);
}

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
      {"id_no_text", "its id, version or license is not UTF-8"},
      {"version_no_text", "its id, version or license is not UTF-8"},
      {"license_no_text", "its id, version or license is not UTF-8"},
      {"no_components", "it has no components"},
      {"short_component", "a component struct is too short"},
      {"no_interface", "a component has no interface id"},
      {"interface_no_text", "a component's interface id is not UTF-8"},
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
      {"duplicate", "it has two components limpet.workload-attestor/1 named \"mock\""},
      {"two_symbols", "it exports more than limpet_plugin_main: mock_second_symbol"},
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

// dlclose is not called, and would not unmap: the descriptor, and threads' destructors, point into the object.
TEST(Loader, APluginStaysMappedAfterItsLastInstanceAndAfterADlclose) {
  const std::string path = mock("counter");
  const auto mapped = [&] {
    std::ifstream maps("/proc/self/maps");
    const std::string all((std::istreambuf_iterator<char>(maps)), {});
    return all.find(path) != std::string::npos;
  };
  ASSERT_FALSE(mapped());
  const auto plugin = load_plugin_file(path, digest_of(path));
  ASSERT_TRUE(plugin) << plugin.error().text();
  {
    FakeLoop loop;
    const auto made = Instance::create({loop, Logger::none(), "example.org"}, *(*plugin)->components[0], "test");
    ASSERT_TRUE(made) << made.error().text();
    (*made)->close();
    loop.run_ready();
  }
  EXPECT_TRUE(mapped());
  // as if the loader had let it go: only RTLD_NODELETE keeps it
  Dl_info where = {};
  ASSERT_NE(::dladdr(*plugin, &where), 0);
  void* handle = ::dlopen(where.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  ASSERT_NE(handle, nullptr) << ::dlerror();
  ::dlclose(handle);
  ::dlclose(handle);
  EXPECT_TRUE(mapped());
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
  EXPECT_NE(load_error(text).find("not a sound ELF file: it has no ELF header"), std::string::npos);
  EXPECT_NE(load_error("/bin/true").find("it does not export limpet_plugin_main"),
            std::string::npos);                     // a program is no shared object of ours
  const std::string fifo = directory + "/fifo.so";  // must not wait for a writer
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_NE(load_plugin_file(fifo, "").error().message.find("it is not a regular file"), std::string::npos);
  EXPECT_NE(load_plugin_file("/dev/null", "").error().message.find("it is not a regular file"), std::string::npos);
}

// Changes one byte of the ELF header.
TEST_F(LoaderFiles, RefusesABuildForAnotherMachine) {
  struct Case {
    std::streamoff at;
    char value;
    const char* reason;
  };
  const Case cases[] = {
      {4, sizeof(void*) == 8 ? 1 : 2, sizeof(void*) == 8 ? "it has 32 bits, this limpet has 64" : "it has 64 bits"},
      {5, 2, "its bytes stand in the other order"},
      {18, 40, "it is for arm, this limpet is for "},
      {16, 2, "it is no shared object"},
  };
  for (const Case& c : cases) {
    const std::string path = copy(mock("good"), 0644);
    std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).seekp(c.at).put(c.value);
    EXPECT_NE(load_error(path).find(c.reason), std::string::npos) << load_error(path);
  }
}

TEST_F(LoaderFiles, RefusesAFileThatIsCutShortAnywhere) {
  const std::string whole = copy(mock("good"), 0644);
  const auto size = static_cast<size_t>(std::filesystem::file_size(whole));
  for (const size_t keep : {size_t{1}, size_t{63}, size_t{64}, size_t{200}, size / 2, size - 1}) {
    copy(mock("good"), 0644);
    ASSERT_EQ(::truncate(whole.c_str(), static_cast<off_t>(keep)), 0);
    EXPECT_NE(load_error(whole).find(" refused: "), std::string::npos) << keep;
  }
}

TEST_F(LoaderFiles, RefusesADirectoryInWhichEveryoneMayReplaceIt) {
  const std::string path = copy(mock("good"), 0644);
  ASSERT_EQ(::chmod(directory.c_str(), 0777), 0);
  const std::string error = load_error(path);
  EXPECT_NE(error.find("every user may replace it, for every user may write "), std::string::npos) << error;
  EXPECT_NE(error.find("run chmod o-w on that"), std::string::npos) << error;
  ASSERT_EQ(::chmod(directory.c_str(), 01777), 0);  // as /tmp: only the owner may replace it
  EXPECT_EQ(load_error(path), "loaded");
  // the link's own place is not what is loaded from; its target's is
  const std::string open_place = directory + "/open";
  ASSERT_EQ(::mkdir(open_place.c_str(), 0700), 0);
  ASSERT_EQ(::chmod(open_place.c_str(), 0777), 0);
  ASSERT_EQ(::symlink(path.c_str(), (open_place + "/link.so").c_str()), 0);
  EXPECT_EQ(load_error(open_place + "/link.so"), "loaded");
}

}  // namespace
}  // namespace limpet
