/* Stands in for NVIDIA's library for NVSwitches in a test: what NSCQ_DOUBLE names goes wrong. Written for this test from the
 * interface's sizes and arguments; compiled by another compiler than the program, so that both sides of the calls differ. */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { uint8_t bytes[16]; } uuid;
typedef struct { char text[64]; } label;
typedef struct { uint32_t size; uint8_t bytes[8192]; } report;
typedef struct { uint8_t bytes[5120]; uint32_t size; } certificates;
typedef struct { int8_t code; void *session; } session_result;
typedef void (*anything)(void);
typedef void (*on_uuid)(const uuid *, int8_t, const uuid *, void *);
typedef void (*on_number)(const uuid *, int8_t, int8_t, void *);
typedef void (*on_report)(const uuid *, int8_t, const report, void *);
typedef void (*on_certificates)(const uuid *, int8_t, const certificates, void *);

#ifndef VERSION
#define VERSION 2
#endif
const uint32_t nscq_api_version = (uint32_t)VERSION << 24 | 3u << 12 | 1u;

static int the_session;
static const uint8_t nothing[32];
static const uint8_t *input = nothing;
/* What was asked last, for a call that comes too late. */
static on_report late_callback;
static void *late_data;

static int fails(const char *fault) {
    const char *wanted = getenv("NSCQ_DOUBLE");
    return wanted != NULL && strcmp(wanted, fault) == 0;
}

static void fatal(const char *what) {
    fprintf(stderr, "double: %s\n", what);
    _Exit(99);
}

/* Not in the order of the UUIDs. */
static uuid numbered(unsigned number) {
    uuid it;
    memset(&it, 0, sizeof it);
    it.bytes[0] = (uint8_t)(200 - number);
    it.bytes[15] = fails("duplicate") ? 0 : (uint8_t)number;
    if (fails("duplicate")) it.bytes[0] = (uint8_t)(200 - number / 2);
    return it;
}

static unsigned count(void) {
    if (fails("many")) return 65;
    if (fails("nine")) return 9;
    if (fails("three")) return 3;
    if (fails("no-switch")) return 0;
    return 4;
}

int8_t nscq_uuid_to_label(const uuid *it, label *out, uint32_t flags) {
    if (flags != 0) fatal("flags of a label");
    if (fails("label-error")) return -2;
    memset(out->text, 0, sizeof out->text);
    if (fails("label-endless")) memset(out->text, 'A', sizeof out->text);
    else if (fails("label-path")) strcpy(out->text, "../{nvswitch}");
    else if (fails("label-empty")) out->text[0] = 0;
    else snprintf(out->text, sizeof out->text, "SWX-%02X-%02X", it->bytes[0], it->bytes[15]);
    return 0;
}

session_result nscq_session_create(uint32_t flags) {
    session_result result = { 0, &the_session };
    if (flags != 1) fatal("flags of a session");
    if (fails("create-warning")) result.code = 1;
    if (fails("create-error")) { result.code = -6; result.session = (void *)8; }
    if (fails("create-nothing")) result.session = NULL;
    return result;
}

void nscq_session_destroy(void *session) {
    if (session != &the_session) fatal("another session is destroyed");
    if (fails("late")) {
        uuid it = numbered(0);
        report one;
        memset(&one, 0xee, sizeof one);
        late_callback(&it, 0, one, late_data);
    }
}

#ifndef WITHOUT_INPUT
int8_t nscq_session_set_input(void *session, uint32_t flags, void *bytes, uint32_t size) {
    if (session != &the_session || flags != 0 || size != 32) fatal("input");
    if (fails("input-error")) return -4;
    input = bytes;
    return 0;
}
#endif

static void fill_report(report *one) {
    static const uint8_t request[] = { 0x11, 0xe0, 0x01, 0xff };
    static const uint8_t response[] = { 0x11, 0x60, 0, 0, 0, 0, 0, 0 };
    static const uint8_t opaque[] = { 24, 0, 6, 0, 14, 0, '9', '6', '.', '1', '0', '.', '7', '3', '.', '0', '0', '.', '0', '1',
                                      25, 0, 2, 0, 1, 0 };
    uint8_t *at = one->bytes;
    memset(one, 0, sizeof *one);
    memcpy(at, request, 4); at += 4;
    memcpy(at, input, 32); at += 32;
    if (fails("stale")) at[-1] ^= 1;
    at += 1;
    memcpy(at, response, 8); at += 8;
    memset(at, 9, 32); at += 32;
    memcpy(at, opaque, sizeof opaque); at += sizeof opaque;
    if (fails("no-bios")) at[2 - (int)sizeof opaque] = 7;
    memset(at, 0xdd, 96); at += 96;
    one->size = (uint32_t)(at - one->bytes);
    if (fails("padded")) one->size += 100;
    if (fails("report-endless")) one->size = 0xffffffffu;
    if (fails("report-one-more")) one->size = 8193;
    if (fails("report-nothing")) one->size = 0;
}

static void fill_certificates(certificates *one) {
    static const char text[] = "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n";
    memset(one, 0, sizeof *one);
    memcpy(one->bytes, text, sizeof text - 1);
    one->size = sizeof text - 1;
    if (fails("chain-nothing")) one->size = 0;
    if (fails("chain-one-more")) one->size = 5121;
    if (fails("chain-garbage")) memset(one->bytes, 0xff, sizeof one->bytes);
}

struct question { const char *path; anything callback; void *data; int8_t code; };

static int about(const char *path, const uuid *it, const char *below) {
    label name;
    char whole[128];
    if (nscq_uuid_to_label(it, &name, 0) != 0) return 0;
    snprintf(whole, sizeof whole, "/%s/%s", name.text, below);
    return strcmp(path, whole) == 0;
}

static void *answer(void *argument) {
    struct question *asked = argument;
    unsigned number;
    for (number = 0; number < count(); number++) {
        uuid it = numbered(number), other = numbered(number + 1);
        int8_t code = fails("callback-error") ? -7 : fails("callback-warning") ? 1 : 0;
        if (strcmp(asked->path, "/drv/nvswitch/{device}/uuid") == 0) {
            on_uuid call = (on_uuid)asked->callback;
            const uuid *value = fails("null-uuid") ? NULL : &it;
            call(NULL, fails("list-error") ? -8 : 0, value, asked->data);
            continue;
        }
        if (strcmp(asked->path, "/{nvswitch}/id/arch") == 0) {
            int8_t architecture = fails("older-switch") ? 1 : 2;
            if (fails("no-architecture") && number == 2) continue;
            ((on_number)asked->callback)(&it, 0, architecture, asked->data);
            continue;
        }
        if (about(asked->path, &it, "config/pcie_mode")) {
            int8_t mode = fails("unlocked") ? 1 : fails("failed") ? 2 : fails("mode-off") ? 0 : fails("mode-unknown") ? 77 : 3;
            ((on_number)asked->callback)(&it, code, mode, asked->data);
            return NULL;
        }
        if (about(asked->path, &it, "config/certificate")) {
            certificates one;
            fill_certificates(&one);
            ((on_certificates)asked->callback)(&it, 0, one, asked->data);
            return NULL;
        }
        if (about(asked->path, &it, "config/attestation_report")) {
            on_report call = (on_report)asked->callback;
            report one;
            unsigned long times = fails("twice") ? 2 : fails("endless") ? 1000 : 1;
            fill_report(&one);
            late_callback = call;
            late_data = asked->data;
            if (fails("silent")) return NULL;
            if (fails("null-device")) { call(NULL, 0, one, asked->data); return NULL; }
            if (fails("null-data")) { call(&it, 0, one, NULL); return NULL; }
            while (times-- > 0) call(fails("other") ? &other : &it, 0, one, asked->data);
            return NULL;
        }
    }
    if (count() > 0 && asked->path[1] != 'd' && asked->path[1] != '{') asked->code = -1;
    return NULL;
}

int8_t nscq_session_path_observe(void *session, const char *path, anything callback, void *data, uint32_t flags) {
    struct question asked = { path, callback, data, 0 };
    if (session != &the_session || flags != 0 || data == NULL) fatal("observe");
    if (fails("observe-warning")) asked.code = 1;
    if (fails("crash")) abort();
    if (fails("thread")) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, answer, &asked) != 0) fatal("thread");
        pthread_join(thread, NULL);
    } else {
        answer(&asked);
    }
    return asked.code;
}
