/* ua_glue.h: what the files of the unit ua_unit.c share, and nobody else sees.
 *
 * Everything here belongs to the server's thread, but for struct bf_ua_channel, which is what the thread and the rest of the process say to each
 * other. The library reaches us through the `context` of its configuration and of its node store; both are the bf_ua_server.
 */
#ifndef BIFROST_UA_GLUE_H
#define BIFROST_UA_GLUE_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "bifrost.h"
#include "bifrost_ua.h"

_Static_assert(sizeof(bf_ua_node) == 40 && sizeof(bf_ua_detail) == 32, "no padding");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are handed to the library as they lie in a cell");

#define TAGS_NAMESPACE 2 /* urn:bifrost:tags; CONTRACT, OPC UA */
#define ID_BYTES_MAX 1000 /* four names of 64 characters, and the name of a property, with room */
#define POOL_NODES 32 /* nodes in use at once: a browse holds three, a search along inverse references one a level and we have five */
#define STATUS_OVERFLOW (UA_STATUSCODE_INFOTYPE_DATAVALUE | UA_STATUSCODE_INFOBITS_OVERFLOW) /* OPC 10000-4, 7.39.1 */
#define NANOSECONDS_TO_DATETIME(ns) ((UA_DateTime)((ns) / 100) + UA_DATETIME_UNIX_EPOCH)

/* ---- the space (ua_space.c) ----------------------------------------------------------------------------------------------------- */

/* The space as it was given, and what is derived from it: ids and targets by number of the node, so that nothing is made for a browse. */
typedef struct {
    bf_ua_node *nodes;
    bf_ua_detail *details;
    char *texts;
    UA_NodeId *ids;              /* their strings point into texts */
    UA_ReferenceTarget *targets; /* children are neighbours: those of a folder are the part from its first child on */
    uint32_t *hash;              /* node + 1 by hash of the id; 0: free */
    uint32_t hash_mask;
    uint32_t nodes_count;
    uint32_t details_count;
    uint32_t texts_bytes;
    uint32_t rows_count;
} ua_space;

typedef enum { FOUND_NOTHING, FOUND_NODE, FOUND_RANGE, FOUND_UNITS } ua_found_kind;

/* What an id names: a node, or one of its properties. */
typedef struct {
    ua_found_kind kind;
    uint32_t node;
} ua_found;

/* ---- nodes on demand (ua_nodestore.c) ------------------------------------------------------------------------------------------- */

typedef struct ua_pooled {
    UA_Node node; /* first: the library gives back this address */
    struct ua_pooled *next;
    UA_LocalizedTextListEntry name;
    UA_LocalizedTextListEntry description;
    UA_NodeReferenceKind kinds[3];
    UA_ReferenceTarget targets[4];
    UA_NodeId property_ids[2];
    UA_UInt32 dimension;
    char property_texts[2][ID_BYTES_MAX + 24];
} ua_pooled;

/* ---- values (ua_image.c) -------------------------------------------------------------------------------------------------------- */

#define NO_NODE 0x1FFFFFFFu

/* Bytes of a text (UTF-8) or array. */
typedef struct {
    uint32_t length;
    uint32_t size;
    uint8_t bytes[];
} ua_cell;

/* The server's own image of a row. It is filled from the ring only, so that what clients see has the order of the ring. 32 bytes. */
typedef struct {
    union {
        uint64_t bits;
        ua_cell *cell; /* TEXT and ARRAY */
    } value;
    int64_t source_time;
    UA_MonitoredItem *watch; /* items that get every change of this row */
    uint32_t status;
    uint32_t node : 29;   /* NO_NODE: the space does not name this row */
    uint32_t lost : 1;    /* changes of it were overwritten before they were read */
    uint32_t ahead : 1;   /* read from its slot: changes in the ring may be older */
    uint32_t changed : 1; /* by that; items are to be told */
} ua_row;
_Static_assert(sizeof(void *) < 8 || sizeof(ua_row) == 32, "no padding");

#define CHANGES_PER_READ 256
typedef struct {
    ua_row *rows;
    uint32_t rows_count;
    uint32_t lost_count;
    uint32_t ahead_count;
    bool starved; /* a sample was lost for want of memory: not to be tried again at once */
    uint64_t position; /* of the cursor */
    int32_t watcher;
    uint8_t *scratch;  /* holds the longest cell */
    uint32_t scratch_bytes;
} ua_image;

/* ---- parked writes (ua_write.c) ------------------------------------------------------------------------------------------------- */

/* A Write request some of whose values are on their way to devices. */
typedef struct ua_parked {
    LIST_ENTRY(ua_parked) link;
    UA_NodeId session_id;
    UA_UInt32 channel_id;
    UA_UInt32 request_id;
    UA_UInt32 request_handle;
    UA_StatusCode status; /* of the whole: Good, or why it was cancelled */
    UA_StatusCode *results;
    size_t results_count;
    size_t open_count;
} ua_parked;

/* One such value; its token is generation << 32 | index. */
typedef struct {
    ua_parked *request; /* NULL: free */
    size_t result;
    UA_DateTime deadline; /* monotonic */
    uint32_t generation;
    uint32_t next; /* free ones, by index */
} ua_parked_value;

/* ---- users (ua_users.c) --------------------------------------------------------------------------------------------------------- */

#define USER_NAME_BYTES 64
typedef struct {
    char name[USER_NAME_BYTES + 1];
    uint8_t salt[BF_UA_SALT_BYTES];
    uint8_t hash[BF_UA_HASH_BYTES];
    uint8_t remembered[BF_UA_HASH_BYTES]; /* keyed digest of the password that was right last; see has_remembered */
    uint32_t iterations;
    uint32_t role;
    bool has_remembered;
} ua_user;

#define ENDED_MAX 32

/* A subscription whose life was over before its client was told. */
typedef struct {
    uint32_t subscription;
    uint32_t sequence;
} ua_ended;

/* What a session is to us: its handle in the library. */
typedef struct {
    ua_ended ended[ENDED_MAX]; /* the first ended first; of more, the client learns when it asks for them */
    uint32_t ended_count;
    uint64_t number;
    uint32_t role;
    char user[USER_NAME_BYTES + 1];
    char client[sizeof((bf_ua_event *)0)->client];
} ua_login;

/* ---- what crosses the border of the thread (ua_channel.c) ----------------------------------------------------------------------- */

typedef struct {
    bf_ua_event event;
    uint8_t *bytes;
} ua_event_slot;

typedef struct {
    uint64_t token;
    uint32_t status;
} ua_done;

typedef struct ua_call ua_call;

typedef struct {
    pthread_mutex_t lock; /* held for copies only */
    pthread_cond_t called;
    ua_event_slot *events; /* a ring */
    ua_done *dones;        /* a ring */
    ua_call *call;         /* what the thread is to do for somebody who waits */
    uint32_t events_size;
    uint32_t events_first;
    uint32_t events_count;
    uint32_t others_count; /* of them, those that are no writes */
    uint32_t dones_size;
    uint32_t dones_first;
    uint32_t dones_count;
    int events_fd;
    int wake_fd;
    _Atomic bool stop;
} ua_channel;

typedef struct ua_unsent ua_unsent;

/* Something done in the server's thread while its caller waits. */
struct ua_call {
    UA_StatusCode (*function)(struct bf_ua_server *server, void *argument);
    void *argument;
    UA_StatusCode status;
    bool done;
};

#define STATS_COUNT (sizeof(bf_ua_stats) / sizeof(uint64_t))
#define LIMITS_KINDS 11 /* BF_UA_LIMIT_… and 0 */

/* ---- the server ----------------------------------------------------------------------------------------------------------------- */

struct bf_ua_server {
    pthread_t thread;
    sem_t started;
    UA_StatusCode status; /* of the start; written before `started` is posted */
    uint16_t port;        /* likewise */
    ua_channel channel;
    _Atomic uint64_t stats[STATS_COUNT]; /* a bf_ua_stats, as the thread left it */

    bf_ua_config config;    /* texts and buffers are the owned ones below */
    char *texts;            /* one block */
    const bf_table_api *api;
    bf_table *table;

    UA_ServerConfig library_config; /* until the library takes it; too large for a stack frame */
    UA_Server *library;
    UA_Nodestore base;              /* holds namespace 0 and whatever is not ours */
    UA_UInt64 tick_id;
    UA_RegisteredFD wake;
    UA_Logger logger; /* silent; the event loop has no other member by which its sources could find us */

    ua_space space;
    ua_pooled pool[POOL_NODES];
    ua_pooled *pool_free;
    UA_UInt32 range_hash; /* of the browse names of properties */
    UA_UInt32 units_hash;

    ua_image image;
    bf_change changes[CHANGES_PER_READ]; /* as they come out of the ring */
    uint64_t notifications_granted;
    bool creating;        /* inside CreateMonitoredItems … */
    bool modifying;       /* … or ModifyMonitoredItems: values are read for their type */
    bool sample_expected; /* … and the next read is the first sample */

    LIST_HEAD(, ua_parked) parked;
    ua_parked *parking; /* made by the Write that is being served; its answer is not to be sent now */
    ua_parked_value *parked_values;
    uint32_t parked_free;

    ua_user *users;
    uint32_t users_count;
    uint32_t anonymous;
    uint8_t memory_key[BF_UA_HASH_BYTES]; /* of the remembered passwords; made at start, kept nowhere else */
    uint64_t sessions_number;
    UA_DateTime failures_since;
    uint32_t failures_count;
    bool login_told; /* the failure of the login that is being served has had its event */

    LIST_HEAD(, ua_unsent) unsent; /* ua_sending.c */

    UA_CertificateVerification folders; /* the library's own check, behind ours */
    UA_DateTime limits_told[LIMITS_KINDS];
    uint64_t refused_told; /* allocations that were refused, and told of */
    bf_ua_stats counts;
};

#endif
