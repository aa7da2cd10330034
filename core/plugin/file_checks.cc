// SPDX-License-Identifier: Apache-2.0
#include "plugin/file_checks.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "plugin/elf_facts.h"

namespace limpet {
namespace {

std::unexpected<Error> refuse(std::string_view path, const std::string& why) {
  return fail(Code::failed_precondition, "plugin " + std::string(path) + " refused: " + why);
}

// What linkers export on their own account, where they still do.
constexpr std::string_view kLinkerNames[] = {"_init", "_fini", "__bss_start", "_edata", "_end"};
constexpr size_t kNamesTold = 3;

}  // namespace

Result<void> check_place(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), &std::free);
  if (real == nullptr) return refuse(path, std::string("cannot be examined: ") + std::strerror(errno));
  std::string directory = real.get();
  while (directory.size() > 1) {
    const size_t end = directory.rfind('/');
    directory.resize(end > 0 ? end : 1);
    struct stat st = {};
    if (::stat(directory.c_str(), &st) != 0)
      return refuse(path, directory + " cannot be examined: " + std::strerror(errno));
    if ((st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0)
      return refuse(path,
                    "every user may replace it, for every user may write " + directory + "; run chmod o-w on that");
  }
  return {};
}

Result<void> check_shared_object(std::string_view file, std::string_view path) {
  const auto facts = read_elf(file);
  if (!facts) return refuse(path, facts.error().message);
  std::string more;
  size_t count = 0;
  bool entry = false;
  for (const std::string& name : facts->exported) {
    if (name == "limpet_plugin_main") {
      entry = true;
    } else if (std::ranges::find(kLinkerNames, name) == std::end(kLinkerNames)) {
      if (++count <= kNamesTold) more += (count > 1 ? ", " : "") + name.substr(0, 100);
    }
  }
  if (!entry && facts->exported.size() < kMostExported) return refuse(path, "it does not export limpet_plugin_main");
  if (count > kNamesTold) more += ", ...";
  if (count > 0) {
    return refuse(path, "it exports more than limpet_plugin_main: " + more +
                            "; link it with -Wl,--version-script=limpet_plugin.map");
  }
  return {};
}

}  // namespace limpet
