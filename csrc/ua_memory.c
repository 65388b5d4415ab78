/* ua_memory.c: the counting allocator under open62541, mbedTLS and our glue.
 *
 * Each block has a header: its size, and a mark by which a block of somebody else is noticed instead of spoiling the count. The counters
 * are atomics of the process, because mbedTLS has one hook for the process and blocks may cross threads.
 *
 * A service makes two or three small blocks for each node it is asked about, and frees them all when it has answered. glibc merges thousands of
 * neighbours then, and cuts them apart again for the next request: half the time of a Read. So a server's thread keeps small blocks that it
 * frees, up to KEPT_BYTES_MAX, and takes its next ones from there. A kept block is not counted as live, and stays with its thread. */
#define BF_UA_MEMORY_PLAIN
#include "ua_memory.h"

#include <assert.h>
#include <mbedtls/platform.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "bifrost_ua.h"

#define BLOCK_MARK 0xB1F0571Du

/* As large as the strictest alignment, so that what follows it is aligned for any type. */
typedef union {
    struct {
        size_t bytes; /* of the caller's part */
        uint32_t mark;
    } block;
    max_align_t align;
} block_header;

/* The only state of the process in our C: mbedTLS offers no argument to carry it in. */
static _Atomic uint64_t live_bytes, peak_bytes, refused_count, foreign_count;
static _Atomic uint64_t limit_bytes = UINT64_MAX;
static _Atomic uint64_t calls_count;
static _Atomic uint64_t fail_from, fail_at, fail_every; /* bf_ua_memory_fail */

/* ---- small blocks that are kept -------------------------------------------------------------------------------------------------- */

#define KEPT_BYTES_MAX ((size_t)256 << 10) /* of one thread: what a Read of 1,000 values frees, three times; bifrost/opcua/memory.py counts it */
#define KEPT_CLASSES 12 /* up to 184 bytes for the caller: a notification */
#define CLASS_BYTES(class) (16 * (class) + 8) /* with the header; on 64 bits glibc has no smaller difference */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KEEPS_BLOCKS false /* or a use after free would find a block that is in use */
#else
#define KEEPS_BLOCKS true
#endif

typedef struct kept_block {
    struct kept_block *next;
} kept_block;

static _Thread_local struct {
    size_t bytes_max; /* 0: this thread keeps none */
    size_t bytes;
    kept_block *first[KEPT_CLASSES + 1];
} kept;

/* Number of the class of blocks of `bytes`, with the header; they may be too large for any. */
static size_t class_of(size_t bytes) {
    return (bytes + 7) / 16;
}

/* A block of `bytes`, with room for the largest of its class. */
static void *block_take(size_t bytes) {
    size_t class = class_of(bytes);
    if (class > KEPT_CLASSES) {
        return malloc(bytes);
    }
    kept_block *block = kept.first[class];
    if (block == NULL) {
        return malloc(CLASS_BYTES(class));
    }
    kept.first[class] = block->next;
    assert(kept.bytes >= CLASS_BYTES(class));
    kept.bytes -= CLASS_BYTES(class);
    return block;
}

static void block_give(void *block, size_t bytes) {
    size_t class = class_of(bytes);
    if (class > KEPT_CLASSES || kept.bytes + CLASS_BYTES(class) > kept.bytes_max) {
        free(block);
        return;
    }
    kept_block *given = block;
    given->next = kept.first[class];
    kept.first[class] = given;
    kept.bytes += CLASS_BYTES(class);
}

void bf_ua_memory_keep(void) {
    kept.bytes_max = KEEPS_BLOCKS ? KEPT_BYTES_MAX : 0;
}

void bf_ua_memory_keep_end(void) {
    kept.bytes_max = 0;
    for (size_t class = 0; class <= KEPT_CLASSES; class++) {
        while (kept.first[class] != NULL) { /* KEPT_BYTES_MAX bounds them */
            kept_block *block = kept.first[class];
            kept.first[class] = block->next;
            free(block);
        }
    }
    kept.bytes = 0;
}

/* ---- counting --------------------------------------------------------------------------------------------------------------------- */

/* Whether a test wants this call to fail. */
static bool is_to_fail(uint64_t call) {
    uint64_t at = atomic_load_explicit(&fail_at, memory_order_relaxed);
    uint64_t every = atomic_load_explicit(&fail_every, memory_order_relaxed);
    if (at == 0 && every == 0) {
        return false;
    }
    uint64_t number = call - atomic_load(&fail_from);
    return number == at || (every != 0 && (call * 0x9E3779B97F4A7C15u >> 33) % every == 0); /* a cheap hash: never the same again */
}

/* Counts `bytes` in if the ceiling allows it. */
static bool take(uint64_t bytes) {
    uint64_t live = atomic_fetch_add(&live_bytes, bytes) + bytes;
    if (live > atomic_load(&limit_bytes)) {
        atomic_fetch_sub(&live_bytes, bytes);
        return false;
    }
    uint64_t peak = atomic_load(&peak_bytes);
    while (live > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, live)) { /* each turn another thread raised it */
    }
    return true;
}

void *bf_ua_malloc(size_t bytes) {
    block_header *header = NULL;
    uint64_t call = atomic_fetch_add_explicit(&calls_count, 1, memory_order_relaxed) + 1;
    if (bytes <= SIZE_MAX - sizeof *header && !is_to_fail(call) && take(bytes + sizeof *header)) {
        header = block_take(bytes + sizeof *header);
        if (header == NULL) {
            atomic_fetch_sub(&live_bytes, bytes + sizeof *header);
        }
    }
    if (header == NULL) {
        atomic_fetch_add(&refused_count, 1);
        return NULL;
    }
    header->block.bytes = bytes;
    header->block.mark = BLOCK_MARK;
    return header + 1;
}

void *bf_ua_calloc(size_t count, size_t bytes) {
    if (bytes != 0 && count > SIZE_MAX / bytes) {
        atomic_fetch_add(&refused_count, 1);
        return NULL;
    }
    void *block = bf_ua_malloc(count * bytes);
    return block == NULL ? NULL : memset(block, 0, count * bytes);
}

void bf_ua_free(void *block) {
    if (block == NULL) {
        return;
    }
    block_header *header = (block_header *)block - 1;
    if (header->block.mark != BLOCK_MARK) {
        atomic_fetch_add(&foreign_count, 1);
        free(block);
        return;
    }
    uint64_t bytes = header->block.bytes + sizeof *header;
    assert(atomic_load(&live_bytes) >= bytes);
    header->block.mark = 0; /* a second free is then foreign, and libc reports it */
    atomic_fetch_sub(&live_bytes, bytes);
    block_give(header, bytes);
}

void *bf_ua_realloc(void *block, size_t bytes) {
    if (block == NULL) {
        return bf_ua_malloc(bytes);
    }
    if (bytes == 0) {
        bf_ua_free(block);
        return NULL;
    }
    const block_header *header = (const block_header *)block - 1;
    assert(header->block.mark == BLOCK_MARK);
    void *moved = bf_ua_malloc(bytes); /* both count for a moment: at the ceiling, growing is refused early */
    if (moved != NULL) {
        memcpy(moved, block, header->block.bytes < bytes ? header->block.bytes : bytes);
        bf_ua_free(block);
    }
    return moved;
}

void bf_ua_memory_hook(void) {
    int refused = mbedtls_platform_set_calloc_free(bf_ua_calloc, bf_ua_free);
    assert(refused == 0);
    (void)refused;
}

void bf_ua_memory_read(bf_ua_memory *memory) {
    assert(memory != NULL);
    memory->live_bytes = atomic_load(&live_bytes);
    memory->peak_bytes = atomic_load(&peak_bytes);
    memory->limit_bytes = atomic_load(&limit_bytes);
    memory->refused_count = atomic_load(&refused_count);
    memory->foreign_count = atomic_load(&foreign_count);
    memory->calls_count = atomic_load(&calls_count);
}

void bf_ua_memory_limit(uint64_t limit) {
    atomic_store(&limit_bytes, limit);
}

void bf_ua_memory_fail(uint64_t at, uint64_t every) {
    atomic_store(&fail_from, atomic_load(&calls_count));
    atomic_store(&fail_at, at);
    atomic_store(&fail_every, every);
}
