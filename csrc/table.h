/* table.h: what the files of the codec and the table share, and nobody else sees.
 *
 * The idea: a slot is a sequence lock. Its one writer makes the sequence odd, writes, and makes it even again; a reader copies and looks whether
 * the sequence is still the same. Every shared word is an atomic of the machine's own width, so a torn copy is noticed and never undefined.
 */
#ifndef BIFROST_TABLE_H
#define BIFROST_TABLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "bifrost.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "layouts are those of the machine: little-endian");
_Static_assert(__atomic_always_lock_free(sizeof(uint64_t), 0), "readers of the table never wait for a lock");
_Static_assert(__atomic_always_lock_free(sizeof(uint32_t), 0), "readers of the table never wait for a lock");
_Static_assert(sizeof(bf_decode) == 32 && sizeof(bf_slot) == 32 && sizeof(bf_change) == 32, "no padding");

#define BF_WORD_BYTES 8u           /* cells and rings are made of 64-bit words */
#define BF_STATUS_SEVERITY 0xC0000000u /* OPC UA Part 4, 7.39.1: 00 good, 01 uncertain, 10 bad */
#define BF_STATUS_BAD 0x80000000u

static inline bool bf_status_is_bad(uint32_t status)
{
    return (status & BF_STATUS_BAD) != 0;
}

static inline bool bf_status_is_good(uint32_t status)
{
    return (status & BF_STATUS_SEVERITY) == 0;
}

static inline size_t bf_words(size_t bytes)
{
    return bytes / BF_WORD_BYTES + (bytes % BF_WORD_BYTES != 0);
}

/* ---- decode.c ------------------------------------------------------------------------------------------------------------------- */

/* Reads the items of one body. An item is found by number; numbers that rise are found fastest. */
typedef struct {
    const uint8_t *body;
    size_t length;
    uint8_t walk;
    uint32_t status;     /* of the item that was found: good, or what its tags get */
    const uint8_t *data; /* of the item that was found */
    size_t data_bytes;
    size_t next;        /* S7: where the item after the last one that was read begins */
    uint32_t next_item; /* S7: its number */
    bool found;         /* S7: the last one that was read is the one that was asked for */
} bf_walker;

/* One decoded value. TEXT and ARRAY: `length` bytes were written and `value` is 0. */
typedef struct {
    uint64_t value;
    uint32_t status;
    uint32_t length;
} bf_decoded;

/* Copies `bytes` bytes of elements of `width` bytes (1, 2, 4, 8) from the wire to little-endian. With 1 and SWAP_BYTES it reads up to the next
 * even byte. The two do not overlap. */
void bf_reorder(uint8_t *target, const uint8_t *source, size_t bytes, size_t width, uint8_t order);
/* Bytes of an element on the wire; 0 for BOOL and for what is no type. */
size_t bf_type_bytes(uint8_t type);
/* BF_KIND_… of an entry's value; 0 when its type is none. */
uint8_t bf_entry_kind(const bf_decode *entry);
/* The most bytes that an entry of TEXT or ARRAY can give; 0 for scalars. */
size_t bf_entry_bytes(const bf_decode *entry);
void bf_walker_start(bf_walker *walker, const uint8_t *body, size_t length, uint8_t walk);
/* BF_OK, or BF_E_SPACE when a TEXT or ARRAY is longer than `size`. */
int32_t bf_entry_decode(bf_walker *walker, const bf_decode *entry, bf_decoded *out, uint8_t *bytes, size_t size);

/* ---- table.c and ring.c ----------------------------------------------------------------------------------------------------------- */

/* bf_slot as its writer and readers share it. */
typedef struct {
    _Atomic uint64_t value;
    _Atomic uint64_t source_time;
    _Atomic uint64_t server_time;
    _Atomic uint32_t status;
    _Atomic uint32_t sequence;
} bf_slot_words;
_Static_assert(sizeof(bf_slot_words) == sizeof(bf_slot), "the same layout");

/* What a tag is, and what was last reported of it. Only the tag's writer touches it after define. The last reported status is the slot's:
 * every change of status is reported; and the last reported bytes are the cell's: every change of bytes is reported. */
typedef struct {
    uint64_t reported_value;
    int64_t reported_ns; /* monotonic */
    uint64_t reports;    /* changes of this tag appended so far; written and read while `append` is held */
    _Atomic double deadband; /* these two can be changed while the row is written */
    _Atomic int64_t max_interval_ns;
    uint32_t cell_first; /* word */
    uint32_t cell_bytes;
    uint8_t kind; /* 0: not defined */
    uint8_t unused[7];
} bf_row;

/* Somebody who sleeps until there are changes. A writer that finds it asleep wakes it, once. */
typedef struct {
    _Atomic int32_t fd; /* eventfd; below 0: no watcher */
    _Atomic uint32_t awake;
} bf_watcher;

struct bf_table {
    bf_slot_words *slots;
    bf_row *rows;
    _Atomic uint64_t *cells;
    _Atomic uint64_t *changes;       /* BF_CHANGE_WORDS each */
    _Atomic uint64_t *bodies;        /* records: length in bytes, then the bytes, padded to words */
    _Atomic uint64_t head;           /* changes below it are whole */
    _Atomic uint64_t reserved;       /* changes below it may be being written */
    _Atomic uint64_t bodies_reserved; /* in bytes */
    pthread_mutex_t append;          /* held while changes are appended */
    bf_watcher watchers[BF_WATCHERS_MAX];
    _Atomic uint32_t waking;         /* writers that may be using a watcher's fd */
    uint32_t tags_count;
    uint32_t changes_count; /* a power of two */
    uint32_t bodies_bytes;  /* a power of two, or 0 */
    uint32_t cell_words;
    uint32_t cell_words_used;
};

#define BF_CHANGE_WORDS 4u

/* Writes that share their times and flags and at most one lock. */
typedef struct {
    bf_table *table;
    int64_t source_time;
    int64_t server_time;
    int64_t now_ns;
    uint32_t flags;
    bool locked;
} bf_batch;

/* Appends what the slot of `tag` says now; locks the ring at the first change of the batch. The caller is the tag's writer. */
void bf_batch_report(bf_batch *batch, uint32_t tag);
/* Makes what was reported visible, all at once, unlocks the ring, and wakes who watches. */
void bf_batch_end(bf_batch *batch);

/* ---- table_api.c ------------------------------------------------------------------------------------------------------------------ */

void bf_watchers_init(bf_table *table);
/* Wakes the watchers that sleep; the caller holds no lock. */
void bf_watchers_wake(bf_table *table);

static inline bool bf_kind_has_cell(uint8_t kind)
{
    return kind == BF_KIND_TEXT || kind == BF_KIND_ARRAY;
}

#endif
