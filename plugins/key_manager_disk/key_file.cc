// SPDX-License-Identifier: Apache-2.0
// Reading and atomically replacing the key file.
#include "key_manager_disk/key_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yyjson.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/secret.h"
#include "base/sync_directory.h"
#include "crypto/seal.h"

namespace limpet::key_manager_disk {
namespace {

constexpr std::string_view kContext = "limpet key file 1";
constexpr size_t kMaxFileBytes = 6u << 20;  // 1,000 RSA-4096 keys of 3.2 kB in base64, sealed: a third more, and room

struct Fd {
  int fd = -1;
  ~Fd() {
    if (fd >= 0) ::close(fd);
  }
};

std::string reason() { return std::strerror(errno); }

// yyjson's memory holds keys: zero it when it is given back.
constexpr size_t kHeader = alignof(std::max_align_t);
void* secret_malloc(void*, size_t size) {
  auto* block = static_cast<uint8_t*>(std::malloc(size + kHeader));
  if (block == nullptr) return nullptr;
  std::memcpy(block, &size, sizeof size);
  return block + kHeader;
}
void secret_free(void*, void* given) {
  if (given == nullptr) return;
  uint8_t* block = static_cast<uint8_t*>(given) - kHeader;
  size_t size = 0;
  std::memcpy(&size, block, sizeof size);
  wipe(block, size + kHeader);
  std::free(block);
}
void* secret_realloc(void* ctx, void* given, size_t old_size, size_t size) {
  void* fresh = secret_malloc(ctx, size);
  if (fresh == nullptr) return nullptr;
  if (given != nullptr) std::memcpy(fresh, given, std::min(old_size, size));
  secret_free(ctx, given);
  return fresh;
}
constexpr yyjson_alc kSecretMemory = {secret_malloc, secret_realloc, secret_free, nullptr};

std::unexpected<Error> damaged(const std::string& path, std::string_view why) {
  return fail(Code::failed_precondition,
              "key file " + path + " is damaged (" + std::string(why) +
                  "); it was left untouched: restore it from a backup, or move it away to start with new keys");
}

Result<void> read_all(int fd, SecretBytes& out, const std::string& path) {
  for (size_t at = 0; at < out.size();) {
    const ssize_t got = ::read(fd, out.data() + at, out.size() - at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(Code::failed_precondition, "key file " + path + " cannot be read: " + reason());
    if (got == 0) return damaged(path, "it became shorter while it was read");
    at += static_cast<size_t>(got);
  }
  return {};
}

Result<void> write_all(int fd, BytesView bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail(Code::unavailable, "write: " + reason());
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

Result<void> add_key(kit::KeyTable& table, const std::string& path, yyjson_val* id, yyjson_val* value) {
  const std::string name(yyjson_get_str(id), yyjson_get_len(id));
  if (!yyjson_is_str(value)) return damaged(path, "key " + name + " is not a string");
  auto der = base64_decode({yyjson_get_str(value), yyjson_get_len(value)});
  if (!der) return damaged(path, "key " + name + " is not base64");
  auto key = PrivateKey::from_pkcs8(*der);
  wipe(*der);
  if (!key) return damaged(path, "key " + name + ": " + key.error().message);
  if (table.keys().size() >= kit::kMaxKeys) return damaged(path, "it holds more than 1,000 keys");
  if (table.put(name, kit::StoredKey(std::move(*key)))) return damaged(path, "key " + name + " stands there twice");
  return {};
}

// The base64 text of a member; empty: there is none, or it is something else.
Bytes member(yyjson_val* root, const char* name) {
  yyjson_val* value = yyjson_obj_get(root, name);
  if (!yyjson_is_str(value)) return {};
  return base64_decode({yyjson_get_str(value), yyjson_get_len(value)}).value_or(Bytes());
}

Result<KeyFile::Content> parse(const SecretBytes& text, const std::string& path) {
  KeyFile::Content content;
  kit::KeyTable& table = content.table;
  yyjson_read_err why = {};
  yyjson_doc* doc = yyjson_read_opts(const_cast<char*>(as_text(text.view()).data()), text.size(), YYJSON_READ_NOFLAG,
                                     &kSecretMemory, &why);
  yyjson_val* root = yyjson_doc_get_root(doc);
  yyjson_val* keys = yyjson_obj_get(root, "keys");
  if (doc != nullptr && keys == nullptr) {
    content.sealed_key = member(root, "sealed_key");
    content.sealed = member(root, "sealed");
    if (!content.sealed_key.empty() && !content.sealed.empty()) {
      yyjson_doc_free(doc);
      return content;
    }
  }
  Result<void> result;
  if (doc == nullptr) result = damaged(path, std::string("not JSON: ") + why.msg);
  // Go writes an empty map as null.
  else if (keys == nullptr || (!yyjson_is_obj(keys) && !yyjson_is_null(keys)))
    result = damaged(path, "it has no object \"keys\"");
  size_t at = 0;
  size_t count = 0;
  yyjson_val* id = nullptr;
  yyjson_val* value = nullptr;
  yyjson_obj_foreach(keys, at, count, id, value) {
    if (result) result = add_key(table, path, id, value);
  }
  yyjson_doc_free(doc);
  if (!result) return fail(std::move(result).error());
  return content;
}

// An id is any UTF-8; only what JSON demands is escaped.
void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) {
      out += c;
      continue;
    }
    constexpr char kHex[] = "0123456789abcdef";
    out += "\\u00";
    out += kHex[(static_cast<unsigned char>(c) >> 4) & 15];
    out += kHex[static_cast<unsigned char>(c) & 15];
  }
  out += '"';
}

// Sized before it grows, so that no copy of a key stays behind in freed memory.
std::string encode(const kit::KeyTable& table) {
  size_t room = 64;
  for (const auto& [id, key] : table.keys()) room += id.size() * 6 + (key.key.pkcs8().size() / 3 + 1) * 4 + 16;
  std::string out;
  out.reserve(room);
  out += "{\"keys\":{";
  const char* separator = "";
  for (const auto& [id, key] : table.keys()) {
    out += separator;
    append_quoted(out, id);
    std::string text = base64_encode(key.key.pkcs8().view());
    out += ":\"";
    out += text;
    out += '"';
    wipe(text.data(), text.size());
    separator = ",";
  }
  out += "}}\n";
  return out;
}

}  // namespace

KeyFile::~KeyFile() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

Result<void> KeyFile::lock() {
  const std::string directory = directory_of(path_);
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail(Code::failed_precondition, "key directory " + directory + " cannot be created: " + reason());
  }
  const std::string name = path_ + ".lock";
  lock_fd_ = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock_fd_ < 0)
    return fail(Code::failed_precondition, "key directory " + directory + " is not usable: " + name + ": " + reason());
  if (::flock(lock_fd_, LOCK_EX | LOCK_NB) == 0) return {};
  return fail(Code::failed_precondition,
              "key file " + path_ + " is in use by another key manager; give each its own file");
}

bool KeyFile::exists() const { return ::access(path_.c_str(), F_OK) == 0; }

Result<kit::KeyTable> KeyFile::open(const Content& content, const SecretBytes& key) const {
  const auto text = unseal(key, as_bytes(kContext), content.sealed);
  if (!text) return damaged(path_, text.error().message);
  TRY_ASSIGN(Content opened, parse(*text, path_));
  if (!opened.sealed_key.empty()) return damaged(path_, "what is sealed in it is sealed again");
  return std::move(opened.table);
}

Result<KeyFile::Content> KeyFile::load() const {
  const Fd file{::open(path_.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0 && errno == ENOENT) return Content();
  if (file.fd < 0) return fail(Code::failed_precondition, "key file " + path_ + " cannot be opened: " + reason());
  struct stat st = {};
  if (::fstat(file.fd, &st) != 0 || !S_ISREG(st.st_mode)) return damaged(path_, "it is not a regular file");
  if (st.st_size <= 0) return damaged(path_, "it is empty");
  if (static_cast<size_t>(st.st_size) > kMaxFileBytes) return damaged(path_, "it is larger than 6 MiB");
  SecretBytes text(static_cast<size_t>(st.st_size));
  TRY(read_all(file.fd, text, path_));
  return parse(text, path_);
}

Result<void> KeyFile::save(const kit::KeyTable& table) const {
  std::string text = encode(table);
  auto saved = replace(as_bytes(text));
  wipe(text.data(), text.size());
  return saved;
}

Result<void> KeyFile::save_sealed(const kit::KeyTable& table, const SecretBytes& key, BytesView sealed_key) const {
  std::string text = encode(table);
  const auto sealed = seal(key, as_bytes(kContext), as_bytes(text));
  wipe(text.data(), text.size());
  if (!sealed) return fail(sealed.error());
  return replace(as_bytes("{\"sealed_key\":\"" + base64_encode(sealed_key) + "\",\"sealed\":\"" +
                          base64_encode(*sealed) + "\"}\n"));
}

Result<void> KeyFile::replace(BytesView text) const {
  const std::string fresh = path_ + ".new";
  const auto failed = [this](const std::string& what) {
    return fail(Code::unavailable, "key file " + path_ + " cannot be saved, the keys on disk are as before: " + what);
  };
  ::unlink(fresh.c_str());  // left behind by a power cut; the lock says it is nobody's
  Fd file{::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (file.fd < 0) return failed(fresh + ": " + reason());
  Result<void> written = write_all(file.fd, text);
  if (written && ::fsync(file.fd) != 0) written = fail(Code::unavailable, "fsync: " + reason());
  if (written && ::rename(fresh.c_str(), path_.c_str()) != 0) written = fail(Code::unavailable, "rename: " + reason());
  if (!written) {
    ::unlink(fresh.c_str());
    return failed(written.error().message);
  }
  sync_directory_of(path_);  // or a power cut brings the old keys back
  return {};
}

}  // namespace limpet::key_manager_disk
