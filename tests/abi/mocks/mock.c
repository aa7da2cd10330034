/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin in C for the loader's tests. Without a MOCK_ macro it is sound: a workload attestor "mock" that answers
 * "pid:<pid>". Each macro breaks one thing, and the loader must say which.
 */
#include <limpet_plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct limpet_instance {
  const limpet_host* host;
};
static struct limpet_instance the_instance; /* one is enough for these tests */

static limpet_code create(const limpet_host* host, limpet_instance** out) {
  the_instance.host = host;
  *out = &the_instance;
  return LIMPET_OK;
}
static void destroy(limpet_instance* self) { self->host = NULL; }
static void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  (void)self;
  (void)config;
  done(op, NULL);
}
static void attest(limpet_instance* self, limpet_op* op, const limpet_workload* w, limpet_selectors_done done) {
  char text[32];
  limpet_str item;
  limpet_str_list list;
  (void)self;
  item.len = (size_t)snprintf(text, sizeof text, "pid:%d", (int)w->pid);
  item.ptr = text;
  list.items = &item;
  list.count = 1;
  done(op, NULL, list);
}

static const limpet_workload_attestor table = {
#ifdef MOCK_SHORT_TABLE
    8,
#else
    sizeof(limpet_workload_attestor),
#endif
    0,
#ifdef MOCK_MISSING_FUNCTION
    NULL
#else
    attest
#endif
};

/* MOCK_UPSTREAM...: an upstream authority instead, whose table is short, lacks a function, or is sound. */
static void mint_ca(limpet_instance* self, limpet_op* op, limpet_bytes csr, uint32_t ttl, limpet_minted_done done) {
  const limpet_bytes_list list = {&csr, 1};
  (void)self;
  (void)ttl;
  done(op, NULL, list, list);
}
static void publish_jwt_key(limpet_instance* self, limpet_op* op, const limpet_jwt_key* key, limpet_done done) {
  (void)self;
  (void)key;
  done(op, NULL);
}
#ifndef MOCK_UPSTREAM_MISSING_FUNCTION
static void watch_bundle(limpet_instance* self, limpet_op* op, limpet_bundle_update update, limpet_done done) {
  (void)self;
  (void)update;
  done(op, NULL);
}
#endif
static const limpet_upstream_authority upstream_table = {
#ifdef MOCK_UPSTREAM_SHORT_TABLE
    24,
#else
    sizeof(limpet_upstream_authority),
#endif
    0, mint_ca, publish_jwt_key,
#ifdef MOCK_UPSTREAM_MISSING_FUNCTION
    NULL
#else
    watch_bundle
#endif
};
#if defined(MOCK_UPSTREAM) || defined(MOCK_UPSTREAM_SHORT_TABLE) || defined(MOCK_UPSTREAM_MISSING_FUNCTION)
#define MOCK_INTERFACE LIMPET_UPSTREAM_AUTHORITY
#define MOCK_TABLE &upstream_table
#else
#define MOCK_INTERFACE LIMPET_WORKLOAD_ATTESTOR
#define MOCK_TABLE &table
#endif

static const limpet_component component = {
#ifdef MOCK_SHORT_COMPONENT
    16,
#else
    sizeof(limpet_component),
#endif
    0,
#ifdef MOCK_NO_INTERFACE
    NULL,
#elif defined(MOCK_INTERFACE_NO_TEXT)
    "org.example.\xff/1",
#else
    MOCK_INTERFACE,
#endif
#ifdef MOCK_BAD_NAME
    "Mock Attestor",
#else
    "mock",
#endif
#ifdef MOCK_NO_CREATE
    NULL,
#else
    create,
#endif
    destroy,
    configure,
    NULL,
#ifdef MOCK_NO_TABLE
    NULL
#else
    MOCK_TABLE
#endif
};

#ifdef MOCK_NO_COMPONENTS
static const limpet_component* const components[] = {NULL};
#elif defined(MOCK_DUPLICATE)
static const limpet_component* const components[] = {&component, &component, NULL};
#else
static const limpet_component* const components[] = {&component, NULL};
#endif

#ifdef MOCK_TWO_SYMBOLS
LIMPET_EXPORT int mock_second_symbol;
int mock_second_symbol = 1;
#endif

static const limpet_plugin plugin = {
#ifdef MOCK_SHORT_PLUGIN
    24,
#else
    sizeof(limpet_plugin),
#endif
#ifdef MOCK_MAJOR_TWO
    2,
#else
    LIMPET_ABI_MAJOR,
#endif
#ifdef MOCK_FUTURE_MINOR
    LIMPET_ABI_MINOR + 1,
#else
    LIMPET_ABI_MINOR,
#endif
    0,
#ifdef MOCK_ID_NO_TEXT
    "org.example.\xc3",
#else
    "org.example.mock",
#endif
#ifdef MOCK_VERSION_NO_TEXT
    "1.2.\xff",
#else
    "1.2.3",
#endif
#ifdef MOCK_NO_LICENSE
    NULL,
#elif defined(MOCK_LICENSE_NO_TEXT)
    "\xed\xa0\x80", /* half of a surrogate pair */
#else
    "Apache-2.0",
#endif
    components};

#ifdef MOCK_NO_ENTRY
LIMPET_EXPORT const limpet_plugin* limpet_plugin_other(uint32_t major, uint32_t minor);
#define limpet_plugin_main limpet_plugin_other
#endif
const limpet_plugin* limpet_plugin_main(uint32_t major, uint32_t minor) {
  (void)major;
  (void)minor;
#ifdef MOCK_CRASHES
  abort();
#endif
#ifdef MOCK_HANGS
  for (;;) pause();
#endif
#ifdef MOCK_CLOSES /* everything, and lives on */
  for (int fd = 0; fd < 64; ++fd) close(fd);
  for (;;) pause();
#endif
#ifdef MOCK_LIES /* a description of its own making, and then another */
  for (int i = 0; i < 2; ++i) {
    const uint8_t frame[] = {10, 0, 0, 0, 0, 0, 0, 0, 42, 0, 1, 0, 0, 0};
    (void)!write(3, frame, sizeof frame);
  }
#endif
#ifdef MOCK_EXITS
  exit(0);
#endif
#ifdef MOCK_NULL
  (void)plugin;
  return NULL;
#else
  return &plugin;
#endif
}
