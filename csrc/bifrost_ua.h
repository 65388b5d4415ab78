/* bifrost_ua.h: the C API of the OPC UA module.
 *
 * One C thread owns open62541: it makes the server, runs it and deletes it, and no other thread ever calls the library. The functions here
 * may be called from any thread; they talk to that one. Unlike the native core this module allocates, because the library does; every byte
 * is counted (ua_memory.h) and has a ceiling. The part between the marks is cut out for cffi; the rest of the world sees nothing else. */
#ifndef BIFROST_UA_H
#define BIFROST_UA_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin */
/* What a server is started with. */
typedef struct {
    const char *url;        /* where to listen, as opc.tcp://HOST:PORT; port 0 takes a free one. Copied at start. */
    uint8_t self_signed;    /* 1: make a certificate that lives as long as the server, and offer every security policy; 0: none only */
    uint16_t sessions_max;  /* 1 to 1000 */
} bf_ua_config;

/* Bytes that open62541, mbedTLS and our glue hold, over all servers of the process; each block's header is counted too. */
typedef struct {
    uint64_t live_bytes;
    uint64_t peak_bytes;
    uint64_t limit_bytes;   /* an allocation beyond it is refused; UINT64_MAX if there is none */
    uint64_t refused_count; /* allocations refused, by the ceiling or by the system */
    uint64_t foreign_count; /* blocks freed here that were not allocated here: 0, or the library has a way around the count */
} bf_ua_memory;

typedef struct bf_ua_server bf_ua_server;

/* Starts a server in a thread of its own and waits until it listens or has failed.
 * Returns an OPC UA StatusCode; *server is written only if it is Good (0). */
uint32_t bf_ua_server_start(const bf_ua_config *config, bf_ua_server **server);

/* Returns the TCP port the server listens on. */
uint16_t bf_ua_server_port(const bf_ua_server *server);

/* Stops the server, waits for its thread (up to 0.1 s when idle) and frees everything. */
void bf_ua_server_stop(bf_ua_server *server);

/* Reads the counters of memory. */
void bf_ua_memory_read(bf_ua_memory *memory);

/* Sets the ceiling in bytes; UINT64_MAX takes it away. What is already held is kept. */
void bf_ua_memory_limit(uint64_t limit_bytes);

/* Returns the version of open62541, such as "1.4.18"; static text. */
const char *bf_ua_version(void);
/* cdef: end */

#endif
