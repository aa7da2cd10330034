// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: files in a folder of their own and what the openssl command says about them.

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/bytes.h"

namespace limpet::test {

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/limpet-test-XXXXXX";
    EXPECT_NE(mkdtemp(name), nullptr);
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string pem(const std::string& name, std::string_view label, BytesView der) {
    return text(name, pem_encode(label, der));
  }
  std::string text(const std::string& name, std::string_view content) {
    const std::string file = path_ + "/" + name;
    std::ofstream(file, std::ios::binary) << content;
    return file;
  }
  std::string der(const std::string& name, BytesView content) { return text(name, as_text(content)); }

 private:
  std::string path_;
};

struct Outcome {
  int status = -1;
  std::string output;  // both streams
};

inline Outcome run_openssl(const std::string& arguments) {
  Outcome out;
  FILE* pipe = popen(("openssl " + arguments + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return out;
  char buffer[4096];
  for (size_t got = 0; (got = fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.output.append(buffer, got);
  const int status = pclose(pipe);
  out.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return out;
}

}  // namespace limpet::test
