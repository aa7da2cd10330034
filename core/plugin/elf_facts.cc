// SPDX-License-Identifier: Apache-2.0
#include "plugin/elf_facts.h"

#include <elf.h>
#include <link.h>

#include <cstring>
#include <optional>
#include <utility>

namespace limpet {
namespace {

constexpr size_t kMaxName = 1000;  // of a symbol or a path; longer ones are cut

std::unexpected<Error> damaged(const char* what) {
  return fail(Code::invalid_argument, std::string("not a sound ELF file: ") + what);
}

// The i-th T of a table at `offset`; nullopt beyond the file.
template <class T>
std::optional<T> at(std::string_view file, uint64_t offset, uint64_t i = 0) {
  if (i > file.size() / sizeof(T)) return std::nullopt;
  if (offset > file.size() || file.size() - offset < (i + 1) * sizeof(T)) return std::nullopt;
  T out;
  std::memcpy(&out, file.data() + offset + i * sizeof(T), sizeof(T));
  return out;
}

// The text that starts at `offset` of a string table.
std::string text_at(std::string_view file, const ElfW(Shdr) & table, uint64_t offset) {
  if (table.sh_offset > file.size() || table.sh_size > file.size() - table.sh_offset) return {};
  const std::string_view strings = file.substr(table.sh_offset, table.sh_size);
  if (offset >= strings.size()) return {};
  const std::string_view rest = strings.substr(offset, kMaxName);
  return std::string(rest.substr(0, rest.find('\0')));
}

// The machine that this program was compiled for, as an ELF header names it; EM_NONE: not told.
constexpr uint16_t kMachine =
#if defined(__x86_64__)
    EM_X86_64;
#elif defined(__i386__)
    EM_386;
#elif defined(__aarch64__)
    EM_AARCH64;
#elif defined(__arm__)
    EM_ARM;
#elif defined(__riscv)
    EM_RISCV;
#elif defined(__mips__)
    EM_MIPS;
#elif defined(__powerpc64__)
    EM_PPC64;
#elif defined(__powerpc__)
    EM_PPC;
#elif defined(__s390x__)
    EM_S390;
#else
    EM_NONE;
#endif

std::string machine_name(unsigned machine) {
  switch (machine) {
    case EM_X86_64:
      return "x86-64";
    case EM_386:
      return "i386";
    case EM_AARCH64:
      return "aarch64";
    case EM_ARM:
      return "arm";
    case EM_RISCV:
      return "riscv";
    default:
      return "machine " + std::to_string(machine);
  }
}

// Empty: this program could load it.
std::string wrong_machine(const ElfW(Ehdr) & header) {
  constexpr uint16_t kOne = 1;
  const bool little = *reinterpret_cast<const uint8_t*>(&kOne) == 1;
  const unsigned bits = header.e_ident[EI_CLASS] == ELFCLASS64 ? 64 : 32;
  if (bits != 8 * sizeof(void*))
    return "it has " + std::to_string(bits) + " bits, this limpet has " + std::to_string(8 * sizeof(void*));
  if ((header.e_ident[EI_DATA] == ELFDATA2LSB) != little) return "its bytes stand in the other order";
  if (kMachine != EM_NONE && header.e_machine != kMachine)
    return "it is for " + machine_name(header.e_machine) + ", this limpet is for " + machine_name(kMachine);
  return {};
}

bool is_exported(const ElfW(Sym) & symbol) {
  const unsigned binding = symbol.st_info >> 4;
  const unsigned visibility = symbol.st_other & 3;
  return symbol.st_shndx != SHN_UNDEF && (binding == STB_GLOBAL || binding == STB_WEAK || binding == STB_GNU_UNIQUE) &&
         (visibility == STV_DEFAULT || visibility == STV_PROTECTED);
}

Result<void> read_symbols(std::string_view file, const ElfW(Shdr) & section, const ElfW(Shdr) & strings,
                          ElfFacts& out) {
  for (uint64_t i = 1; i < section.sh_size / sizeof(ElfW(Sym)) && out.exported.size() < kMostExported; ++i) {
    const auto symbol = at<ElfW(Sym)>(file, section.sh_offset, i);
    if (!symbol) return damaged("its symbols end too early");
    const bool version = symbol->st_shndx == SHN_ABS;  // a name of the version script
    if (is_exported(*symbol) && !version) out.exported.push_back(text_at(file, strings, symbol->st_name));
  }
  return {};
}

Result<void> read_dynamic(std::string_view file, const ElfW(Shdr) & section, const ElfW(Shdr) & strings,
                          ElfFacts& out) {
  for (uint64_t i = 0; i < section.sh_size / sizeof(ElfW(Dyn)); ++i) {
    const auto entry = at<ElfW(Dyn)>(file, section.sh_offset, i);
    if (!entry) return damaged("its dynamic section ends too early");
    const auto value = entry->d_un.d_val;
    if (entry->d_tag == DT_NULL) break;
    if (entry->d_tag == DT_RPATH || entry->d_tag == DT_RUNPATH) out.run_path = text_at(file, strings, value);
    if (entry->d_tag == DT_TEXTREL) out.text_relocations = true;
    if (entry->d_tag == DT_BIND_NOW) out.bind_now = true;
    if (entry->d_tag == DT_FLAGS && (value & DF_TEXTREL) != 0) out.text_relocations = true;
    if (entry->d_tag == DT_FLAGS && (value & DF_BIND_NOW) != 0) out.bind_now = true;
    if (entry->d_tag == DT_FLAGS_1 && (value & DF_1_NOW) != 0) out.bind_now = true;
  }
  return {};
}

}  // namespace

Result<ElfFacts> read_elf(std::string_view file) {
  const auto header = at<ElfW(Ehdr)>(file, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return damaged("it has no ELF header");
  if (const std::string wrong = wrong_machine(*header); !wrong.empty())
    return fail(Code::invalid_argument, wrong + "; use a build for this machine");
  if (header->e_type != ET_DYN) return damaged("it is no shared object");
  ElfFacts out;
  for (unsigned i = 0; i < header->e_phnum; ++i) {
    const auto segment = at<ElfW(Phdr)>(file, header->e_phoff, i);
    if (!segment) return damaged("its program headers end too early");
    if (segment->p_type == PT_GNU_RELRO) out.relro = true;
    if (segment->p_type == PT_GNU_STACK && (segment->p_flags & PF_X) != 0) out.executable_stack = true;
  }
  bool symbols = false;  // the first table of each kind counts: a sound file has one
  bool dynamic = false;
  for (unsigned i = 0; i < header->e_shnum; ++i) {
    const auto section = at<ElfW(Shdr)>(file, header->e_shoff, i);
    if (!section) return damaged("its section headers end too early");
    if (section->sh_type != SHT_DYNSYM && section->sh_type != SHT_DYNAMIC) continue;
    const auto strings = at<ElfW(Shdr)>(file, header->e_shoff, section->sh_link);
    if (!strings) return damaged("a section without its names");
    if (section->sh_type == SHT_DYNSYM) {
      if (std::exchange(symbols, true)) continue;
      TRY(read_symbols(file, *section, *strings, out));
    } else {
      if (std::exchange(dynamic, true)) continue;
      TRY(read_dynamic(file, *section, *strings, out));
    }
  }
  if (!symbols) return damaged("it has no table of dynamic symbols");
  return out;
}

}  // namespace limpet
