/* SPDX-License-Identifier: Apache-2.0
 *
 * The mock "moody" (moody.c): what its sandbox lets it do.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limpet_plugin.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "moody.h"

int moody_probes(limpet_op* op, limpet_signature_done done, limpet_str key) {
  const char* path;
  int fd;
  if ((path = after(key, "read:")) != NULL) {
    fd = open(path, O_RDONLY | O_CLOEXEC);
    reply_errno(op, done, fd >= 0);
    if (fd >= 0) close(fd);
  } else if ((path = after(key, "write:")) != NULL) {
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    reply_errno(op, done, fd >= 0);
    if (fd >= 0) close(fd);
  } else if ((path = after(key, "mkdir:")) != NULL) {
    reply_errno(op, done, mkdir(path, 0700) == 0);
  } else if (is(key, "inet") || is(key, "unix")) {
    fd = socket(is(key, "inet") ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
    reply_errno(op, done, fd >= 0);
    if (fd >= 0) close(fd);
  } else if ((path = after(key, "connect:")) != NULL) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    reply_errno(op, done, fd >= 0 && connect(fd, (struct sockaddr*)&to, sizeof to) == 0);
    if (fd >= 0) close(fd);
  } else if (is(key, "fork")) {
    const pid_t pid = fork();
    if (pid == 0) _exit(0);
    reply_errno(op, done, pid > 0);
    if (pid > 0) waitpid(pid, NULL, 0);
  } else if (after(key, "kill:") != NULL) {
    reply_errno(op, done, syscall(SYS_tgkill, atoi(after(key, "kill:")), atoi(after(key, "kill:")), SIGKILL) == 0);
  } else if (after(key, "limit:") != NULL) {
    const struct rlimit none = {0, 0};
    reply_errno(op, done, prlimit(atoi(after(key, "limit:")), RLIMIT_NOFILE, &none, NULL) == 0);
  } else if (after(key, "affinity:") != NULL) {
    cpu_set_t all;
    memset(&all, 0xff, sizeof all);
    reply_errno(op, done, sched_setaffinity(atoi(after(key, "affinity:")), sizeof all, &all) == 0);
  } else if (after(key, "owner:") != NULL) {
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    reply_errno(op, done, fcntl(fd, F_SETOWN, atoi(after(key, "owner:"))) == 0);
    close(fd);
  } else if (after(key, "group:") != NULL) {
    int pid = atoi(after(key, "group:"));
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    reply_errno(op, done, ioctl(fd, SIOCSPGRP, &pid) == 0);
    close(fd);
  } else if (is(key, "ptrace")) {
    reply_errno(op, done, ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
  } else if (is(key, "mount")) {
    reply_errno(op, done, mount("none", "/mnt", "tmpfs", 0, NULL) == 0);
  } else if (is(key, "memory")) {
    void* got = malloc((size_t)3 << 30);
    reply(op, done, got != NULL ? "ok" : "refused");
    free(got);
  } else if (is(key, "files")) {
    int count = 0;
    for (fd = 0; fd < 4096; ++fd) count += fcntl(fd, F_GETFD) >= 0;
    char text[16];
    snprintf(text, sizeof text, "%d", count);
    reply(op, done, text);
  } else if (is(key, "who")) {
    char text[64];
    snprintf(text, sizeof text, "%d %d", (int)getuid(), (int)getgid());
    reply(op, done, text);
  } else if (is(key, "exec")) {
    char* const none[] = {NULL};
    execve("/bin/true", none, none);
    reply_errno(op, done, 0);
  } else {
    return 0;
  }
  return 1;
}
