/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin for the tests of shim children. What its key manager is asked to sign with tells it how to behave: the key
 * "ok" signs, "crash" crashes, "read:/etc/passwd" reports whether that file can be opened, and so on. It has a
 * component of every kind, each named "moody"; with MOCK_BLOCKING or MOCK_SERIAL they say so.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "moody.h"

#ifdef MOCK_BLOCKING
#define MOODY_FLAGS LIMPET_BLOCKING
#elif defined(MOCK_SERIAL)
#define MOODY_FLAGS LIMPET_SERIAL
#else
#define MOODY_FLAGS 0
#endif

static limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = calloc(1, sizeof **out);
  if (*out == NULL) return LIMPET_RESOURCE_EXHAUSTED;
  (*out)->host = host;
  return LIMPET_OK;
}
static void destroy(limpet_instance* self) {
  if (self->farewell[0] != 0) close(open(self->farewell, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  free(self);
}
/* The rest of a text in the configuration that begins so; 1: there is one. */
static int told(const limpet_config* config, const char* word, char out[256]) {
  const char* path = memmem(config->json.ptr, config->json.len, word, strlen(word));
  size_t n = 0;
  if (path == NULL) return 0;
  for (path += strlen(word); n < 255 && path[n] != '"'; ++n) out[n] = path[n];
  out[n] = 0;
  return 1;
}
static void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  limpet_status bad = status_of(LIMPET_INVALID_ARGUMENT, "this configuration is refused");
  const char* json = config->json.ptr;
  char path[256];
  if (memmem(json, config->json.len, "services", 8)) { /* which there are, as a refusal */
    static const char* const ids[] = {LIMPET_SERVICE_GRPC,       LIMPET_SERVICE_HTTP, LIMPET_SERVICE_AGENT_STORE,
                                      LIMPET_SERVICE_ENROLLMENT, LIMPET_SERVICE_KV,   LIMPET_SERVICE_IDENTITY,
                                      LIMPET_SERVICE_KEYS,       LIMPET_SERVICE_SEAL};
    char text[256] = "has";
    for (size_t i = 0; i < sizeof ids / sizeof *ids; ++i) {
      if (self->host->service(self->host, ids[i]) != NULL) strcat(strcat(text, " "), ids[i] + strlen("limpet."));
    }
    bad.message = str(text);
    done(op, &bad);
    return;
  }
  if (memmem(json, config->json.len, "refuse", 6)) {
    done(op, &bad);
    return;
  }
  if (memmem(json, config->json.len, "crash", 5)) abort();
  if (told(config, "unless:", path)) { /* hangs while there is such a file */
    while (access(path, F_OK) == 0) pause();
  }
  (void)told(config, "farewell:", self->farewell); /* makes this file in the end */
  done(op, NULL);
}
static void cancel(limpet_instance* self, limpet_op* op) {
  limpet_status gone = status_of(LIMPET_CANCELLED, "cancelled");
  const limpet_bytes none = {NULL, 0};
  if (self->watch == op) {
    self->watch = NULL;
    self->watch_done(op, &gone);
  }
  if (self->kept == op) {
    self->kept = NULL;
    self->kept_done(op, &gone, none, str(""));
  }
}

/* ---- key manager ---- */
static void raw(const void* data, size_t size) { (void)!write(3, data, size); }
static void raw_frame(uint32_t number, uint16_t method, const void* payload, uint32_t size) {
  const uint32_t length = size + 6;
  uint8_t head[10];
  memcpy(head, &length, 4);
  memcpy(head + 4, &number, 4);
  memcpy(head + 8, &method, 2);
  raw(head, sizeof head);
  if (size > 0) raw(payload, size);
}
/* Frames of empty log lines, as fast as the host reads them, for ever. */
static void send_logs(uint8_t* buffer, size_t room) {
  static const uint8_t line[] = {18, 0, 0, 0, 0, 0, 0, 0, 45, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  size_t size = 0, at = 0;
  for (; size + sizeof line <= room; size += sizeof line) memcpy(buffer + size, line, sizeof line);
  for (;; at %= size) {
    const ssize_t sent = write(3, buffer + at, size - at);
    if (sent > 0) at += (size_t)sent;
  }
}
/* "47:7:10000000": a frame of method 47 about number 7, with these bytes; after a comma, another. */
static void raw_hex(const char* text) {
  uint8_t payload[128];
  uint32_t size = 0;
  char* rest = NULL;
  const unsigned long method = strtoul(text, &rest, 10), number = strtoul(rest + 1, &rest, 10);
  unsigned byte = 0;
  for (++rest; size < sizeof payload && sscanf(rest, "%2x", &byte) == 1; rest += 2) payload[size++] = (uint8_t)byte;
  raw_frame((uint32_t)number, (uint16_t)method, payload, size);
  if (*rest == ',') raw_hex(rest + 1);
}

/* What no plugin should do. */
static int misdeeds(limpet_instance* self, limpet_op* op, limpet_signature_done done, limpet_str key) {
  static uint8_t large[2 << 20];
  uint32_t i;
  if (after(key, "raw:") != NULL) {
    raw_hex(after(key, "raw:"));
  } else if (is(key, "crash")) {
    *(volatile int*)8 = 1;
  } else if (is(key, "exit")) {
    _exit(3);
  } else if (is(key, "hang")) {
    for (;;) pause();
  } else if (is(key, "ignore")) { /* neither answers nor hears that it was cancelled */
  } else if (is(key, "spin")) {
    for (volatile unsigned n = 0;; ++n) {
    }
  } else if (is(key, "twice")) {
    reply(op, done, "once");
    reply(op, done, "twice");
  } else if (is(key, "big")) {
    const limpet_bytes signature = {large, sizeof large};
    done(op, NULL, signature, str("f"));
  } else if (is(key, "null")) {
    const limpet_bytes signature = {NULL, 5};
    done(op, NULL, signature, str("f"));
  } else if (is(key, "no code")) {
    const limpet_status bad = status_of(0, "");
    const limpet_bytes none = {NULL, 0};
    done(op, &bad, none, str(""));
  } else if (is(key, "talk")) {
    for (i = 0; i < 1000; ++i) self->host->log(self->host, LIMPET_LOG_ERROR, str("chatter"), NULL, 0);
    reply(op, done, "talked");
  } else if (is(key, "flood")) {
    send_logs(large, sizeof large);
  } else if (is(key, "garbage")) {
    memset(large, 0xa5, 4096);
    raw(large, 4096);
  } else if (is(key, "length")) {
    raw("\xff\xff\xff\x7f\0\0\0\0\0\0", 10);
  } else if (is(key, "unknown op")) {
    raw_frame(0x7fffffff, 43, "\0\0\0\0", 4);
  } else if (is(key, "unknown method")) {
    raw_frame(1, 999, NULL, 0);
  } else if (is(key, "answer twice")) {
    reply(op, done, "once");
    for (i = 1; i < 64; ++i) raw_frame(i, 43, "\0\0\0\0\1\0\0\0x\1\0\0\0f", 14);
  } else if (is(key, "short answer")) {
    for (i = 2; i < 64; ++i) raw_frame(i, 43, "\0\0\0\0\377\0\0\0x", 9);
  } else if (is(key, "close")) {
    close(3);
    for (;;) pause();
  } else if (is(key, "pong")) {
    raw_frame(0, 46, NULL, 0);
  } else if (is(key, "stderr")) {
    fprintf(stderr, "a line on standard error\n");
    fflush(stderr);
    reply(op, done, "written");
  } else {
    return 0;
  }
  return 1;
}

static void sign(limpet_instance* self, limpet_op* op, const limpet_sign_request* r, limpet_signature_done done) {
  const limpet_status unknown = status_of(LIMPET_NOT_FOUND, "no such key");
  const limpet_bytes none = {NULL, 0};
  ++self->signs;
  if (is(r->key_id, "ok")) {
    done(op, NULL, r->digest, str("f"));
    return;
  }
  if (is(r->key_id, "time")) {
    const int64_t left = self->host->time_left_ms(self->host, op);
    reply(op, done, left > 0 && left <= 10000 ? "in time" : "no deadline");
    return;
  }
  if (moody_probes(op, done, r->key_id)) return;
  self->kept = op;
  self->kept_done = done;
  if (moody_services(self, r->key_id)) return;
  self->kept = NULL;
  if (!misdeeds(self, op, done, r->key_id)) done(op, &unknown, none, str(""));
}
static void list(limpet_instance* self, limpet_op* op, limpet_keys_done done) {
  (void)self;
  done(op, NULL, NULL, 0);
}
static void generate(limpet_instance* self, limpet_op* op, limpet_str id, uint32_t type, limpet_key_done done) {
  const limpet_status no = status_of(LIMPET_UNIMPLEMENTED, "this plugin makes no keys");
  (void)self;
  (void)type;
  if (is(id, "crash")) abort();
  if (is(id, "deaf")) {
    shutdown(3, SHUT_RD);
    for (;;) pause();
  }
  done(op, &no, NULL);
}
static const limpet_key_manager key_manager = {sizeof key_manager, 0, generate, list, sign, NULL};

/* ---- sealer: turns the bits over ---- */
static void seal(limpet_instance* self, limpet_op* op, limpet_bytes in, limpet_bytes context, limpet_bytes_done done) {
  uint8_t out[4096];
  limpet_bytes result = {out, in.len};
  size_t i;
  (void)self;
  (void)context;
  for (i = 0; i < in.len && i < sizeof out; ++i) out[i] = (uint8_t)~in.ptr[i];
  done(op, NULL, result);
}
static const limpet_sealer sealer = {sizeof sealer, 0, seal, seal};

/* ---- node attestors ---- */
static limpet_session* open_agent(limpet_instance* self) {
  limpet_session* s = calloc(1, sizeof *s);
  s->owner = self;
  return s;
}
static void payload(limpet_session* s, limpet_op* op, limpet_bytes_done done) {
  const limpet_bytes out = {(const uint8_t*)"payload", 7};
  ++s->rounds;
  done(op, NULL, out);
}
static void answer(limpet_session* s, limpet_op* op, limpet_bytes challenge, limpet_bytes_done done) {
  char text[32];
  limpet_bytes out = {(const uint8_t*)text, 0};
  if (challenge.len == 5 && memcmp(challenge.ptr, "crash", 5) == 0) abort();
  out.len = (size_t)snprintf(text, sizeof text, "round %u", ++s->rounds);
  done(op, NULL, out);
}
static void close_session(limpet_session* s) { free(s); }
static const limpet_node_attestor_agent agent = {sizeof agent, 0, open_agent, payload, answer, close_session};

static limpet_session* open_server(limpet_instance* self, const limpet_attempt* attempt) {
  limpet_session* s = calloc(1, sizeof *s);
  s->owner = self;
  snprintf(s->peer, sizeof s->peer, "peer:%.*s", (int)attempt->peer_ip.len, attempt->peer_ip.ptr);
  return s;
}
/* "ask:http" and the like: what the key manager does with such a key, and the answer as a challenge. */
static limpet_step_done step_done;
static void as_challenge(limpet_op* op, const limpet_status* err, limpet_bytes text, limpet_str fingerprint) {
  const limpet_attest_step out = {sizeof out, 0, text, {NULL, 0}, {NULL, 0}, 0, 0};
  (void)fingerprint;
  step_done(op, err, err == NULL ? &out : NULL);
}
static void step(limpet_session* s, limpet_op* op, limpet_bytes said, limpet_step_done done) {
  limpet_attest_step out = {sizeof out, 0, {NULL, 0}, {NULL, 0}, {NULL, 0}, 0, 0};
  if (said.len > 4 && memcmp(said.ptr, "ask:", 4) == 0) {
    const limpet_str key = {(const char*)said.ptr + 4, said.len - 4};
    s->owner->kept = op;
    s->owner->kept_done = as_challenge;
    step_done = done;
    if (!moody_services(s->owner, key)) (void)misdeeds(s->owner, op, as_challenge, key);
    return;
  }
  const limpet_str selector = str(s->peer);
  if (s->rounds++ == 0) {
    out.challenge = said;
  } else {
    out.attested = 1;
    out.agent_path = str("/spire/agent/moody/1");
    out.selectors.items = &selector;
    out.selectors.count = 1;
    out.can_reattest = 1;
  }
  done(op, NULL, &out);
}
static const limpet_node_attestor_server server = {sizeof server, 0, open_server, step, close_session};

/* ---- workload attestor: says what it can see of the workload ---- */
static void attest(limpet_instance* self, limpet_op* op, const limpet_workload* w, limpet_selectors_done done) {
  char link[64], exe[256], texts[6][320];
  limpet_str items[6];
  limpet_str_list list_of = {items, 6};
  struct pollfd alive = {w->pidfd, POLLIN, 0};
  ssize_t size;
  int fd, i;
  (void)self;
  if (w->uid == 4242) abort();
  snprintf(link, sizeof link, "/proc/%d/exe", (int)w->pid);
  size = readlink(link, exe, sizeof exe - 1);
  snprintf(texts[0], sizeof texts[0], "exe:%.*s", size < 0 ? 0 : (int)size, exe);
  fd = open(link, O_RDONLY | O_CLOEXEC);
  snprintf(texts[1], sizeof texts[1], "open:%s", fd >= 0 ? "ok" : strerror(errno));
  if (fd >= 0) close(fd);
  snprintf(texts[2], sizeof texts[2], "pidfd:%s", w->pidfd >= 0 && poll(&alive, 1, 0) == 0 ? "alive" : "none");
  snprintf(texts[3], sizeof texts[3], "me:%d", (int)getuid());
  fd = socket(AF_INET, SOCK_STREAM, 0);
  snprintf(texts[4], sizeof texts[4], "inet:%s", fd >= 0 ? "ok" : strerror(errno));
  if (fd >= 0) close(fd);
  fd = open("/tmp/limpet-moody-wrote-this", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  snprintf(texts[5], sizeof texts[5], "write:%s", fd >= 0 ? "ok" : strerror(errno));
  if (fd >= 0) {
    unlink("/tmp/limpet-moody-wrote-this");
    close(fd);
  }
  for (i = 0; i < 6; ++i) items[i] = str(texts[i]);
  done(op, NULL, list_of);
}
static const limpet_workload_attestor workload = {sizeof workload, 0, attest};

/* ---- upstream authority and publisher ---- */
static void mint_ca(limpet_instance* self, limpet_op* op, limpet_bytes csr, uint32_t ttl, limpet_minted_done done) {
  const limpet_bytes_list both = {&csr, 1};
  (void)self;
  if (ttl == 4242) abort();
  done(op, NULL, both, both);
}
static void publish_jwt_key(limpet_instance* self, limpet_op* op, const limpet_jwt_key* key, limpet_done done) {
  const limpet_status no = status_of(LIMPET_INVALID_ARGUMENT, "no id");
  (void)self;
  done(op, key->id.len > 0 && key->expires_at == 77 ? NULL : &no);
}
static void watch_bundle(limpet_instance* self, limpet_op* op, limpet_bundle_update update, limpet_done done) {
  const limpet_bytes root = {(const uint8_t*)"root", 4};
  const limpet_jwt_key key = {sizeof key, 0, str("kid"), {(const uint8_t*)"spki", 4}, 77};
  const limpet_jwt_key* const keys[] = {&key};
  const limpet_bundle bundle = {sizeof bundle, 60, {&root, 1}, keys, 1, {NULL, 0}};
  self->watch = op;
  self->watch_done = done;
  update(op, &bundle);
#if MOODY_FLAGS != 0
  self->watch = NULL;
  done(op, NULL);
#endif
}
static const limpet_upstream_authority upstream = {sizeof upstream, 0, mint_ca, publish_jwt_key, watch_bundle};
static void publish(limpet_instance* self, limpet_op* op, const limpet_bundle* bundle, limpet_done done) {
  const limpet_status no = status_of(LIMPET_INVALID_ARGUMENT, "an empty bundle");
  (void)self;
  done(op, bundle->x509_roots_der.count > 0 && bundle->jwt_key_count == 1 ? NULL : &no);
}
static const limpet_bundle_publisher publisher = {sizeof publisher, 0, publish};

#define COMPONENT(variable, id, table)                                                             \
  static const limpet_component variable = {sizeof variable, MOODY_FLAGS, id,     "moody", create, \
                                            destroy,         configure,   cancel, table}
COMPONENT(c_keys, LIMPET_KEY_MANAGER, &key_manager);
COMPONENT(c_sealer, LIMPET_SEALER, &sealer);
COMPONENT(c_agent, LIMPET_NODE_ATTESTOR_AGENT, &agent);
COMPONENT(c_server, LIMPET_NODE_ATTESTOR_SERVER, &server);
COMPONENT(c_workload, LIMPET_WORKLOAD_ATTESTOR, &workload);
COMPONENT(c_upstream, LIMPET_UPSTREAM_AUTHORITY, &upstream);
COMPONENT(c_publisher, LIMPET_BUNDLE_PUBLISHER, &publisher);
static const limpet_component* const components[] = {&c_keys,     &c_sealer,   &c_agent,     &c_server,
                                                     &c_workload, &c_upstream, &c_publisher, NULL};
static const limpet_plugin plugin = {sizeof plugin, LIMPET_ABI_MAJOR, LIMPET_ABI_MINOR, 0, "org.example.moody",
                                     "1",           "Apache-2.0",     components};

const limpet_plugin* limpet_plugin_main(uint32_t major, uint32_t minor) {
  (void)major;
  (void)minor;
  return &plugin;
}
