/* fuzz_decode.c: the decoders under a sanitizer, with inputs that nobody thought of. Argument: seconds (60), and a seed to repeat a run.
 *
 * Inputs are well-formed answers with a few bytes changed, cut or added, in memory of exactly their size, so that the address sanitizer sees every
 * byte too far. A find is printed with its seed and becomes a golden frame.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bifrost.h"

#define ENTRIES_MAX 12u
#define TAGS 16u
#define CELL_BYTES 64u

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state << 13; /* xorshift64, Marsaglia 2003 */
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % limit;
}

static void require(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz_decode: %s\n", what);
        exit(1);
    }
}

/* A copy in memory of exactly `length` bytes, some of them changed. */
static uint8_t *damaged_copy(const uint8_t *bytes, size_t *length)
{
    switch (random_below(4)) {
    case 0:
        *length = random_below((uint32_t)*length + 1);
        break;
    case 1:
        *length += random_below(4);
        break;
    default:
        break;
    }
    uint8_t *copy = malloc(*length > 0 ? *length : 1);
    require(copy != NULL, "no memory");
    memcpy(copy, bytes, *length);
    for (uint32_t i = random_below(4); i > 0 && *length > 0; i--) {
        copy[random_below((uint32_t)*length)] = (uint8_t)random_below(256);
    }
    return copy;
}

static void fuzz_answer(uint8_t *scratch)
{
    uint8_t function = (uint8_t)(1 + random_below(4));
    uint16_t count = (uint16_t)(1 + random_below(function <= 2 ? 2000 : 125));
    size_t bytes = function <= 2 ? (count + 7u) / 8u : count * 2u;
    uint8_t type = function <= 2 ? BF_TYPE_BOOL : (uint8_t)(BF_TYPE_INT16 + random_below(8));
    const uint8_t header[9] = {0, 1, 0, 0, 0, (uint8_t)(bytes + 3), 1, function, (uint8_t)bytes};
    memcpy(scratch, header, sizeof header);
    size_t length = sizeof header + bytes;
    uint8_t *frame = damaged_copy(scratch, &length);
    size_t room = random_below(4) == 0 ? random_below(2000) : 2000;
    uint8_t *out = malloc(room > 0 ? room : 1);
    require(out != NULL, "no memory");
    const bf_modbus_question question = {1, function, type, (uint8_t)random_below(4), count, 0, out, room};
    int32_t status = bf_modbus_answer_decode(&question, 1, frame, length);
    require(status != BF_OK || (length == sizeof header + bytes && memcmp(frame, header, sizeof header) == 0), "a wrong header");
    (void)bf_crc16(frame, length);
    free(out);
    free(frame);
}

static size_t items_fill(uint8_t *body, uint8_t walk)
{
    size_t at = 0;
    if (walk == BF_WALK_S7) {
        for (uint32_t i = random_below(8); i > 0; i--) {
            uint8_t bytes = (uint8_t)random_below(40);
            const uint8_t header[4] = {random_below(4) ? 0xFF : 0x05, (uint8_t)(3 + random_below(7)), 0, bytes};
            memcpy(body + at, header, sizeof header);
            at += 4u + (header[0] == 0xFF ? bytes + bytes % 2u : 0u);
        }
        return at;
    }
    if (walk == BF_WALK_CIP) {
        uint8_t count = (uint8_t)random_below(8);
        at = 2 + 2u * count;
        body[0] = count;
        body[1] = 0;
        for (size_t i = 0; i < count; i++) {
            const uint8_t header[4] = {0xCC, 0, random_below(4) ? 0 : 5, (uint8_t)random_below(3)};
            body[2 + 2 * i] = (uint8_t)at;
            body[3 + 2 * i] = (uint8_t)(at >> 8);
            memcpy(body + at, header, sizeof header);
            at += 4u + 2u * header[3] + random_below(16);
        }
        return at;
    }
    return random_below(250);
}

static void entries_fill(bf_decode *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t *bytes = (uint8_t *)&entries[i];
        for (size_t k = 0; k < sizeof entries[i]; k++) {
            bytes[k] = (uint8_t)random_below(256);
        }
        entries[i].tag = random_below(TAGS + 1);
        entries[i].type = (uint8_t)random_below(16);
        entries[i].item = (uint16_t)random_below(8);
        entries[i].offset = random_below(16) == 0 ? entries[i].offset : random_below(64);
        entries[i].count = random_below(8) == 0 ? entries[i].count : (uint16_t)random_below(12);
        entries[i].flags = (uint8_t)random_below(4);
    }
}

static void fuzz_body(bf_table *table, uint8_t *scratch)
{
    uint8_t walk = (uint8_t)random_below(3);
    size_t length = items_fill(scratch, walk);
    uint8_t *body = damaged_copy(scratch, &length);
    size_t count = random_below(ENTRIES_MAX + 1);
    bf_decode entries[ENTRIES_MAX];
    uint64_t values[ENTRIES_MAX];
    uint32_t statuses[ENTRIES_MAX];
    entries_fill(entries, count);
    size_t room = random_below(2) ? 4096 : random_below(64);
    uint8_t *bytes = malloc(room > 0 ? room : 1);
    require(bytes != NULL, "no memory");
    int32_t status = bf_gather(body, length, walk, entries, count, values, statuses, bytes, room);
    require(status == BF_OK || status == BF_E_SPACE, "gather refused good arguments");
    int64_t now = (int64_t)random_below(1000);
    (void)bf_table_scatter(table, body, length, walk, entries, count, now, now, now, 0, bytes, room);
    free(bytes);
    free(body);
}

static bf_table *table_make(void)
{
    const bf_table_limits limits = {TAGS, 64, 256, TAGS * CELL_BYTES};
    uint8_t kinds[TAGS];
    double deadbands[TAGS];
    int64_t max_intervals[TAGS];
    uint32_t cell_sizes[TAGS];
    for (uint32_t i = 0; i < TAGS; i++) {
        kinds[i] = (uint8_t)(BF_KIND_BOOL + i % 6);
        deadbands[i] = i < 6 ? 0 : 1.5;
        max_intervals[i] = i % 3;
        cell_sizes[i] = CELL_BYTES;
    }
    size_t bytes = bf_table_bytes(&limits);
    void *memory = malloc(bytes);
    bf_table *table = NULL;
    require(memory != NULL && bf_table_init(memory, bytes, &limits, &table) == BF_OK, "no table");
    require(bf_table_define(table, 0, TAGS, kinds, deadbands, max_intervals, cell_sizes) == BF_OK, "no rows");
    return table;
}

int main(int argc, char **argv)
{
    long seconds = argc > 1 ? strtol(argv[1], NULL, 10) : 60;
    time_t end = time(NULL) + seconds;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
    printf("fuzz_decode: seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    random_state = seed | 1;
    bf_table *table = table_make();
    static uint8_t scratch[600];
    uint64_t rounds = 0;
    for (; rounds % 1024 != 0 || time(NULL) < end; rounds++) {
        for (size_t i = 0; i < sizeof scratch; i += 8) {
            scratch[i + random_below(8)] = (uint8_t)random_below(256);
        }
        fuzz_answer(scratch);
        fuzz_body(table, scratch);
    }
    free(table);
    printf("fuzz_decode: %llu rounds, nothing found\n", (unsigned long long)rounds);
    return 0;
}
