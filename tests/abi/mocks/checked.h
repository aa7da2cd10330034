/* SPDX-License-Identifier: Apache-2.0
 *
 * What the plugins share that plugin-check is tried on: a sound instance with one setting, "tag". Each of these plugins
 * is sound without a FLAW_ macro; with one it breaks one rule, and exactly the test of that rule must say so.
 */
#ifndef CHECKED_H
#define CHECKED_H
#include <limpet_plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_TAG 16

struct limpet_instance {
  const limpet_host* host;
  char tag[MAX_TAG];
  int configured; /* how often configure was called, well or not */
  int calls;
  limpet_op* last;
  int cancel_next;
  int waiting;
  uint64_t salt;
  void* own;
};

static limpet_status status_of(limpet_code code, const char* text) {
  limpet_status s;
  memset(&s, 0, sizeof s);
  s.size = sizeof s;
  s.code = code;
  s.message.ptr = text;
  s.message.len = strlen(text);
  return s;
}

/* {} or {"tag":"..."}: all the JSON that these plugins know. 0: neither. */
static int parse_tag(limpet_str json, char tag[MAX_TAG]) {
  static const char start[] = "{\"tag\":\"";
  const size_t head = sizeof start - 1;
  size_t i;
  if (json.len == 2 && memcmp(json.ptr, "{}", 2) == 0) {
    strcpy(tag, "none");
    return 1;
  }
  if (json.len < head + 3 || json.len > head + 2 + MAX_TAG - 1) return 0;
  if (memcmp(json.ptr, start, head) != 0 || memcmp(json.ptr + json.len - 2, "\"}", 2) != 0) return 0;
  for (i = head; i < json.len - 2; ++i) {
    if (json.ptr[i] < 'a' || json.ptr[i] > 'z') return 0;
    tag[i - head] = json.ptr[i];
  }
  tag[json.len - 2 - head] = 0;
  return 1;
}

#ifdef FLAW_ACCEPTS_ANYTHING
#define ACCEPTS_ANYTHING 1
#else
#define ACCEPTS_ANYTHING 0
#endif
#if defined(FLAW_REFUSES_EVERYTHING) || defined(FLAW_REFUSES_AT_LENGTH)
#define REFUSES_EVERYTHING 1
#else
#define REFUSES_EVERYTHING 0
#endif
#ifdef FLAW_REFUSES_AT_LENGTH /* 400 bytes: no limit of bytes is one of characters */
#define TEN(text) text text text text text text text text text text
#define REASON "x" TEN(TEN("\xf0\x9f\x90\x9a"))
#else
#define REASON "only the key tag is known, of 1 to 15 letters"
#endif

static void checked_configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  char tag[MAX_TAG];
  ++self->configured;
  if (REFUSES_EVERYTHING || !parse_tag(config->json, tag)) {
#ifdef FLAW_STATUS_IS_NO_TEXT
    const limpet_status bad = status_of(LIMPET_INVALID_ARGUMENT, "\xff\xfe");
#else
    const limpet_status bad = status_of(LIMPET_INVALID_ARGUMENT, REASON);
#endif
#ifdef FLAW_FORGETS_WHEN_REFUSING
    if (!config->dry_run) strcpy(self->tag, "lost");
#endif
    done(op, ACCEPTS_ANYTHING ? NULL : &bad);
    return;
  }
#ifndef FLAW_DRY_RUN_APPLIES
  if (!config->dry_run)
#endif
    strcpy(self->tag, tag);
  done(op, NULL);
}

static limpet_instance* new_instance(const limpet_host* host) {
  limpet_instance* self = calloc(1, sizeof *self);
  if (self != NULL) self->host = host;
  return self;
}

/* The end of a plugin that has these components. */
#define CHECKED_PLUGIN(...)                                                                                  \
  static const limpet_component* const components[] = {__VA_ARGS__, NULL};                                   \
  static const limpet_plugin plugin = {sizeof plugin, LIMPET_ABI_MAJOR, 0,         0, "org.example.checked", \
                                       "1.0.0",       "Apache-2.0",     components};                         \
  const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t host_minor) {                        \
    (void)host_minor;                                                                                        \
    return host_major == LIMPET_ABI_MAJOR ? &plugin : NULL;                                                  \
  }

#endif
