/* journal_format.c: the bytes of a journal: segment headers, records and cursor slots, as docs/reference/formats.md specifies them.
 *
 * The idea: every field has its place in little-endian bytes, whatever the machine; a checksum over all of it says whether it is what was
 * written. Nothing here touches a file, and nothing that was read is believed before its checksum was seen.
 */
#include <assert.h>
#include <string.h>

#include "journal.h"

#define VERSION 1u
#define SLOT_FIXED_BYTES 120u
#define SLOT_PLAIN_AT 12u /* magic, version and checksum are before it */
#define CLEAN 1u
#define NS_PER_MS INT64_C(1000000)
#define WINDOW_BYTES_MIN 32768u

static const uint8_t SEGMENT_MAGIC[6] = "BFSEG";
static const uint8_t CURSOR_MAGIC[6] = "BFCUR";

/* ---- numbers ------------------------------------------------------------------------------------------------------------------------ */

static void put(uint8_t *bytes, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(value >> 8 * i);
    }
}

static uint64_t get(const uint8_t *bytes, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        value |= (uint64_t)bytes[i] << 8 * i;
    }
    return value;
}

static uint32_t get_4(const uint8_t *bytes)
{
    return (uint32_t)get(bytes, 4);
}

/* ---- segments ----------------------------------------------------------------------------------------------------------------------- */

uint32_t bf_segment_salt(const bf_segment_header *header)
{
    uint8_t number[4];
    put(number, header->number, sizeof number);
    return bf_crc32(bf_crc32(0, header->store_id, sizeof header->store_id), number, sizeof number);
}

void bf_segment_name(uint32_t number, const char *suffix, char name[BF_NAME_BYTES])
{
    static const char DIGITS[] = "0123456789abcdef";
    assert(strlen(suffix) + 9 < BF_NAME_BYTES);
    for (unsigned i = 0; i < 8; i++) {
        name[i] = DIGITS[number >> (28 - 4 * i) & 0xF];
    }
    memcpy(name + 8, suffix, strlen(suffix) + 1);
}

void bf_header_pack(const bf_segment_header *header, uint8_t *bytes)
{
    memset(bytes, 0, BF_RECORDS_AT);
    memcpy(bytes, SEGMENT_MAGIC, sizeof SEGMENT_MAGIC);
    put(bytes + 6, VERSION, 2);
    put(bytes + 8, header->number, 4);
    put(bytes + 12, bf_segment_salt(header), 4);
    memcpy(bytes + 16, header->store_id, sizeof header->store_id);
    put(bytes + 32, header->first_sequence, 8);
    put(bytes + 40, header->first_samples, 8);
    put(bytes + 48, (uint64_t)header->created_ns, 8);
    put(bytes + 56, header->segment_bytes, 4);
    put(bytes + 60, bf_crc32(0, bytes, 60), 4);
    memcpy(bytes + BF_HEADER_COPY_AT, bytes, BF_HEADER_BYTES);
}

int32_t bf_header_unpack(const uint8_t *bytes, size_t length, bf_segment_header *header)
{
    for (size_t at = 0; at <= BF_HEADER_COPY_AT; at += BF_HEADER_COPY_AT) {
        const uint8_t *head = bytes + at;
        if (length < at + BF_HEADER_BYTES || bf_crc32(0, head, 60) != get_4(head + 60) ||
            memcmp(head, SEGMENT_MAGIC, sizeof SEGMENT_MAGIC) != 0) {
            continue;
        }
        if (get(head + 6, 2) != VERSION) {
            return BF_VERSION_UNKNOWN;
        }
        bf_segment_header found = {.number = get_4(head + 8),
                                   .first_sequence = get(head + 32, 8),
                                   .first_samples = get(head + 40, 8),
                                   .created_ns = (int64_t)get(head + 48, 8),
                                   .segment_bytes = get_4(head + 56)};
        memcpy(found.store_id, head + 16, sizeof found.store_id);
        if (bf_segment_salt(&found) == get_4(head + 12) && found.segment_bytes >= BF_PREAMBLE_BYTES_MAX &&
            found.segment_bytes <= BF_SEGMENT_BYTES_MAX) {
            *header = found;
            return BF_OK;
        }
    }
    return BF_E_PROTOCOL;
}

/* ---- records ------------------------------------------------------------------------------------------------------------------------ */

uint32_t bf_span_ms(int64_t first_ns, int64_t last_ns)
{
    assert(first_ns <= last_ns);
    uint64_t span = (uint64_t)last_ns - (uint64_t)first_ns;
    uint64_t ms = span / (uint64_t)NS_PER_MS + (span % (uint64_t)NS_PER_MS != 0);
    return ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

int64_t bf_frame_last_ns(const bf_frame *frame)
{
    int64_t span = (int64_t)frame->span_ms * NS_PER_MS;
    return frame->first_ns > INT64_MAX - span ? INT64_MAX : frame->first_ns + span;
}

size_t bf_frame_pack(uint8_t *bytes, const bf_frame *frame)
{
    assert(frame->length < 1u << 24);
    size_t length = bf_aligned(BF_FRAME_BYTES + frame->length);
    put(bytes + 4, frame->length | (uint32_t)frame->type << 24, 4);
    bytes[12] = frame->stream;
    bytes[13] = frame->flags;
    put(bytes + 14, frame->samples, 2);
    put(bytes + 16, (uint64_t)frame->first_ns, 8);
    put(bytes + 24, frame->span_ms, 4);
    if (frame->length > 0 && frame->payload != bytes + BF_FRAME_BYTES) {
        memcpy(bytes + BF_FRAME_BYTES, frame->payload, frame->length);
    }
    memset(bytes + BF_FRAME_BYTES + frame->length, 0, length - BF_FRAME_BYTES - frame->length);
    return length;
}

static uint32_t frame_checksum(const uint8_t *bytes, uint32_t salt, size_t length)
{
    uint8_t start[4];
    put(start, salt, sizeof start);
    return bf_crc32(bf_crc32(0, start, sizeof start), bytes + 4, BF_FRAME_BYTES - 4 + length);
}

void bf_frame_seal(uint8_t *bytes, uint32_t salt, uint32_t delta)
{
    uint8_t type;
    size_t length = bf_frame_length(bytes, &type);
    put(bytes + 8, delta, 4);
    put(bytes, frame_checksum(bytes, salt, length), 4);
}

size_t bf_frame_length(const uint8_t *bytes, uint8_t *type)
{
    *type = bytes[7];
    return (size_t)get(bytes + 4, 3);
}

bool bf_frame_unpack(const uint8_t *bytes, uint32_t salt, uint64_t first_sequence, uint64_t at, bf_frame *frame)
{
    uint8_t type;
    size_t length = bf_frame_length(bytes, &type);
    if (frame_checksum(bytes, salt, length) != get_4(bytes)) {
        return false;
    }
    *frame = (bf_frame){.at = at,
                        .next_at = at + bf_aligned(BF_FRAME_BYTES + length),
                        .sequence = first_sequence + get_4(bytes + 8),
                        .first_ns = (int64_t)get(bytes + 16, 8),
                        .span_ms = get_4(bytes + 24),
                        .length = (uint32_t)length,
                        .payload = bytes + BF_FRAME_BYTES,
                        .samples = (uint16_t)get(bytes + 14, 2),
                        .type = type,
                        .stream = bytes[12],
                        .flags = bytes[13]};
    return true;
}

size_t bf_commit_pack(uint8_t *bytes, uint32_t salt, uint32_t delta, uint64_t generation, uint64_t samples_total,
                      const bf_journal_counters *counters)
{
    uint8_t *payload = bytes + BF_FRAME_BYTES;
    put(payload, generation, 8);
    put(payload + 8, samples_total, 8);
    memcpy(payload + BF_COMMIT_BYTES, counters->bytes, counters->length);
    bf_frame frame = {.type = BF_RECORD_COMMIT, .payload = payload, .length = (uint32_t)(BF_COMMIT_BYTES + counters->length)};
    size_t length = bf_frame_pack(bytes, &frame);
    bf_frame_seal(bytes, salt, delta);
    return length;
}

bool bf_commit_unpack(const bf_frame *frame, bf_commit *commit)
{
    if (frame->type != BF_RECORD_COMMIT || frame->length < BF_COMMIT_BYTES ||
        frame->length > BF_COMMIT_BYTES + BF_JOURNAL_COUNTERS_BYTES_MAX) {
        return false;
    }
    *commit = (bf_commit){.generation = get(frame->payload, 8),
                          .samples_total = get(frame->payload + 8, 8),
                          .counters = frame->payload + BF_COMMIT_BYTES,
                          .counters_length = frame->length - BF_COMMIT_BYTES};
    return true;
}

/* ---- cursor slots ------------------------------------------------------------------------------------------------------------------- */

size_t bf_cursor_pack(uint8_t *bytes, const bf_cursor *cursor)
{
    assert(cursor->ranges_count <= BF_JOURNAL_RANGES_MAX && cursor->counters.length <= BF_JOURNAL_COUNTERS_BYTES_MAX);
    size_t counters_at = SLOT_FIXED_BYTES + cursor->ranges_count * 16;
    size_t used = counters_at + cursor->counters.length;
    memset(bytes, 0, SLOT_FIXED_BYTES);
    memcpy(bytes, CURSOR_MAGIC, sizeof CURSOR_MAGIC);
    put(bytes + 6, VERSION, 2);
    put(bytes + 12, used, 4);
    memcpy(bytes + 16, cursor->store_id, sizeof cursor->store_id);
    put(bytes + 32, cursor->generation, 8);
    put(bytes + 40, cursor->base, 8);
    for (size_t i = 0; i < BF_JOURNAL_REASONS; i++) {
        put(bytes + 48 + 8 * i, cursor->done[i], 8);
    }
    put(bytes + 112, cursor->ranges_count, 2);
    put(bytes + 114, cursor->counters.length, 2);
    bytes[116] = cursor->is_clean ? CLEAN : 0;
    for (size_t i = 0; i < cursor->ranges_count; i++) {
        put(bytes + SLOT_FIXED_BYTES + 16 * i, cursor->ranges[i].first, 8);
        put(bytes + SLOT_FIXED_BYTES + 16 * i + 8, cursor->ranges[i].last, 8);
    }
    memcpy(bytes + counters_at, cursor->counters.bytes, cursor->counters.length);
    put(bytes + 8, bf_crc32(0, bytes + SLOT_PLAIN_AT, used - SLOT_PLAIN_AT), 4);
    return used;
}

static bool ranges_unpack(const uint8_t *bytes, bf_cursor *cursor)
{
    uint64_t floor = cursor->base;
    for (size_t i = 0; i < cursor->ranges_count; i++) {
        bf_range range = {get(bytes + 16 * i, 8), get(bytes + 16 * i + 8, 8)};
        if (range.first <= floor || range.last < range.first || range.last == UINT64_MAX) {
            return false;
        }
        cursor->ranges[i] = range;
        floor = range.last + 1;
    }
    return true;
}

int32_t bf_cursor_unpack(const uint8_t *bytes, size_t length, bf_cursor *cursor)
{
    if (length < SLOT_FIXED_BYTES || memcmp(bytes, CURSOR_MAGIC, sizeof CURSOR_MAGIC) != 0) {
        return BF_E_PROTOCOL;
    }
    size_t used = get_4(bytes + 12);
    size_t slot_bytes = length < BF_SLOT_AT ? length : BF_SLOT_AT;
    if (used < SLOT_FIXED_BYTES || used > slot_bytes ||
        bf_crc32(0, bytes + SLOT_PLAIN_AT, used - SLOT_PLAIN_AT) != get_4(bytes + 8)) {
        return BF_E_PROTOCOL;
    }
    if (get(bytes + 6, 2) != VERSION) {
        return BF_VERSION_UNKNOWN;
    }
    cursor->generation = get(bytes + 32, 8);
    cursor->base = get(bytes + 40, 8);
    cursor->ranges_count = (uint32_t)get(bytes + 112, 2);
    cursor->counters.length = (size_t)get(bytes + 114, 2);
    cursor->is_clean = (bytes[116] & CLEAN) != 0;
    size_t counters_at = SLOT_FIXED_BYTES + (size_t)cursor->ranges_count * 16;
    if (cursor->ranges_count > BF_JOURNAL_RANGES_MAX || cursor->counters.length > BF_JOURNAL_COUNTERS_BYTES_MAX ||
        used != counters_at + cursor->counters.length || !ranges_unpack(bytes + SLOT_FIXED_BYTES, cursor)) {
        return BF_E_PROTOCOL;
    }
    memcpy(cursor->store_id, bytes + 16, sizeof cursor->store_id);
    for (size_t i = 0; i < BF_JOURNAL_REASONS; i++) {
        cursor->done[i] = get(bytes + 48 + 8 * i, 8);
    }
    memcpy(cursor->counters.bytes, bytes + counters_at, cursor->counters.length);
    return BF_OK;
}

/* ---- limits ------------------------------------------------------------------------------------------------------------------------- */

bool bf_journal_limits_fit(const bf_journal_limits *limits)
{
    if (limits->record_bytes_max == 0 || limits->record_bytes_max > BF_SEGMENT_BYTES_MAX) {
        return false;
    }
    size_t frame = bf_aligned(BF_FRAME_BYTES + limits->record_bytes_max);
    return limits->segment_bytes <= BF_SEGMENT_BYTES_MAX && limits->segment_bytes % 4 == 0 &&
           BF_PREAMBLE_BYTES_MAX + frame + BF_COMMIT_FRAME_BYTES_MAX <= limits->segment_bytes && limits->segments_count_max >= 2 &&
           limits->segments_count_max <= 1u << 20 && frame <= limits->batch_bytes && limits->batch_bytes <= 1u << 30 &&
           limits->acknowledgements_count_max >= 1 && limits->acknowledgements_count_max <= 1u << 20 &&
           limits->flags <= (BF_JOURNAL_DROP_OLDEST | BF_JOURNAL_SALVAGE);
}

size_t bf_journal_window_bytes(const bf_journal_limits *limits)
{
    size_t needed = (BF_FRAME_BYTES + (size_t)limits->record_bytes_max + 7) & ~(size_t)7;
    return needed > WINDOW_BYTES_MIN ? needed : WINDOW_BYTES_MIN;
}
