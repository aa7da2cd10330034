// SPDX-License-Identifier: Apache-2.0
// Instances that come and go leave nothing: in process for each flag, and in child processes, of which it is the host's
// memory and descriptors that are counted.
#include "support/cycles.h"

#include <fcntl.h>
#include <unistd.h>

#include "shimmed.h"

namespace limpet {
namespace {

using namespace test;

constexpr int kLives = 10'000;
constexpr int kChildren = 500;  // a process each

void expect_nothing_left(UvLoop& loop, const limpet_component& component, int lives) {
  Cycles cycles(loop, component);
  ASSERT_TRUE(cycles.warm_up()) << cycles.error();
  Leaked leaked;
  ASSERT_TRUE(cycles.measure(lives, leaked)) << cycles.error();
  EXPECT_TRUE(leaked.bytes == 0 || !kHeapIsExact) << leaked.bytes;
  EXPECT_EQ(leaked.descriptors, 0);
}

const limpet_component& loaded(const std::string& path) {
  const auto plugin = load_plugin_file(path, digest_of_file(path));
  EXPECT_TRUE(plugin) << plugin.error().text();
  return *find_component(**plugin, LIMPET_KEY_MANAGER, "moody");
}

class CyclesInProcess : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Plugin, CyclesInProcess,
                         ::testing::Values("mock_moody", "mock_moody_blocking", "mock_moody_serial"));

TEST_P(CyclesInProcess, LeaveNoByteAndNoDescriptor) {
  UvLoop loop;
  expect_nothing_left(loop, loaded(std::string(LIMPET_MOCKS) + "/" + GetParam() + ".so"), kLives);
}

// Without a sanitizer in the child: it starts in a tenth of the time, and with its sandbox.
TEST(CyclesInChildren, LeaveNoByteAndNoDescriptor) {
  UvLoop loop;
  shim::Settings settings;
  settings.program = LIMPET_PLAIN_SHIM;
  const std::string path = std::string(LIMPET_MOCKS) + "/mock_moody_plain.so";
  auto component = shim::Component::open(loop, settings, path, digest_of_file(path), LIMPET_KEY_MANAGER, "moody");
  ASSERT_TRUE(component) << component.error().text();
  expect_nothing_left(loop, **component, kChildren);
}

// ---- the measure itself ----

std::vector<std::unique_ptr<char>> kept_bytes;
std::vector<int> kept_descriptors;
limpet_code (*plain_create)(const limpet_host*, limpet_instance**);

class Leaky : public ::testing::Test {
 protected:
  Leaky() : component(loaded(std::string(LIMPET_MOCKS) + "/mock_moody.so")) {
    kept_bytes.reserve(10'000);
    kept_descriptors.reserve(10'000);
    plain_create = component.create;
  }
  ~Leaky() override {
    kept_bytes.clear();
    for (const int fd : kept_descriptors) ::close(fd);
    kept_descriptors.clear();
  }
  Leaked measured() {
    Cycles cycles(loop, component);
    EXPECT_TRUE(cycles.warm_up()) << cycles.error();
    Leaked out;
    EXPECT_TRUE(cycles.measure(100, out)) << cycles.error();
    return out;
  }
  UvLoop loop;
  limpet_component component;
};

TEST_F(Leaky, AByteAnInstanceIsSeen) {
  component.create = [](const limpet_host* host, limpet_instance** out) {
    kept_bytes.emplace_back(new char);
    return plain_create(host, out);
  };
  const Leaked leaked = measured();
  EXPECT_GE(leaked.bytes, 100);
  EXPECT_EQ(leaked.descriptors, 0);
}

TEST_F(Leaky, OneByteAmongAHundredInstancesIsSeen) {
  static int turn;
  turn = 0;
  component.create = [](const limpet_host* host, limpet_instance** out) {
    if (++turn % 100 == 0) kept_bytes.emplace_back(new char);
    return plain_create(host, out);
  };
  const Leaked leaked = measured();
  EXPECT_TRUE(leaked.bytes == 1 || !kHeapIsExact) << leaked.bytes;
}

TEST_F(Leaky, ADescriptorAnInstanceIsSeen) {
  component.create = [](const limpet_host* host, limpet_instance** out) {
    kept_descriptors.push_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    return plain_create(host, out);
  };
  EXPECT_EQ(measured().descriptors, 100);
}

}  // namespace
}  // namespace limpet
