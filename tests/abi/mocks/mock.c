/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin in C for the loader's tests. Without a MOCK_ macro it is sound: a workload attestor "mock" that answers
 * "pid:<pid>". Each macro breaks one thing, and the loader must say which.
 */
#include <limpet_plugin.h>
#include <stdio.h>

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

static const limpet_component component = {
#ifdef MOCK_SHORT_COMPONENT
    16,
#else
    sizeof(limpet_component),
#endif
    0,
#ifdef MOCK_NO_INTERFACE
    NULL,
#else
    LIMPET_WORKLOAD_ATTESTOR,
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
    &table
#endif
};

#ifdef MOCK_NO_COMPONENTS
static const limpet_component* const components[] = {NULL};
#else
static const limpet_component* const components[] = {&component, NULL};
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
    "org.example.mock",
    "1.2.3",
#ifdef MOCK_NO_LICENSE
    NULL,
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
#ifdef MOCK_NULL
  (void)plugin;
  return NULL;
#else
  return &plugin;
#endif
}
