/* heap.c: what the process's heap does with memory that was freed.
 *
 * The idea: a gateway allocates a lot while it starts or reloads (a configuration as text, plans, an address space, each beside its successor) and
 * little afterwards. What was freed then should go back to the system. glibc, left alone, keeps it:
 * - It raises the size from which a block is a mapping of its own to that of the largest one freed, up to 32 MiB. Later columns of megabytes then
 *   lie between small blocks on the heap and leave holes when they are freed. A size that was set stays.
 * - Each thread gets a heap of its own, with its own holes. Ours allocate little, and hardly at the same time: one heap does.
 * Measured with 100,000 tags and OPC UA: 9 MB of 114. Where the C library is another one, nothing of it is needed, and nothing is done.
 */
#include "bifrost.h"

#ifdef __GLIBC__
#include <malloc.h>

#define MAPPED_BYTES_MIN (128 * 1024)      /* glibc's own value at the start */
#define FREE_AT_END_BYTES_MAX (256 * 1024) /* or an OPC UA Read of 1,000 values would grow and shrink the heap each time */

int32_t bf_heap_tune(void) {
    int done = mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES_MIN) & mallopt(M_TRIM_THRESHOLD, FREE_AT_END_BYTES_MAX) & mallopt(M_ARENA_MAX, 1);
    return done == 1 ? BF_OK : BF_E_SYSTEM;
}

#else

int32_t bf_heap_tune(void) {
    return BF_OK;
}

#endif
