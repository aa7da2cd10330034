// SPDX-License-Identifier: Apache-2.0
#include "store/page_walk.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "store/codec.h"
#include "store/lmdb.h"

namespace limpet {

namespace {

// ---- LMDB's data file, data version 1, in the machine's own byte order and word size ----
using Word = size_t;
constexpr uint32_t kMagic = 0xBEEFC0DE;
constexpr uint32_t kDataVersion = 1;
constexpr uint32_t kNextDataVersion = 2;  // LMDB 1.0
constexpr Word kNoPage = ~Word{0};
constexpr uint16_t kBranch = 1, kLeaf = 2, kOverflow = 4, kMeta = 8;  // page flags
constexpr uint16_t kBigData = 1, kSubData = 2;                        // node flags
constexpr size_t kDeepest = 30;                                       // LMDB's cursor stack has 32

struct PageHead {
  Word number;
  uint16_t pad;
  uint16_t flags;
  uint16_t lower;  // end of the offsets
  uint16_t upper;  // start of the nodes; with lower, the page count of an overflow run
};
struct TreeHead {
  uint32_t pad;  // of the first tree in a meta page: the page size
  uint16_t flags;
  uint16_t depth;
  Word branch_pages, leaf_pages, overflow_pages, entries, root;
};
struct Meta {
  uint32_t magic;
  uint32_t version;
  Word address;
  Word map_size;
  TreeHead trees[2];  // free pages, main
  Word last_page;
  Word transaction;
};
constexpr size_t kPageHead = sizeof(PageHead);
constexpr size_t kNodeHead = 8;  // two 16-bit halves of a size (or page number), flags, key size
static_assert(kPageHead == sizeof(Word) + 8);

template <class T>
T load(BytesView bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

struct Node {
  uint16_t flags = 0;
  BytesView key;
  BytesView data;  // of a leaf: what stands in the page
  Word size = 0;   // of a leaf: of the value, which may stand in overflow pages
  Word child = 0;  // of a branch
};

// Keys a subtree may hold: low <= key < high; no bound when empty.
struct Bounds {
  BytesView low, high;
};

class Walker {
 public:
  explicit Walker(int fd) : fd_(fd) {}
  Verdict run();

 private:
  bool bad(std::string reason) {
    if (verdict_.kind == Verdict::Kind::sound) verdict_ = {Verdict::Kind::damaged, 0, std::move(reason)};
    return false;
  }
  bool bad_page(Word number, std::string_view what) {
    return bad("page " + std::to_string(number) + ": " + std::string(what));
  }
  bool read_at(uint64_t offset, std::span<uint8_t> out);
  bool pick_meta(uint64_t file_size);
  bool read_meta(uint64_t offset, size_t page_size, Meta& meta);
  bool claim(Word number);
  bool walk_tree(const TreeHead& tree);
  bool walk_page(Word number, size_t level, const Bounds& bounds);
  bool walk_branch(BytesView page, Word number, size_t level, const Bounds& bounds);
  bool walk_leaf(BytesView page, Word number, const Bounds& bounds);
  bool split(BytesView page, Word number, size_t count, bool branch, std::vector<Node>& nodes);
  bool in_order(const std::vector<Node>& nodes, Word number, bool branch, const Bounds& bounds);
  bool on_leaf_node(const Node& node, Word number);
  bool whole_value(const Node& node, Word number, BytesView& value);
  bool on_free_list(BytesView value, Word number);
  bool on_table(const Node& node);
  bool on_row(const Node& node, BytesView value);
  [[nodiscard]] int compare(BytesView a, BytesView b) const;

  int fd_;
  Verdict verdict_;
  size_t page_size_ = 0;
  Meta meta_{};
  std::vector<bool> claimed_;
  std::vector<Bytes> buffers_;  // one page per level of the tree being walked
  Bytes overflow_;
  // the tree being walked
  enum class Tree : uint8_t { free, main, table } kind_ = Tree::free;
  TableId table_ = kMetaTable;
  bool known_table_ = false;
  size_t depth_ = 0;
  Word seen_ = 0;
  std::vector<std::pair<Bytes, TreeHead>> found_tables_;
};

bool Walker::read_at(uint64_t offset, std::span<uint8_t> out) {
  size_t have = 0;
  while (have < out.size()) {
    ssize_t got = ::pread(fd_, out.data() + have, out.size() - have, static_cast<off_t>(offset + have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      int reason = errno;
      if (verdict_.kind == Verdict::Kind::sound) verdict_ = {Verdict::Kind::unreadable, 0, std::strerror(reason)};
      return false;
    }
    if (got == 0) return bad("the file ends too early");
    have += static_cast<size_t>(got);
  }
  return true;
}

bool Walker::read_meta(uint64_t offset, size_t page_size, Meta& meta) {
  Bytes head(kPageHead + sizeof(Meta));
  if (!read_at(offset, head)) return false;
  const auto page = load<PageHead>(head, 0);
  meta = load<Meta>(head, kPageHead);
  if ((page.flags & kMeta) == 0 || meta.magic != kMagic) return bad("not a store's data file");
  if (meta.version == kNextDataVersion) {
    verdict_ = {Verdict::Kind::newer, 0, ""};
    return false;
  }
  if (meta.version != kDataVersion) return bad("unknown data version");
  const size_t size = meta.trees[0].pad;
  if (size < 512 || size > 65536 || (size & (size - 1)) != 0 || (page_size != 0 && size != page_size))
    return bad("wrong page size");
  return true;
}

bool Walker::pick_meta(uint64_t file_size) {
  Meta second{};
  if (!read_meta(0, 0, meta_)) return false;
  page_size_ = meta_.trees[0].pad;
  if (!read_meta(page_size_, page_size_, second)) return false;
  if (second.transaction > meta_.transaction) meta_ = second;
  const uint64_t pages = file_size / page_size_;
  if (meta_.last_page < 1 || meta_.last_page >= pages) {
    return bad("truncated: the file has " + std::to_string(pages) + " pages, the last one in use is " +
               std::to_string(meta_.last_page));
  }
  claimed_.resize(meta_.last_page + 1);
  return true;
}

// Every page belongs to one place only.
bool Walker::claim(Word number) {
  if (number < 2 || number > meta_.last_page) return bad_page(number, "number out of range");
  if (claimed_[number]) return bad_page(number, "used twice");
  claimed_[number] = true;
  return true;
}

bool Walker::walk_tree(const TreeHead& tree) {
  seen_ = 0;
  depth_ = tree.depth;
  if (tree.root == kNoPage) return (tree.depth == 0 && tree.entries == 0) || bad("an empty tree that counts entries");
  if (tree.depth == 0 || tree.depth > kDeepest) return bad("impossible tree depth");
  if (buffers_.size() < depth_ + 1) buffers_.resize(depth_ + 1, Bytes(page_size_));
  if (!walk_page(tree.root, 1, {})) return false;
  return seen_ == tree.entries || bad("rows are missing, or too many");
}

bool Walker::walk_page(Word number, size_t level, const Bounds& bounds) {
  if (!claim(number)) return false;
  Bytes& buffer = buffers_[level];
  if (!read_at(uint64_t{number} * page_size_, buffer)) return false;
  const auto head = load<PageHead>(buffer, 0);
  if (head.number != number) return bad_page(number, "is not the page it should be");
  const uint16_t expected = level == depth_ ? kLeaf : kBranch;
  if (head.flags != expected) return bad_page(number, "wrong kind");
  if (head.lower < kPageHead || head.lower > head.upper || head.upper > page_size_ || (head.lower & 1) != 0) {
    return bad_page(number, "impossible bounds");
  }
  return expected == kLeaf ? walk_leaf(buffer, number, bounds) : walk_branch(buffer, number, level, bounds);
}

// Cuts a page into its nodes and proves that they fill its upper part without overlap.
bool Walker::split(BytesView page, Word number, size_t count, bool branch, std::vector<Node>& nodes) {
  const auto head = load<PageHead>(page, 0);
  std::vector<std::pair<size_t, size_t>> extents;
  extents.reserve(count);
  nodes.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const size_t at = load<uint16_t>(page, kPageHead + 2 * i);
    if (at < head.upper || at + kNodeHead > page_size_) return bad_page(number, "node out of bounds");
    const Word low = load<uint16_t>(page, at), high = load<uint16_t>(page, at + 2);
    Node node;
    node.flags = load<uint16_t>(page, at + 4);
    const size_t key_size = load<uint16_t>(page, at + 6);
    size_t size = kNodeHead + key_size;
    if (branch) {
      node.child = low | high << 16;
      if constexpr (sizeof(Word) > 4) node.child |= Word{node.flags} << 32;
    } else {
      node.size = low | high << 16;
      if (node.flags != 0 && node.flags != kBigData && node.flags != kSubData)
        return bad_page(number, "unknown node flags");
      size += node.flags == kBigData ? sizeof(Word) : node.size;
    }
    if (at + size > page_size_ || key_size > kLongestKey) return bad_page(number, "node too large");
    node.key = page.subspan(at + kNodeHead, key_size);
    if (!branch) node.data = page.subspan(at + kNodeHead + key_size, size - kNodeHead - key_size);
    extents.emplace_back(at, size + (size & 1));
    nodes.push_back(node);
  }
  std::ranges::sort(extents);
  size_t next = head.upper;
  for (auto [at, size] : extents) {
    if (at != next) return bad_page(number, "nodes overlap or leave a gap");
    next = at + size;
  }
  return next == page_size_ || bad_page(number, "nodes do not fill the page");
}

int Walker::compare(BytesView a, BytesView b) const {
  if (kind_ == Tree::free) {
    const Word x = load<Word>(a, 0), y = load<Word>(b, 0);
    return x < y ? -1 : x > y ? 1 : 0;
  }
  const int order = std::memcmp(a.data(), b.data(), std::min(a.size(), b.size()));
  return order != 0 ? order : a.size() < b.size() ? -1 : a.size() > b.size() ? 1 : 0;
}

// A branch page's first key is not looked at by searches and may be empty.
bool Walker::in_order(const std::vector<Node>& nodes, Word number, bool branch, const Bounds& bounds) {
  for (size_t i = branch ? 1 : 0; i < nodes.size(); ++i) {
    const BytesView key = nodes[i].key;
    if (key.empty() || (kind_ == Tree::free && key.size() != sizeof(Word))) return bad_page(number, "impossible key");
    if (i > (branch ? 1u : 0u) && compare(nodes[i - 1].key, key) >= 0) return bad_page(number, "keys out of order");
    if (!bounds.low.empty() && compare(key, bounds.low) < 0) return bad_page(number, "key below its branch");
    if (!bounds.high.empty() && compare(key, bounds.high) >= 0) return bad_page(number, "key above its branch");
  }
  return true;
}

bool Walker::walk_branch(BytesView page, Word number, size_t level, const Bounds& bounds) {
  const size_t count = (load<PageHead>(page, 0).lower - kPageHead) / 2;
  if (count < (kind_ == Tree::free ? 1u : 2u)) return bad_page(number, "branch without branches");
  std::vector<Node> nodes;
  if (!split(page, number, count, true, nodes) || !in_order(nodes, number, true, bounds)) return false;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Bounds below{i == 0 ? bounds.low : nodes[i].key, i + 1 < nodes.size() ? nodes[i + 1].key : bounds.high};
    if (!walk_page(nodes[i].child, level + 1, below)) return false;
  }
  return true;
}

bool Walker::walk_leaf(BytesView page, Word number, const Bounds& bounds) {
  const size_t count = (load<PageHead>(page, 0).lower - kPageHead) / 2;
  if (count == 0) return bad_page(number, "empty leaf");
  std::vector<Node> nodes;
  if (!split(page, number, count, false, nodes) || !in_order(nodes, number, false, bounds)) return false;
  for (const Node& node : nodes) {
    if (!on_leaf_node(node, number)) return false;
  }
  seen_ += count;
  return true;
}

bool Walker::whole_value(const Node& node, Word number, BytesView& value) {
  if (node.flags != kBigData) {
    value = node.data;
    return true;
  }
  const Word first = load<Word>(node.data, 0);
  const Word pages = (kPageHead - 1 + node.size) / page_size_ + 1;
  if (first > meta_.last_page || pages > meta_.last_page - first + 1)
    return bad_page(number, "value beyond the file's end");
  for (Word i = 0; i < pages; ++i) {
    if (!claim(first + i)) return false;
  }
  overflow_.resize(pages * page_size_);
  if (!read_at(uint64_t{first} * page_size_, overflow_)) return false;
  const auto head = load<PageHead>(overflow_, 0);
  const uint32_t said = load<uint32_t>(overflow_, sizeof(Word) + 4);
  if (head.number != first || head.flags != kOverflow || said != pages)
    return bad_page(first, "is not the value it should be");
  value = BytesView(overflow_).subspan(kPageHead, node.size);
  return true;
}

bool Walker::on_leaf_node(const Node& node, Word number) {
  BytesView value;
  if ((node.flags == kSubData) != (kind_ == Tree::main)) return bad_page(number, "a table where none can be");
  if (!whole_value(node, number, value)) return false;
  switch (kind_) {
    case Tree::free:
      return on_free_list(value, number);
    case Tree::main:
      return on_table(node);
    case Tree::table:
      return on_row(node, value);
  }
  return true;
}

// A count, then page numbers in falling order.
bool Walker::on_free_list(BytesView value, Word number) {
  if (value.size() < sizeof(Word)) return bad_page(number, "free list too short");
  const Word count = load<Word>(value, 0);
  if (count > value.size() / sizeof(Word) - 1) return bad_page(number, "free list too long");
  Word last = kNoPage;
  for (Word i = 1; i <= count; ++i) {
    const Word free = load<Word>(value, i * sizeof(Word));
    if (free >= last) return bad_page(number, "free list out of order");
    if (!claim(free)) return false;
    last = free;
  }
  return true;
}

bool Walker::on_table(const Node& node) {
  if (node.data.size() != sizeof(TreeHead)) return bad("the list of tables is damaged");
  const auto tree = load<TreeHead>(node.data, 0);
  if (tree.flags != 0) return bad("a table of an unknown kind");
  found_tables_.emplace_back(to_bytes(node.key), tree);
  return true;
}

bool Walker::on_row(const Node& node, BytesView value) {
  if (!known_table_) return true;
  if (!checksum_holds(static_cast<uint8_t>(table_), node.key, value))
    return bad("wrong checksum at " + key_text(table_, node.key));
  if (table_ == kMetaTable && as_text(node.key) == kSchemaKey) {
    const uint64_t schema = decode_u64(value.subspan(kChecksumBytes));
    if (schema > kSchema) {
      verdict_ = {Verdict::Kind::newer, schema, ""};
      return false;
    }
    if (schema == 0) return bad("no schema version");
  }
  return true;
}

Verdict Walker::run() {
  struct stat file{};
  if (::fstat(fd_, &file) != 0) return {Verdict::Kind::unreadable, 0, std::strerror(errno)};
  if (!pick_meta(static_cast<uint64_t>(file.st_size))) return verdict_;
  kind_ = Tree::main;
  if (!walk_tree(meta_.trees[1])) return verdict_;
  // the schema comes first: a newer version may keep its rows in another way
  auto is_meta = [](const auto& table) { return as_text(table.first) == "meta"; };
  if (!found_tables_.empty() && std::ranges::none_of(found_tables_, is_meta)) {
    bad("not a store of this program");
    return verdict_;
  }
  std::ranges::stable_partition(found_tables_, is_meta);
  kind_ = Tree::table;
  for (const auto& [name, tree] : found_tables_) {
    auto same = [&name](TableId table) { return as_text(name) == database_name(table); };
    const auto* known = std::ranges::find_if(kTables, same);
    known_table_ = known != kTables.end();
    if (known_table_) table_ = *known;
    if (!walk_tree(tree)) return verdict_;
  }
  kind_ = Tree::free;
  walk_tree(meta_.trees[0]);
  return verdict_;
}

}  // namespace

Verdict walk_pages(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {Verdict::Kind::unreadable, 0, std::strerror(errno)};
  Verdict verdict = Walker(fd).run();
  ::close(fd);
  return verdict;
}

}  // namespace limpet
