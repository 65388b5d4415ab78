/* test_guard.c: decoders never read or write a byte beyond what they were given.
 *
 * Each input ends where an unreadable page begins, and so does each output, at every length; one byte too far is a segmentation fault. Contents are
 * well-formed, torn and at random, so that every length field is believed at least once by a decoder that should not.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bifrost.h"

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);         \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

#define ROOM 4096u
#define ENTRIES 16u

static uint64_t random_state = 0x9E3779B97F4A7C15u;

static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state << 13; /* xorshift64, Marsaglia 2003 */
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % limit;
}

/* The end of ROOM readable bytes; the byte at the end is not. */
static uint8_t *guarded_end(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = (ROOM + page - 1) / page * page;
    uint8_t *memory = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK(mprotect(memory + size, page, PROT_NONE) == 0);
    return memory + size;
}

static void random_fill(uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)random_below(256);
    }
}

static void test_crc(uint8_t *input_end)
{
    for (size_t length = 0; length <= 600; length++) {
        uint16_t crc = 0xFFFF;
        for (size_t i = 0; i < length; i++) {
            crc = (uint16_t)(crc ^ input_end[(ptrdiff_t)i - (ptrdiff_t)length]);
            for (int bit = 0; bit < 8; bit++) {
                crc = (uint16_t)(crc >> 1 ^ (crc & 1 ? 0xA001 : 0));
            }
        }
        CHECK(bf_crc16(input_end - length, length) == crc);
    }
}

static void test_answer(uint8_t *input_end, uint8_t *output_end)
{
    uint8_t frame[260];
    for (uint16_t count = 1; count <= 125; count++) {
        uint8_t type = (uint8_t)(BF_TYPE_INT16 + random_below(8));
        uint8_t order = (uint8_t)random_below(4);
        size_t width = type <= BF_TYPE_UINT16 ? 2 : type <= BF_TYPE_UINT32 || type == BF_TYPE_FLOAT32 ? 4 : 8;
        size_t room = count * 2u / width * width;
        size_t whole = 9 + count * 2u;
        const uint8_t header[9] = {0, 1, 0, 0, 0, (uint8_t)(count * 2 + 3), 1, 3, (uint8_t)(count * 2)};
        memcpy(frame, header, sizeof header);
        random_fill(frame + sizeof header, count * 2u);
        const bf_modbus_question question = {1, 3, type, order, count, 0, output_end - room, room};
        for (size_t length = 0; length <= whole; length++) {
            memcpy(input_end - length, frame, length);
            int32_t status = bf_modbus_answer_decode(&question, 1, input_end - length, length);
            CHECK(status == (length == whole ? BF_OK : BF_PARTIAL));
        }
    }
    for (uint16_t count = 1; count <= 2000; count = (uint16_t)(count + 7)) {
        size_t bytes = (count + 7u) / 8u;
        const uint8_t header[9] = {0, 1, 0, 0, 0, (uint8_t)(bytes + 3), 1, 1, (uint8_t)bytes};
        memcpy(input_end - bytes - 9, header, sizeof header);
        const bf_modbus_question question = {1, 1, BF_TYPE_BOOL, 0, count, 0, output_end - count, count};
        CHECK(bf_modbus_answer_decode(&question, 1, input_end - bytes - 9, bytes + 9) == BF_OK);
    }
}

static void entries_randomize(bf_decode *entries)
{
    random_fill((uint8_t *)entries, ENTRIES * sizeof *entries);
    for (size_t i = 0; i < ENTRIES; i++) {
        entries[i].type = (uint8_t)random_below(16);
        entries[i].flags = (uint8_t)random_below(4);
        entries[i].item = (uint16_t)random_below(8);
        entries[i].offset = random_below(4) == 0 ? entries[i].offset : random_below(64);
        entries[i].count = random_below(4) == 0 ? entries[i].count : (uint16_t)random_below(20);
    }
}

/* Something like the items of `walk`, so that they are followed to the end of the body. */
static void items_fill(uint8_t *body, size_t length, uint8_t walk)
{
    random_fill(body, length);
    if (walk == BF_WALK_S7) {
        for (size_t at = 0; at + 4 <= length;) {
            uint8_t bytes = (uint8_t)random_below(12);
            const uint8_t header[4] = {random_below(4) ? 0xFF : 0x0A, 9, 0, bytes};
            memcpy(body + at, header, sizeof header);
            at += header[0] == 0xFF ? 4u + bytes + bytes % 2u : 4u;
        }
    } else if (walk == BF_WALK_CIP && length >= 2) {
        uint8_t count = (uint8_t)random_below(8);
        body[0] = count;
        body[1] = 0;
        for (size_t i = 0; i < count && 2 * i + 4 <= length; i++) {
            body[2 + 2 * i] = (uint8_t)random_below((uint32_t)length + 2);
            body[3 + 2 * i] = 0;
        }
    }
}

static void test_gather(uint8_t *input_end, uint8_t *output_end)
{
    bf_decode entries[ENTRIES];
    uint64_t values[ENTRIES];
    uint32_t statuses[ENTRIES];
    for (unsigned round = 0; round < 300; round++) {
        entries_randomize(entries);
        for (size_t length = 0; length <= 120; length++) {
            uint8_t walk = (uint8_t)random_below(3);
            size_t room = random_below(2) ? ROOM : random_below(64);
            items_fill(input_end - length, length, walk);
            int32_t status = bf_gather(input_end - length, length, walk, entries, ENTRIES, values, statuses, output_end - room, room);
            CHECK(status == BF_OK || status == BF_E_SPACE);
        }
    }
}

int main(void)
{
    uint8_t *input_end = guarded_end();
    uint8_t *output_end = guarded_end();
    random_fill(input_end - ROOM, ROOM);
    test_crc(input_end);
    test_answer(input_end, output_end);
    test_gather(input_end, output_end);
    puts("guard: no byte beyond the end was touched");
    return 0;
}
