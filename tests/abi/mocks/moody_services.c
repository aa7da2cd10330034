/* SPDX-License-Identifier: Apache-2.0
 *
 * The mock "moody" (moody.c): what it does with the services of its host.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limpet_plugin.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "moody.h"

static void* answer_on_thread(void* arg) {
  limpet_instance* self = arg;
  reply(self->kept, self->kept_done, "from a thread");
  return NULL;
}
static void on_late(void* arg) {
  limpet_instance* self = arg;
  limpet_op* op = self->kept;
  self->kept = NULL;
  if (op != NULL) reply(op, self->kept_done, "late");
}
static void on_kv(void* arg, const limpet_status* err, limpet_bytes value) {
  limpet_instance* self = arg;
  (void)value;
  reply(self->kept, self->kept_done, err == NULL ? "kv" : "no kv");
}
static void on_agent(void* arg, const limpet_status* err, const limpet_agent_info* agent) {
  limpet_instance* self = arg;
  char text[128];
  snprintf(text, sizeof text, "%s", "unknown");
  if (err == NULL) snprintf(text, sizeof text, "%.*s", (int)agent->attestation_type.len, agent->attestation_type.ptr);
  reply(self->kept, self->kept_done, text);
}
static void on_http(void* arg, const limpet_status* err, const limpet_http_reply* got) {
  limpet_instance* self = arg;
  char text[64];
  snprintf(text, sizeof text, err == NULL ? "%u" : "no answer", err == NULL ? (unsigned)got->status : 0);
  reply(self->kept, self->kept_done, text);
}
static void on_identity(void* arg, const limpet_identity* identity) {
  snprintf(arg, 64, "%.*s %u", (int)identity->trust_domain.len, identity->trust_domain.ptr,
           (unsigned)identity->bundle->x509_roots_der.count);
}
static void on_secret(void* arg, const limpet_status* err, limpet_bytes got) {
  limpet_instance* self = arg;
  char text[200];
  if (err != NULL)
    snprintf(text, sizeof text, "error %d %.*s", err->code, (int)err->message.len, err->message.ptr);
  else
    snprintf(text, sizeof text, "%.*s", (int)got.len, (const char*)got.ptr);
  reply(self->kept, self->kept_done, text);
}
static void on_sealed(void* arg, const limpet_status* err, limpet_bytes got) {
  limpet_instance* self = arg;
  const limpet_seal_service* seals = self->host->service(self->host, LIMPET_SERVICE_SEAL);
  const limpet_bytes context = {(const uint8_t*)"context", 7};
  if (err != NULL) return on_secret(self, err, got);
  seals->unseal(self->host, got, context, on_secret, self);
}
static void on_key_used(void* arg, const limpet_status* err, limpet_bytes signature) {
  limpet_instance* self = arg;
  if (err != NULL) return on_secret(self, err, signature);
  self->kept_done(self->kept, NULL, signature, str("f"));
}
static void on_key(void* arg, const limpet_status* err, const limpet_public_key* key) {
  limpet_instance* self = arg;
  const limpet_keys_service* keys = self->host->service(self->host, LIMPET_SERVICE_KEYS);
  static const uint8_t digest[32];
  limpet_sign_request request = {sizeof request, 5, {NULL, 0}, {digest, sizeof digest}, -1, 0, {NULL, 0}};
  const limpet_bytes nothing = {NULL, 0};
  if (err != NULL) return on_secret(self, err, nothing);
  request.key_id = key->id;
  if (keys->sign(self->host, &request, on_key_used, self) == 0)
    reply(self->kept, self->kept_done, "sign was not begun");
}
static void on_readable(void* arg, int32_t fd, uint32_t events) {
  limpet_instance* self = arg;
  const limpet_poll_service* poll_service = self->host->service(self->host, LIMPET_SERVICE_POLL);
  (void)events;
  poll_service->unwatch(self->host, fd);
  close(fd);
  reply(self->kept, self->kept_done, "readable");
}

/* "watch:...": what a host makes of one descriptor. Answers with the code of watch, or with what it was told. */
static void on_watched(void* arg, int32_t fd, uint32_t events) {
  limpet_instance* self = arg;
  const limpet_poll_service* poll_service = self->host->service(self->host, LIMPET_SERVICE_POLL);
  char text[64];
  snprintf(text, sizeof text, "events %u%s", events, (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0 ? " nonblocking" : "");
  poll_service->unwatch(self->host, fd);
  close(fd);
  reply(self->kept, self->kept_done, text);
}
static void watch_one(limpet_instance* self, const char* kind) {
  const limpet_poll_service* poll_service = self->host->service(self->host, LIMPET_SERVICE_POLL);
  uint32_t events = LIMPET_POLL_READ;
  char text[32];
  int32_t code;
  int ends[2] = {-1, -1}, fd = -1;
  if (pipe(ends) != 0) return reply(self->kept, self->kept_done, "no pipe");
  if (strcmp(kind, "closed") == 0) {
    fd = dup(ends[0]);
    close(fd);
  } else if (strcmp(kind, "file") == 0) {
    fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  } else if (strcmp(kind, "folder") == 0) {
    fd = open("/usr", O_RDONLY | O_CLOEXEC | O_DIRECTORY);
  } else if (strcmp(kind, "null") == 0) {
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  } else if (strcmp(kind, "nothing") == 0) {
    fd = dup(ends[0]);
    events = 0;
  } else if (strcmp(kind, "unknown bit") == 0) {
    fd = dup(ends[0]);
    events = 4;
  } else if (strcmp(kind, "one bit more") == 0) { /* a byte to read */
    (void)!write(ends[1], "x", 1);
    fd = dup(ends[0]);
    events |= 4;
  } else if (strcmp(kind, "end") == 0) { /* nothing to read, and never again */
    fd = dup(ends[0]);
    close(ends[1]);
    ends[1] = -1;
  } else if (strcmp(kind, "data and end") == 0) {
    (void)!write(ends[1], "x", 1);
    fd = dup(ends[0]);
    close(ends[1]);
    ends[1] = -1;
    events = LIMPET_POLL_READ | LIMPET_POLL_WRITE;
  } else if (strcmp(kind, "error") == 0) { /* a pipe that nobody reads */
    fd = dup(ends[1]);
    close(ends[0]);
    ends[0] = -1;
    events = LIMPET_POLL_READ | LIMPET_POLL_WRITE;
  }
  code = poll_service->watch(self->host, fd, events, on_watched, self);
  snprintf(text, sizeof text, "code %d", (int)code);
  if (code != LIMPET_OK) {
    if (strcmp(kind, "closed") != 0) close(fd);
    reply(self->kept, self->kept_done, text);
  }
  if (ends[0] >= 0) close(ends[0]);
  if (ends[1] >= 0) close(ends[1]);
}

int moody_services(limpet_instance* self, limpet_str key) {
  const limpet_host* host = self->host;
  if (is(key, "kv")) {
    const limpet_kv_service* kv = host->service(host, LIMPET_SERVICE_KV);
    const limpet_bytes value = {(const uint8_t*)"v", 1};
    if (kv == NULL) return reply(self->kept, self->kept_done, "no service"), 1;
    kv->put(host, str("k"), value, on_kv, self);
  } else if (is(key, "agent")) {
    const limpet_agent_store_service* agents = host->service(host, LIMPET_SERVICE_AGENT_STORE);
    if (agents == NULL) return reply(self->kept, self->kept_done, "no service"), 1;
    agents->start(host, str("spiffe://example.org/spire/agent/x/1"), on_agent, self);
  } else if (is(key, "http")) {
    const limpet_http_service* http = host->service(host, LIMPET_SERVICE_HTTP);
    limpet_http_call call = {sizeof call, 1024, str("http://127.0.0.1:1/"), 1000, 0};
    if (http == NULL) return reply(self->kept, self->kept_done, "no service"), 1;
    http->start(host, &call, on_http, self);
  } else if (after(key, "key:") != NULL) {
    const limpet_keys_service* keys = host->service(host, LIMPET_SERVICE_KEYS);
    if (keys == NULL) return reply(self->kept, self->kept_done, "no service"), 1;
    keys->find(host, str(after(key, "key:")), on_key, self);
  } else if (is(key, "seal")) {
    const limpet_seal_service* seals = host->service(host, LIMPET_SERVICE_SEAL);
    const limpet_bytes secret = {(const uint8_t*)"secret", 6}, context = {(const uint8_t*)"context", 7};
    if (seals == NULL) return reply(self->kept, self->kept_done, "no service"), 1;
    seals->seal(host, secret, context, on_sealed, self);
  } else if (is(key, "identity")) {
    const limpet_identity_service* identity = host->service(host, LIMPET_SERVICE_IDENTITY);
    char text[64] = "none yet";
    if (identity != NULL) identity->get(host, on_identity, text);
    reply(self->kept, self->kept_done, identity != NULL ? text : "no service");
  } else if (is(key, "poll")) {
    const limpet_poll_service* poll_service = host->service(host, LIMPET_SERVICE_POLL);
    int pair[2];
    if (poll_service == NULL || pipe(pair) != 0) return reply(self->kept, self->kept_done, "no service"), 1;
    (void)!write(pair[1], "x", 1);
    close(pair[1]);
    poll_service->watch(host, pair[0], LIMPET_POLL_READ, on_readable, self);
  } else if (after(key, "watch:") != NULL) {
    watch_one(self, after(key, "watch:"));
  } else if (is(key, "late")) {
    const limpet_timer_service* timers = host->service(host, LIMPET_SERVICE_TIMER);
    timers->start(host, 30, on_late, self);
  } else if (is(key, "post")) {
    host->post(host, on_late, self);
  } else if (is(key, "thread")) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, answer_on_thread, self) != 0) reply(self->kept, self->kept_done, "no thread");
  } else if (!is(key, "never")) {
    return 0;
  }
  return 1;
}
