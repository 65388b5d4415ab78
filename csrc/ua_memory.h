/* ua_memory.h: every allocation of the OPC UA module is counted.
 *
 * A file that includes this header allocates through our four functions: open62541 (it is included in a file of ours, so that the names
 * are changed for that unit alone) and our glue. mbedTLS gets them by its own hook. Blocks carry a header with their size, so that
 * what is counted in is counted out, and a ceiling holds over all of it. */
#ifndef BIFROST_UA_MEMORY_H
#define BIFROST_UA_MEMORY_H

/* Before the names are changed: the declarations of libc, with all their attributes. */
#include <stdlib.h>
#include <string.h>

void *bf_ua_malloc(size_t bytes);
void *bf_ua_calloc(size_t count, size_t bytes);
void *bf_ua_realloc(void *block, size_t bytes);
void bf_ua_free(void *block);

/* Makes mbedTLS allocate here too. Must come before any call to mbedTLS; calling it again changes nothing. */
void bf_ua_memory_hook(void);

/* From now on the calling thread keeps small blocks that it frees for its next allocations; until …_end, which must come before it ends. */
void bf_ua_memory_keep(void);
void bf_ua_memory_keep_end(void);

#ifndef BF_UA_MEMORY_PLAIN /* ua_memory.c itself needs the real ones */
#define malloc bf_ua_malloc
#define calloc bf_ua_calloc
#define realloc bf_ua_realloc
#define free bf_ua_free
#endif

#endif
