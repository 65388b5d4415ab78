/* decode.c: gather-decode, shared by all protocols.
 *
 * The idea: a tag's place in an answer is data (bf_decode), so one loop reads every protocol. Whatever an entry says, only bytes inside the body
 * are read; an entry that cannot be decoded is one bad tag, never a failed frame.
 */
#include <assert.h>
#include <string.h>

#include "table.h"

#define NAN_BITS 0x7FF8000000000000u /* C and Python agree on one NaN; what an operation makes of a NaN's payload differs by processor */

#define S7_ITEM_HEADER_BYTES 4u
#define S7_RETURN_CODE_GOOD 0xFFu
#define CIP_ITEM_HEADER_BYTES 4u
#define CIP_REPLY_FLAG 0x80u

/* ---- byte order ----------------------------------------------------------------------------------------------------------------- */

size_t bf_type_bytes(uint8_t type)
{
    static const uint8_t bytes[BF_TYPE_BCD32 + 1] = {0, 0, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 1, 2, 4};
    return type <= BF_TYPE_BCD32 ? bytes[type] : 0;
}

/* Eight bytes of the wire, as a little-endian word holds them, to little-endian elements. ABCD is big-endian: both steps are needed. Bytes and
 * texts have no order of their own: they only follow SWAP_BYTES. */
static inline uint64_t word_reorder(uint64_t word, size_t width, uint8_t order)
{
    bool swapped = (order & BF_ORDER_SWAP_BYTES) != 0;
    if (swapped == (width == 1)) {
        word = (word & 0x00FF00FF00FF00FFu) << 8 | (word >> 8 & 0x00FF00FF00FF00FFu);
    }
    if (width <= 2 || (order & BF_ORDER_SWAP_WORDS) != 0) {
        return word;
    }
    word = (word & 0x0000FFFF0000FFFFu) << 16 | (word >> 16 & 0x0000FFFF0000FFFFu);
    return width == 4 ? word : word << 32 | word >> 32;
}

void bf_reorder(uint8_t *target, const uint8_t *source, size_t bytes, size_t width, uint8_t order)
{
    assert(width == 1 || width == 2 || width == 4 || width == 8);
    assert(bytes % width == 0);
    uint64_t word;
    for (; bytes >= sizeof word; bytes -= sizeof word) {
        memcpy(&word, source, sizeof word);
        word = word_reorder(word, width, order);
        memcpy(target, &word, sizeof word);
        source += sizeof word;
        target += sizeof word;
    }
    if (bytes > 0) {
        bool pairs = width == 1 && (order & BF_ORDER_SWAP_BYTES) != 0;
        word = 0;
        memcpy(&word, source, pairs ? bytes + bytes % 2 : bytes);
        word = word_reorder(word, width, order);
        memcpy(target, &word, bytes);
    }
}

/* ---- items ---------------------------------------------------------------------------------------------------------------------- */

void bf_walker_start(bf_walker *walker, const uint8_t *body, size_t length, uint8_t walk)
{
    assert(walk <= BF_WALK_CIP);
    assert(body != NULL || length == 0);
    *walker = (bf_walker){.body = body, .length = length, .walk = walk, .status = BF_GOOD, .data = body, .data_bytes = length};
}

static void item_set(bf_walker *walker, uint32_t status, size_t offset, size_t bytes)
{
    assert(offset <= walker->length && bytes <= walker->length - offset);
    walker->status = status;
    walker->data = bytes > 0 ? walker->body + offset : NULL;
    walker->data_bytes = bytes;
}

/* Bytes of an S7 item's data, by transport size; SIZE_MAX for a transport size that no item has. Sizes 3 (bits), 4 (bytes, words) and 5
 * (integers) count bits, 6 (double integers), 7 (reals) and 9 (octets) count bytes. As Wireshark's packet-s7comm.c and Snap7 read it; the
 * protocol has no public standard. */
static size_t s7_data_bytes(uint8_t transport_size, size_t announced)
{
    if (transport_size >= 3 && transport_size <= 5) {
        return (announced + 7) / 8;
    }
    if (transport_size == 6 || transport_size == 7 || transport_size == 9) {
        return announced;
    }
    return SIZE_MAX;
}

/* Finds the item that begins at walker->next and moves there; false when there is no whole item. */
static bool s7_item_next(bf_walker *walker)
{
    if (walker->next >= walker->length || walker->length - walker->next < S7_ITEM_HEADER_BYTES) {
        return false;
    }
    const uint8_t *header = walker->body + walker->next;
    size_t first = walker->next + S7_ITEM_HEADER_BYTES;
    size_t bytes = 0;
    if (header[0] == S7_RETURN_CODE_GOOD) {
        bytes = s7_data_bytes(header[1], (size_t)(header[2] << 8 | header[3]));
        if (bytes > walker->length - first) {
            return false;
        }
        item_set(walker, BF_GOOD, first, bytes);
    } else { /* It has no data, whatever its length says: Snap7's server writes 4 there, others 0. */
        item_set(walker, BF_BAD_DEVICE_FAILURE, first, 0);
    }
    walker->next = first + bytes + bytes % 2; /* the last item has no padding, and then `next` may lie behind the end */
    walker->next_item++;
    return true;
}

static void s7_item_find(bf_walker *walker, uint32_t item)
{
    if (walker->found && item + 1 == walker->next_item) {
        return; /* it is the one that was found last */
    }
    if (item < walker->next_item) {
        walker->next = 0;
        walker->next_item = 0;
    }
    walker->found = true;
    while (walker->found && walker->next_item <= item) { /* each step takes four bytes or more of the body */
        walker->found = s7_item_next(walker);
    }
    if (!walker->found) {
        item_set(walker, BF_BAD_DECODING, 0, 0);
    }
}

static size_t load_little_16(const uint8_t *bytes)
{
    return (size_t)(bytes[0] | bytes[1] << 8);
}

/* CIP Vol 1, 2-4.2 (reply format) and A-4.10 (Multiple Service Packet): offsets count from the count field. */
static void cip_item_find(bf_walker *walker, uint32_t item)
{
    const uint8_t *body = walker->body;
    item_set(walker, BF_BAD_DECODING, 0, 0);
    if (walker->length < 2) {
        return;
    }
    size_t count = load_little_16(body);
    size_t offsets_end = 2 + 2 * count;
    if (item >= count || offsets_end > walker->length) {
        return;
    }
    size_t first = load_little_16(body + 2 + 2 * (size_t)item);
    size_t end = item + 1 < count ? load_little_16(body + 4 + 2 * (size_t)item) : walker->length;
    if (first < offsets_end || end > walker->length || end < first || end - first < CIP_ITEM_HEADER_BYTES) {
        return;
    }
    const uint8_t *header = body + first;
    size_t header_bytes = CIP_ITEM_HEADER_BYTES + 2 * (size_t)header[3];
    if ((header[0] & CIP_REPLY_FLAG) == 0 || header_bytes > end - first) {
        return;
    }
    if (header[2] != 0) {
        item_set(walker, BF_BAD_DEVICE_FAILURE, first, 0);
        return;
    }
    item_set(walker, BF_GOOD, first + header_bytes, end - first - header_bytes);
}

static void item_find(bf_walker *walker, uint32_t item)
{
    if (walker->walk == BF_WALK_S7) {
        s7_item_find(walker, item);
    } else if (walker->walk == BF_WALK_CIP) {
        cip_item_find(walker, item);
    }
}

/* ---- values --------------------------------------------------------------------------------------------------------------------- */

static bool entry_is_array(const bf_decode *entry)
{
    return (entry->flags & BF_DECODE_ARRAY) != 0 && entry->type != BF_TYPE_STRING;
}

static bool entry_is_scaled(const bf_decode *entry)
{
    return (entry->flags & BF_DECODE_SCALED) != 0 && entry->type != BF_TYPE_STRING;
}

uint8_t bf_entry_kind(const bf_decode *entry)
{
    static const uint8_t kinds[BF_TYPE_BCD32 + 1] = {
        0,           BF_KIND_BOOL, BF_KIND_INT,  BF_KIND_UINT,  BF_KIND_INT,   BF_KIND_UINT, BF_KIND_INT, BF_KIND_UINT,
        BF_KIND_INT, BF_KIND_UINT, BF_KIND_FLOAT, BF_KIND_FLOAT, BF_KIND_TEXT, BF_KIND_UINT, BF_KIND_UINT};
    if (entry->type < BF_TYPE_BOOL || entry->type > BF_TYPE_BCD32) {
        return 0;
    }
    if (entry_is_array(entry)) {
        return BF_KIND_ARRAY;
    }
    return entry_is_scaled(entry) ? BF_KIND_FLOAT : kinds[entry->type];
}

static size_t element_bytes_out(const bf_decode *entry)
{
    if (entry_is_scaled(entry)) {
        return sizeof(double);
    }
    return entry->type == BF_TYPE_BOOL ? 1 : bf_type_bytes(entry->type);
}

size_t bf_entry_bytes(const bf_decode *entry)
{
    bool has_bytes = entry_is_array(entry) || entry->type == BF_TYPE_STRING;
    return has_bytes ? entry->count * element_bytes_out(entry) : 0;
}

/* Bytes that the entry reads from its offset on. Swapped bytes come in pairs. */
static size_t entry_span(const bf_decode *entry)
{
    size_t count = entry_is_array(entry) || entry->type == BF_TYPE_STRING ? entry->count : 1;
    size_t width = bf_type_bytes(entry->type);
    if (count == 0) {
        return 0;
    }
    size_t span = entry->type == BF_TYPE_BOOL ? (entry->bit + count - 1) / 8 + 1 : count * width;
    bool pairs = width <= 1 && (entry->order & BF_ORDER_SWAP_BYTES) != 0;
    return pairs ? span + span % 2 : span;
}

static uint64_t double_bits(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return number == number ? bits : NAN_BITS;
}

static double bits_double(uint64_t bits)
{
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static uint64_t float_widen(uint32_t bits)
{
    float number;
    memcpy(&number, &bits, sizeof number);
    return double_bits((double)number);
}

/* Binary-coded decimal of `digits` digits; false when a digit is above 9. */
static bool bcd_decode(uint64_t raw, unsigned digits, uint64_t *number)
{
    assert(digits == 4 || digits == 8);
    uint64_t sum = 0;
    for (unsigned i = digits; i > 0; i--) {
        uint64_t digit = raw >> 4 * (i - 1) & 0xF;
        if (digit > 9) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    *number = sum;
    return true;
}

static bool bit_read(const uint8_t *data, size_t bit, uint8_t order)
{
    size_t byte = bit / 8;
    return (data[(order & BF_ORDER_SWAP_BYTES) != 0 ? byte ^ 1 : byte] >> bit % 8 & 1) != 0;
}

/* Element `index` as it is on the wire, in the low bits of a word. Lengths that the compiler knows: this runs for every value that is polled. */
static uint64_t element_load(const uint8_t *data, const bf_decode *entry, size_t index, size_t width)
{
    uint16_t half;
    uint32_t single;
    uint64_t word;
    switch (width) {
    case 1:
        return data[(entry->order & BF_ORDER_SWAP_BYTES) != 0 ? index ^ 1 : index];
    case 2:
        memcpy(&half, data + index * sizeof half, sizeof half);
        return word_reorder(half, sizeof half, entry->order);
    case 4:
        memcpy(&single, data + index * sizeof single, sizeof single);
        return word_reorder(single, sizeof single, entry->order);
    default:
        memcpy(&word, data + index * sizeof word, sizeof word);
        return word_reorder(word, sizeof word, entry->order);
    }
}

/* The 64 bits of element `index`, before scaling; false for a wrong BCD digit. */
static bool element_decode(const uint8_t *data, const bf_decode *entry, size_t index, uint64_t *value)
{
    if (entry->type == BF_TYPE_BOOL) {
        *value = bit_read(data, entry->bit + index, entry->order);
        return true;
    }
    size_t width = bf_type_bytes(entry->type);
    assert(width > 0);
    uint64_t raw = element_load(data, entry, index, width);
    switch (entry->type) {
    case BF_TYPE_INT8:
        raw = (uint64_t)(int64_t)(int8_t)raw;
        break;
    case BF_TYPE_INT16:
        raw = (uint64_t)(int64_t)(int16_t)raw;
        break;
    case BF_TYPE_INT32:
        raw = (uint64_t)(int64_t)(int32_t)raw;
        break;
    case BF_TYPE_FLOAT32:
        raw = float_widen((uint32_t)raw);
        break;
    case BF_TYPE_FLOAT64:
        raw = double_bits(bits_double(raw));
        break;
    case BF_TYPE_BCD16:
    case BF_TYPE_BCD32:
        return bcd_decode(raw, entry->type == BF_TYPE_BCD16 ? 4 : 8, value);
    default:
        break;
    }
    *value = raw;
    return true;
}

static uint64_t value_scale(const bf_decode *entry, uint64_t value)
{
    double raw;
    switch (entry->type) {
    case BF_TYPE_INT8:
    case BF_TYPE_INT16:
    case BF_TYPE_INT32:
    case BF_TYPE_INT64:
        raw = (double)(int64_t)value;
        break;
    case BF_TYPE_FLOAT32:
    case BF_TYPE_FLOAT64:
        raw = bits_double(value);
        break;
    default:
        raw = (double)value;
        break;
    }
    double scaled = raw * entry->scale;
    return double_bits(scaled + entry->bias);
}

/* Writes the elements of an array; false for a wrong BCD digit. */
static bool array_decode(const uint8_t *data, const bf_decode *entry, uint8_t *bytes)
{
    size_t width = element_bytes_out(entry);
    bool plain = entry->type != BF_TYPE_BOOL && entry->type < BF_TYPE_STRING && !entry_is_scaled(entry);
    if (plain) {
        bf_reorder(bytes, data, entry->count * width, width, entry->order);
        return true;
    }
    for (size_t i = 0; i < entry->count; i++) {
        uint64_t value;
        if (!element_decode(data, entry, i, &value)) {
            return false;
        }
        if (entry_is_scaled(entry)) {
            value = value_scale(entry, value);
        }
        memcpy(bytes + i * width, &value, width);
    }
    return true;
}

/* Bytes before the first NUL, at most entry->count. */
static size_t text_length(const uint8_t *data, const bf_decode *entry)
{
    size_t flip = (entry->order & BF_ORDER_SWAP_BYTES) != 0;
    size_t length = 0;
    while (length < entry->count && data[length ^ flip] != 0) {
        length++;
    }
    return length;
}

int32_t bf_entry_decode(bf_walker *walker, const bf_decode *entry, bf_decoded *out, uint8_t *bytes, size_t size)
{
    assert(walker != NULL && entry != NULL);
    assert(out != NULL);
    item_find(walker, entry->item);
    *out = (bf_decoded){.value = 0, .status = walker->status, .length = 0};
    if (walker->status != BF_GOOD) {
        return BF_OK;
    }
    out->status = BF_BAD_DECODING;
    size_t span = entry_span(entry);
    uint8_t kind = bf_entry_kind(entry);
    if (kind == 0 || entry->offset > walker->data_bytes || span > walker->data_bytes - entry->offset) {
        return BF_OK;
    }
    if (span == 0) { /* no element: there may be no data to point to */
        out->status = BF_GOOD;
        return BF_OK;
    }
    const uint8_t *data = walker->data + entry->offset;
    if (!bf_kind_has_cell(kind)) {
        if (element_decode(data, entry, 0, &out->value)) {
            out->value = entry_is_scaled(entry) ? value_scale(entry, out->value) : out->value;
            out->status = BF_GOOD;
        }
        return BF_OK;
    }
    size_t length = kind == BF_KIND_TEXT ? text_length(data, entry) : bf_entry_bytes(entry);
    if (length > size) {
        return BF_E_SPACE;
    }
    if (kind == BF_KIND_TEXT) {
        bf_reorder(bytes, data, length, 1, entry->order);
    } else if (!array_decode(data, entry, bytes)) {
        return BF_OK;
    }
    out->length = (uint32_t)length;
    out->status = BF_GOOD;
    return BF_OK;
}

int32_t bf_gather(const uint8_t *body, size_t length, uint8_t walk, const bf_decode *entries, size_t count, uint64_t *values,
                  uint32_t *statuses, uint8_t *bytes, size_t bytes_size)
{
    if (walk > BF_WALK_CIP || (body == NULL && length > 0) || (entries == NULL && count > 0)) {
        return BF_E_ARGUMENT;
    }
    bf_walker walker;
    bf_walker_start(&walker, body, length, walk);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        bf_decoded decoded;
        int32_t status = bf_entry_decode(&walker, &entries[i], &decoded, bytes == NULL ? NULL : bytes + used, bytes_size - used);
        if (status != BF_OK) {
            return status;
        }
        values[i] = decoded.value;
        statuses[i] = decoded.status;
        if (bf_kind_has_cell(bf_entry_kind(&entries[i])) && decoded.status == BF_GOOD) {
            values[i] = (uint64_t)used << 32 | decoded.length;
            used += decoded.length;
        }
    }
    return BF_OK;
}
