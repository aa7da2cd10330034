// SPDX-License-Identifier: Apache-2.0
// A look at plugins that are sound, refused, or break the process that looks.
#include "plugin/describe.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "plugin/loader.h"
#include "plugin/shim_component.h"
#include "plugin/shim_wire.h"

namespace limpet {
namespace {

std::string mock(const std::string& name) { return LIMPET_MOCKS "/mock_" + name + ".so"; }

shim::Settings settings(int64_t ms = 20'000, const std::string& program = LIMPET_SHIM) {
  shim::Settings out;
  out.program = program;
  out.sandbox = false;  // a sanitizer's memory and calls fit no policy; the sandbox has tests of its own
  out.look_ms = ms;
  return out;
}
std::string error_of(const std::string& name, int64_t ms = 20'000) {
  const auto found = shim::Component::describe(settings(ms), mock(name), "");
  return found ? "described" : found.error().text();
}

TEST(Describe, TellsWhatTheDescriptorSays) {
  const auto found = shim::Component::describe(settings(), mock("good"), "");
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
  EXPECT_EQ(found->components[0].flags, 0u);
  EXPECT_FALSE(found->components[0].blocking);
  // and the digest is the one to configure
  EXPECT_TRUE(load_plugin_file(mock("good"), found->sha256));
}

TEST(Describe, TellsOfEveryComponent) {
  const auto found = shim::Component::describe(settings(), mock("counter"), "");
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

TEST(Describe, DoesNotWaitForAPluginThatClosesEverythingAndHangs) {
  EXPECT_EQ(error_of("closes", 1000), "DeadlineExceeded: plugin " + mock("closes") +
                                          " refused: its code did not return within 1 s of being loaded");
}

TEST(Describe, ComparesTheDigestBeforeTheCodeRuns) {
  const auto found = shim::Component::describe(settings(), mock("crashes"), std::string(64, '0'));
  ASSERT_FALSE(found);
  EXPECT_NE(found.error().message.find("but the configuration expects 000"), std::string::npos) << found.error().text();
}

TEST(Describe, DoesNotBelieveWhatThePluginsCodeWrites) {
  EXPECT_EQ(error_of("lies"),
            "Internal: plugin " + mock("lies") + " refused: what its process said cannot be understood");
}

// A child that writes what the test says. Its first argument is a name, and that is all it gets.
class HostileChild {
 public:
  explicit HostileChild(const std::vector<std::string>& pieces, const std::string& last = "exec sleep 60") {
    char name[] = "/tmp/limpet-hostile-XXXXXX";
    folder_ = ::mkdtemp(name);
    std::ofstream script(program());
    script << "#!/bin/sh\n";
    for (size_t i = 0; i < pieces.size(); ++i) {
      const std::string file = folder_ + "/" + std::to_string(i);
      std::ofstream(file, std::ios::binary) << pieces[i];
      script << "cat " << file << " >&3\n";
    }
    script << last << "\n";
    script.close();
    ::chmod(program().c_str(), 0755);
  }
  ~HostileChild() { std::filesystem::remove_all(folder_); }
  HostileChild(const HostileChild&) = delete;
  HostileChild& operator=(const HostileChild&) = delete;
  [[nodiscard]] std::string program() const { return folder_ + "/program"; }
  std::string look(int64_t ms = 20'000) const {
    const auto found = shim::Component::describe(settings(ms, program()), mock("good"), "");
    return found ? "described " + found->id : found.error().text();
  }

 private:
  std::string folder_;
};

std::string frame(shim::FrameWriter&& writer) { return std::string(as_text(std::move(writer).finish())); }
std::string greeting(uint32_t wire = shim::kWireVersion) {
  shim::FrameWriter out(shim::Method::greeting, 0);
  out.u32(wire);
  out.u32(0);
  return frame(std::move(out));
}
struct Said {
  std::string id = "org.example.x", version = "1", license = "MIT", interface_id = "limpet.sealer/1", name = "x";
  uint32_t count = 1;
  std::string more = "";
};
std::string description(const Said& said) {
  shim::FrameWriter out(shim::Method::described, 0);
  for (const std::string& text : {said.id, said.version, said.license}) out.text(text);
  out.u32(1);
  out.u32(0);
  out.u32(said.count);
  out.text(said.interface_id);
  out.text(said.name);
  out.u32(0);
  for (const char c : said.more) out.u32(static_cast<uint32_t>(c));
  return frame(std::move(out));
}

TEST(Describe, BelievesAChildOnlyWhatADescriptorMaySay) {
  EXPECT_EQ(HostileChild({greeting(), description({})}).look(), "described org.example.x");
  const std::string babble =
      "Internal: plugin " + mock("good") + " refused: what its process said cannot be understood";
  const std::string long_name(65, 'x'), long_text(256, 'x');
  shim::FrameWriter no_code(shim::Method::refused, 0), large_code(shim::Method::refused, 0);
  no_code.u32(0);
  no_code.text("because");
  large_code.u32(17);
  large_code.text("because");
  const std::string cases[] = {
      greeting() + description({.id = ""}),
      greeting() + description({.id = long_text}),
      greeting() + description({.id = "\xff"}),
      greeting() + description({.version = long_text}),
      greeting() + description({.version = std::string("1\0", 2)}),
      greeting() + description({.license = long_text}),
      greeting() + description({.interface_id = long_name}),
      greeting() + description({.name = long_name}),
      greeting() + description({.name = "\xc0\x80"}),
      greeting() + description({.count = 2}),
      greeting() + description({.count = 65}),
      greeting() + description({.count = UINT32_MAX}),
      greeting() + description({.more = "x"}),
      greeting() + greeting(),
      greeting() + frame(std::move(no_code)),
      greeting() + frame(std::move(large_code)),
      greeting() + frame(shim::FrameWriter(shim::Method::refused, 0)),
      greeting() + "\xff\xff\xff\x7f",
      greeting(shim::kWireVersion + 1),
      frame(shim::FrameWriter(shim::Method::greeting, 0)),
      description({}),  // without a greeting
      frame(shim::FrameWriter(shim::Method::log, 0)),
  };
  for (size_t i = 0; i < std::size(cases); ++i) EXPECT_EQ(HostileChild({cases[i]}).look(), babble) << i;
}

// A byte a tenth of a second would be in time for each read, and for ever.
TEST(Describe, OneDeadlineIsForAllThatAChildSays) {
  const HostileChild child({greeting()}, "printf '\\377\\377\\017\\000' >&3\nwhile printf x >&3; do sleep 0.1; done");
  EXPECT_EQ(child.look(1000), "DeadlineExceeded: plugin " + mock("good") +
                                  " refused: its code did not return within 1 s of being loaded");
}

}  // namespace
}  // namespace limpet
