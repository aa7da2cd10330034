// SPDX-License-Identifier: Apache-2.0
#include "key_manager_tpm2/key_directory.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yyjson.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "base/errno_text.h"
#include "kit/key_table.h"
#include "kit/pem_files.h"

namespace limpet::key_manager_tpm2 {
namespace {

constexpr size_t kMaxFileBytes = 16u << 10;  // an RSA-4096 key takes 3 kB
constexpr std::string_view kSuffix = ".tpm2key";

std::unexpected<Error> wrong(const std::string& why) { return fail(Code::invalid_argument, why); }

Result<std::string> text_of(yyjson_val* root, const char* name) {
  yyjson_val* value = yyjson_obj_get(root, name);
  if (!yyjson_is_str(value) || yyjson_get_len(value) == 0) return wrong(std::string("no text \"") + name + "\"");
  return std::string(yyjson_get_str(value), yyjson_get_len(value));
}

Result<Bytes> bytes_of(yyjson_val* root, const char* name) {
  TRY_ASSIGN(const std::string text, text_of(root, name));
  TRY_ASSIGN_WITHIN(name, Bytes out, base64_decode(text));
  return out;
}

Result<std::pair<std::string, TpmKey>> decode(yyjson_val* root) {
  if (!yyjson_is_obj(root)) return wrong("not a JSON object");
  yyjson_val* version = yyjson_obj_get(root, "version");
  if (!yyjson_is_uint(version) || yyjson_get_uint(version) != 1) return wrong("not of version 1");
  TRY_ASSIGN(std::string id, text_of(root, "id"));
  TRY(kit::check_new_key(id, 1, false));
  tpm::KeyBlob blob;
  TRY_ASSIGN(blob.public_area, bytes_of(root, "public"));
  TRY_ASSIGN(blob.private_area, bytes_of(root, "private"));
  TRY_ASSIGN(Bytes root_name, bytes_of(root, "root"));
  TRY_ASSIGN(TpmKey key, make_tpm_key(std::move(blob), std::move(root_name)));
  return std::pair(std::move(id), std::move(key));
}

Result<std::vector<std::string>> files_in(const std::string& path) {
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr && errno == ENOENT) return std::vector<std::string>();
  if (directory == nullptr)
    return fail(Code::failed_precondition, "key directory " + path + " cannot be opened: " + errno_text(errno));
  std::vector<std::string> out;
  while (const dirent* entry = ::readdir(directory)) {
    if (std::string_view(entry->d_name).ends_with(kSuffix)) out.push_back(path + "/" + entry->d_name);
  }
  ::closedir(directory);
  if (out.size() > kit::kMaxKeys) return fail(Code::failed_precondition, path + " holds more than 1,000 keys");
  return out;
}

}  // namespace

Result<TpmKey> make_tpm_key(tpm::KeyBlob blob, Bytes root_name) {
  TRY_ASSIGN(const KeyType type, tpm::key_type_of(blob.public_area));
  TRY_ASSIGN(PublicKey key, tpm::public_key_of(blob.public_area));
  std::string fingerprint = hex_encode(sha256(key.spki()));
  return TpmKey{std::move(blob), std::move(root_name), type, std::move(key), std::move(fingerprint)};
}

std::string encode_key_file(std::string_view id, const TpmKey& key) {
  yyjson_mut_doc* doc = yyjson_mut_doc_new(nullptr);
  yyjson_mut_val* root = yyjson_mut_obj(doc);
  yyjson_mut_doc_set_root(doc, root);
  const std::string public_area = base64_encode(key.blob.public_area);
  const std::string private_area = base64_encode(key.blob.private_area);
  const std::string root_name = base64_encode(key.root_name);
  yyjson_mut_obj_add_uint(doc, root, "version", 1);
  yyjson_mut_obj_add_strn(doc, root, "id", id.data(), id.size());
  yyjson_mut_obj_add_strn(doc, root, "public", public_area.data(), public_area.size());
  yyjson_mut_obj_add_strn(doc, root, "private", private_area.data(), private_area.size());
  yyjson_mut_obj_add_strn(doc, root, "root", root_name.data(), root_name.size());
  size_t size = 0;
  char* text = yyjson_mut_write(doc, YYJSON_WRITE_NOFLAG, &size);
  std::string out(text == nullptr ? "" : text, size);
  std::free(text);
  yyjson_mut_doc_free(doc);
  return out + "\n";
}

Result<std::pair<std::string, TpmKey>> decode_key_file(std::string_view text) {
  yyjson_read_err why = {};
  yyjson_doc* doc = yyjson_read_opts(const_cast<char*>(text.data()), text.size(), YYJSON_READ_NOFLAG, nullptr, &why);
  if (doc == nullptr) return wrong(std::string("not JSON: ") + why.msg);
  auto out = decode(yyjson_doc_get_root(doc));
  yyjson_doc_free(doc);
  return out;
}

Result<void> KeyDirectory::lock() {
  if (::mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail(Code::failed_precondition, "key directory " + path_ + " cannot be created: " + errno_text(errno));
  }
  TRY_WITHIN("key directory " + path_ + " is not usable", lock_.take(path_ + "/lock"));
  return {};
}

Result<KeyDirectory::Map> KeyDirectory::load() const {
  TRY_ASSIGN(const std::vector<std::string> files, files_in(path_));
  Map out;
  for (const std::string& file : files) {
    TRY_ASSIGN(const std::string text, kit::read_file(file, kMaxFileBytes));
    auto key = decode_key_file(text);
    if (key && file != file_of(key->first)) key = wrong("its name is not the one of its key");
    if (!key) {
      return fail(Code::failed_precondition, "key file " + file + " is damaged (" + key.error().message +
                                                 "); it was left untouched: restore it from a backup, or move it away "
                                                 "to start with a new key");
    }
    out.emplace(std::move(key->first), std::move(key->second));
  }
  return out;
}

Result<void> KeyDirectory::save(std::string_view id, const TpmKey& key) const {
  auto saved = kit::replace_file(file_of(id), as_bytes(encode_key_file(id, key)));
  if (saved) return {};
  return fail(Code::unavailable,
              "key " + std::string(id) + " cannot be saved, the keys on disk are as before: " + saved.error().message);
}

Result<void> KeyDirectory::remove(std::string_view id) const { return kit::remove_file(file_of(id)); }

Result<void> KeyDirectory::set_aside(std::string_view id, const TpmKey& key) const {
  const std::string file = file_of(id);
  const std::string aside = file + ".other-tpm-" + key.fingerprint.substr(0, 8);
  if (std::rename(file.c_str(), aside.c_str()) == 0 || errno == ENOENT) return {};
  return fail(Code::unavailable, file + " cannot be set aside: " + errno_text(errno));
}

// An id is any UTF-8, so the file's name is made of its digest; the id stands inside.
std::string KeyDirectory::file_of(std::string_view id) const {
  return path_ + "/" + hex_encode(sha256(as_bytes(id))).substr(0, 32) + std::string(kSuffix);
}

}  // namespace limpet::key_manager_tpm2
