// SPDX-License-Identifier: Apache-2.0
// Damaged, truncated, foreign and newer data files: the process lives, the file is kept, the reason is said.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include <random>

#include "store/check.h"
#include "store/lmdb.h"
#include "store/page_walk.h"
#include "store_rig.h"

namespace limpet {
namespace {

using ::testing::HasSubstr;
constexpr TableId kTable = TableId::agent_state;

// A store with branch pages, overflow pages, a free list and deletions.
void fill(Rig& rig) {
  rig.open();
  for (int round = 0; round < 6; ++round) {
    ChangeSet set;
    for (int i = 0; i < 150; ++i) {
      const std::string key = "key " + std::to_string(round * 97 + i);
      set.put(kTable, as_bytes(key), as_bytes(std::string(static_cast<size_t>(20 + i), 'v')));
      if (i % 3 == 0) set.remove(kTable, as_bytes("key " + std::to_string(i + round)));
    }
    set.put(TableId::bundles, as_bytes("big" + std::to_string(round % 2)), as_bytes(std::string(10'000, 'b')));
    ASSERT_TRUE(rig.commit(std::move(set)).has_value());
  }
  rig.store.reset();
}

std::vector<std::string> set_aside_files(const TempDir& dir) {
  std::vector<std::string> found;
  for (const auto& file : std::filesystem::directory_iterator(dir.path())) {
    if (file.path().string().find(".damaged-") != std::string::npos) found.push_back(file.path().string());
  }
  return found;
}

// Opens, reads everything and writes; true when the file was taken as sound.
bool survives(Rig& rig) {
  rig.open();
  if (!rig.store) return false;
  for (TableId table : kTables) {
    EXPECT_TRUE(rig.store->read().scan(table, {}, [](BytesView, BytesView) { return true; }).has_value());
  }
  for (int i = 0; i < 20; ++i)
    EXPECT_TRUE(rig.put(kTable, "key " + std::to_string(i * 7), std::string(300, 'n')).has_value());
  const bool sound = rig.store->damage().empty();
  EXPECT_EQ(set_aside_files(rig.dir).size(), sound ? 0u : 1u);
  rig.store.reset();
  return sound;
}

TEST(Damage, ASoundStoreIsSound) {
  Rig rig;
  fill(rig);
  EXPECT_EQ(walk_pages(rig.dir.file()).reason, "");
  EXPECT_EQ(check_store(rig.dir.file(), true).reason, "");
  EXPECT_TRUE(survives(rig));
}

TEST(Damage, AnEmptyFileIsANewStore) {
  Rig rig;
  write_file(rig.dir.file(), "");
  EXPECT_TRUE(survives(rig));
}

TEST(Damage, AFileThatWasCreatedAndNeverWrittenIsANewStore) {
  Rig rig;
  {
    MDB_env* raw = nullptr;
    ASSERT_EQ(mdb_env_create(&raw), 0);
    EnvHandle env(raw);
    ASSERT_EQ(mdb_env_open(raw, rig.dir.file().c_str(), MDB_NOSUBDIR, 0600), 0);
  }
  EXPECT_TRUE(survives(rig));
}

TEST(Damage, GarbageIsSetAsideAndKept) {
  std::mt19937 random(7);
  for (size_t size : {1u, 100u, 4095u, 4096u, 8192u, 200'000u}) {
    SCOPED_TRACE(size);
    std::string garbage(size, '\0');
    for (char& c : garbage) c = static_cast<char>(random());
    Rig rig;
    write_file(rig.dir.file(), garbage);
    rig.open();
    EXPECT_THAT(rig.store->damage(), HasSubstr(rig.dir.file() + " was damaged"));
    EXPECT_THAT(rig.store->damage(), HasSubstr("To restore: "));
    auto aside = set_aside_files(rig.dir);
    ASSERT_EQ(aside.size(), 1u);
    EXPECT_THAT(rig.store->damage(), HasSubstr(aside[0]));
    EXPECT_EQ(read_file(aside[0]), garbage);
    EXPECT_EQ(rig.put(kTable, "a", "1"), 1u);
  }
}

TEST(Damage, AnotherProgramsDatabaseIsSetAside) {
  Rig rig;
  {
    MDB_env* raw = nullptr;
    ASSERT_EQ(mdb_env_create(&raw), 0);
    EnvHandle env(raw);
    ASSERT_EQ(mdb_env_set_maxdbs(raw, 4), 0);
    ASSERT_EQ(mdb_env_open(raw, rig.dir.file().c_str(), MDB_NOSUBDIR, 0600), 0);
    MDB_txn* txn = nullptr;
    MDB_dbi dbi = 0;
    ASSERT_EQ(mdb_txn_begin(raw, nullptr, 0, &txn), 0);
    ASSERT_EQ(mdb_dbi_open(txn, "theirs", MDB_CREATE, &dbi), 0);
    ASSERT_EQ(mdb_txn_commit(txn), 0);
  }
  EXPECT_FALSE(survives(rig));
}

TEST(Damage, ATruncatedFileIsSetAsideAtWhateverLength) {
  Rig source;
  fill(source);
  const std::string whole = read_file(source.dir.file());
  ASSERT_GT(whole.size(), 20u * 4096u);
  std::mt19937 random(11);
  std::vector<size_t> lengths = {
      1, 15, 16, 100, 4095, 4096, 4097, 8191, 8192, 8193, 12288, whole.size() - 1, whole.size() - 4096};
  for (int i = 0; i < 20; ++i) lengths.push_back(random() % whole.size());
  for (size_t length : lengths) {
    SCOPED_TRACE(length);
    if (length == 0) continue;
    Rig rig;
    write_file(rig.dir.file(), std::string_view(whole).substr(0, length));
    // the last page may be a free one that nothing is lost with, but the file still ends too early
    EXPECT_FALSE(survives(rig));
  }
}

TEST(Damage, AFlippedBitNeverKillsTheProcess) {
  Rig source;
  fill(source);
  const std::string whole = read_file(source.dir.file());
  std::mt19937 random(13);
  int seen = 0;
  constexpr int kRounds = 120;
  for (int i = 0; i < kRounds; ++i) {
    std::string flipped = whole;
    // half of them in a page's head and offsets, where LMDB itself looks
    size_t at = random() % flipped.size();
    if (i % 2 == 0) at = at / 4096 * 4096 + random() % 48;
    const auto bit = static_cast<unsigned>(random() % 8);
    flipped[at] = static_cast<char>(static_cast<uint8_t>(flipped[at]) ^ (1u << bit));
    SCOPED_TRACE("byte " + std::to_string(at) + " bit " + std::to_string(bit));
    Rig rig;
    write_file(rig.dir.file(), flipped);
    if (!survives(rig)) ++seen;
  }
  EXPECT_GT(seen, kRounds / 4) << "most pages are in use";
}

TEST(Damage, AnOverwrittenPageNeverKillsTheProcess) {
  Rig source;
  fill(source);
  const std::string whole = read_file(source.dir.file());
  std::mt19937 random(17);
  for (size_t page = 0; page < whole.size() / 4096; page += 2) {
    SCOPED_TRACE(page);
    std::string damaged = whole;
    switch (random() % 3) {
      case 0:
        damaged.replace(page * 4096, 4096, 4096, '\0');
        break;
      case 1:
        damaged.replace(page * 4096, 4096, whole, (page + 1) % 20 * 4096, 4096);
        break;
      default:
        for (size_t i = 0; i < 4096; ++i) damaged[page * 4096 + i] = static_cast<char>(random());
    }
    Rig rig;
    write_file(rig.dir.file(), damaged);
    survives(rig);
  }
}

TEST(Damage, AValueThatRotsWhileTheStoreIsOpenIsDataLossAndOthersAreServed) {
  Rig rig;
  rig.open();
  ASSERT_TRUE(rig.put(kTable, "a", "a value to look for").has_value());
  ASSERT_TRUE(rig.put(kTable, "b", "sound").has_value());
  const std::string whole = read_file(rig.dir.file());
  int fd = ::open(rig.dir.file().c_str(), O_RDWR);
  ASSERT_GE(fd, 0);
  for (size_t at = whole.find("a value to look for"); at != std::string::npos;
       at = whole.find("a value to look for", at + 1)) {
    ASSERT_EQ(::pwrite(fd, "A", 1, static_cast<off_t>(at)), 1);
  }
  ::close(fd);
  auto rotten = rig.store->read().get(kTable, as_bytes("a"));
  ASSERT_FALSE(rotten.has_value());
  EXPECT_EQ(rotten.error().code, Code::data_loss);
  EXPECT_THAT(rotten.error().message, HasSubstr(rig.dir.file()));
  EXPECT_EQ(rig.get(kTable, "b"), "sound");
  EXPECT_EQ(rig.store->read().scan(kTable, {}, [](BytesView, BytesView) { return true; }).error().code,
            Code::data_loss);
  rig.open();
  EXPECT_THAT(rig.store->damage(), HasSubstr("wrong checksum at agent_state"));
}

// Writes a schema number as a later version would.
void set_schema(const std::string& path, uint64_t schema) {
  MDB_env* raw_env = nullptr;
  ASSERT_EQ(mdb_env_create(&raw_env), 0);
  EnvHandle env(raw_env);
  ASSERT_EQ(mdb_env_set_maxdbs(raw_env, kMaxTables), 0);
  ASSERT_EQ(mdb_env_open(raw_env, path.c_str(), MDB_NOSUBDIR, 0600), 0);
  MDB_txn* raw = nullptr;
  ASSERT_EQ(mdb_txn_begin(raw_env, nullptr, 0, &raw), 0);
  TxnHandle txn(raw);
  Tables tables;
  ASSERT_EQ(tables.open(raw, false), 0);
  Bytes value(8);
  value[7] = static_cast<uint8_t>(schema);
  ASSERT_EQ(put_checked(raw, tables, kMetaTable, as_bytes(kSchemaKey), value), 0);
  // a row whose checksum is of another kind: a newer version may do so
  MDB_val key = to_val(as_bytes("k")), odd = to_val(as_bytes("no checksum here"));
  ASSERT_EQ(mdb_put(raw, tables[kTable], &key, &odd, 0), 0);
  ASSERT_EQ(mdb_txn_commit(txn.release()), 0);
}

TEST(Damage, ANewerSchemaIsRefusedAndTheFileUntouched) {
  for (bool child : {true, false}) {
    SCOPED_TRACE(child);
    Rig rig;
    fill(rig);
    set_schema(rig.dir.file(), kSchema + 1);
    const std::string before = read_file(rig.dir.file());
    auto opened = Store::open(rig.loop, {.path = rig.dir.file(), .check_child = child});
    ASSERT_FALSE(opened.has_value());
    EXPECT_EQ(opened.error().code, Code::failed_precondition);
    EXPECT_THAT(opened.error().message, HasSubstr("newer version (schema 2"));
    EXPECT_EQ(read_file(rig.dir.file()), before);
    EXPECT_TRUE(set_aside_files(rig.dir).empty());
  }
}

TEST(Damage, ADamagedLockFileDoesNotMatter) {
  Rig rig;
  fill(rig);
  write_file(rig.dir.file("state.mdb-lock"), std::string(100'000, '\x5a'));
  EXPECT_TRUE(survives(rig));
  write_file(rig.dir.file("state.mdb-lock"), "short");
  EXPECT_TRUE(survives(rig));
}

}  // namespace
}  // namespace limpet
