/* bifrost_ua.h: the C API of the OPC UA module.
 *
 * The idea: one C thread owns open62541. It makes the server, runs it and deletes it, and no other thread ever calls the library. The functions
 * here may be called from any thread; they talk to that one through two bounded rings, one each way, each with an eventfd. The address space is
 * not stored as nodes: it is a *space*, packed columns that Python compiles, from which nodes are made on demand. Values come from the change ring
 * of the tag table (module `_core`), reached through a table of function pointers (bf_table_api), since the two modules do not link to each other.
 * Unlike the native core this module allocates, because the library does; every byte is counted and has a ceiling with a reserve below it.
 * The part between the marks is cut out for cffi. A `uint32_t` status is an OPC UA StatusCode, 0 for Good. Times are UTC nanoseconds. */
#ifndef BIFROST_UA_H
#define BIFROST_UA_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin */
/* ---- the space ------------------------------------------------------------------------------------------------------------------ */

#define BF_UA_NONE 0xFFFFFFFF
#define BF_UA_FOLDER 1     /* kind: FolderType; a device, a group, `_Diagnostics`, `_Gateway`, the folder Bifrost itself */
#define BF_UA_TAG 2        /* a variable whose value is a row of the table; AnalogItemType where it has a range, else BaseDataVariableType */
#define BF_UA_DIAGNOSTIC 3 /* the same, but always BaseDataVariableType and never writable */
#define BF_UA_FLAG_ARRAY 1
#define BF_UA_FLAG_WRITABLE 2

/* One node; 40 bytes. Node 0 is the folder `Bifrost` under Objects. Children of a folder are neighbours and lie behind it. */
typedef struct {
    uint32_t id_offset;    /* string id in namespace 2, in the texts: UTF-8 without NUL, "boiler.steam.temperature", "boiler#Connected" */
    uint32_t parent;       /* node; of node 0: BF_UA_NONE */
    union {
        uint32_t first_child;        /* a folder's, if it has any: a node */
        uint32_t description_offset; /* a variable's, in the texts */
    };
    union {
        uint32_t child_count;
        uint32_t description_length; /* 0: none */
    };
    uint32_t row;          /* of the table, each row in one node at most; BF_UA_NONE for folders */
    uint32_t detail;       /* or BF_UA_NONE */
    uint32_t array_length; /* ARRAY: elements, 1 or more; else 0 */
    uint32_t period_ms;    /* MinimumSamplingInterval */
    uint16_t id_length;    /* 1 or more */
    uint16_t name_start;   /* the browse name is the id from this byte on, one byte at least */
    uint8_t kind;          /* BF_UA_FOLDER, … */
    uint8_t type;          /* BF_TYPE_… of the value as clients see it (scaled: FLOAT64; BCD: UINT16, UINT32); 0 for folders */
    uint8_t flags;         /* BF_UA_FLAG_… */
    uint8_t unused;
} bf_ua_node;

/* What few nodes have and many share: range and unit. 32 bytes. */
typedef struct {
    double low;
    double high;
    uint32_t unit_offset; /* display text of the unit, UTF-8 */
    uint32_t unit_length; /* 0: no EngineeringUnits */
    int32_t unit_id;      /* UNECE code as OPC 10000-8, 5.6.3.3 makes a number of it; -1: none */
    uint32_t has_range;   /* 1: low and high are its EURange */
} bf_ua_detail;

/* Copied (and counted) by bf_ua_server_start and bf_ua_space_swap; the caller's memory may go afterwards. */
typedef struct {
    const bf_ua_node *nodes;
    const bf_ua_detail *details;
    const char *texts;
    uint32_t nodes_count; /* 1 or more */
    uint32_t details_count;
    uint32_t texts_bytes;
    uint32_t rows_count;  /* rows of the table that nodes may name: 0 … rows_count - 1 */
} bf_ua_space;

/* ---- limits --------------------------------------------------------------------------------------------------------------------- */

/* Every field is 1 or more, but for reserve_bytes, which may be 0: nothing here is without a limit. What happens at it is in brackets.
 * notifications_max ≥ monitored_items_max; memory_bytes_max > reserve_bytes; buffered_bytes_max ≥ message_bytes_max;
 * connections, sessions and continuations ≤ 65,535. */
typedef struct {
    uint64_t memory_bytes_max;  /* ceiling over all servers of the process [start and single requests: BadOutOfMemory] */
    uint64_t reserve_bytes;     /* of it, kept for services [new items: BadOutOfMemory; queues take no more: oldest dropped, overflow bit] */
    uint32_t connections_max;   /* half-open ones included [the oldest without a session is closed for a new one, else the new one] */
    uint32_t sessions_max;                  /* [BadTooManySessions] */
    uint32_t subscriptions_max;             /* [BadTooManySubscriptions] */
    uint32_t subscriptions_per_session_max; /* [BadTooManySubscriptions] */
    uint32_t monitored_items_max;           /* of all sessions [BadTooManyMonitoredItems] */
    uint32_t queue_size_max;                /* of one item [revised] */
    uint32_t notifications_max;             /* sum of the queue sizes of all items [queue sizes are revised, to 1 at least] */
    uint32_t notifications_per_publish_max; /* [the rest comes with the next one] */
    uint32_t retransmissions_max;           /* of one session's subscriptions [the oldest is dropped] */
    uint32_t publish_requests_per_session_max; /* [the oldest: BadTooManyPublishRequests] */
    uint32_t message_bytes_max;             /* of a request or response, 8,192 or more [BadTcpMessageTooLarge] */
    uint32_t chunks_max;                    /* of a request [BadTcpMessageTooLarge] */
    uint32_t nodes_per_read_max;            /* this and the next seven: [BadTooManyOperations] */
    uint32_t nodes_per_write_max;
    uint32_t nodes_per_browse_max;
    uint32_t nodes_per_translate_max;
    uint32_t nodes_per_register_max;
    uint32_t nodes_per_method_call_max;
    uint32_t items_per_call_max;
    uint32_t references_per_node_max;       /* of one browse answer, 100 or more [the rest comes with BrowseNext] */
    uint32_t browse_continuations_max;      /* of one session [BadNoContinuationPoints] */
    uint32_t array_bytes_max;               /* of one written value [BadOutOfRange] */
    uint32_t publishing_interval_min_ms;    /* 1 or more [revised] */
    uint32_t session_timeout_max_ms;        /* [revised] */
    uint32_t lifetime_count_max;            /* 3 or more [revised] */
    uint32_t write_timeout_ms;              /* [the write: BadTimeout] */
    uint32_t writes_parked_max;             /* single values, of all sessions [the value: BadTooManyOperations] */
    uint32_t events_max;                    /* not yet taken, besides writes, which always fit [dropped and counted] */
    uint32_t rejected_certificates_max;     /* files in the rejected folder [the oldest is deleted] */
    uint32_t login_failures_per_minute_max; /* of all clients [BadUserAccessDenied without a look at the password] */
    uint32_t login_timeout_ms;              /* life of a session until it is activated [closed; sooner where another needs its place] */
    uint32_t login_bytes_max;               /* of requests not ended and answers not taken, of any connection [without login: closed] */
    uint32_t buffered_bytes_max;            /* of what is beyond that, in sum [who holds most is closed with BadTcpNotEnoughResources] */
} bf_ua_limits;

/* ---- configuration -------------------------------------------------------------------------------------------------------------- */

#define BF_UA_POLICY_NONE 1
#define BF_UA_POLICY_BASIC256SHA256 2
#define BF_UA_POLICY_AES128_SHA256_RSAOAEP 4
#define BF_UA_POLICY_AES256_SHA256_RSAPSS 8

#define BF_UA_ROLE_NONE 0 /* for `anonymous`: refused */
#define BF_UA_ROLE_READ 1
#define BF_UA_ROLE_WRITE 2 /* reads, and writes tags that are writable */

#define BF_UA_SALT_BYTES 16
#define BF_UA_HASH_BYTES 32

typedef struct {
    const char *name;    /* UTF-8, 1 to 64 bytes */
    uint8_t salt[16];
    uint8_t hash[32];    /* PBKDF2-HMAC-SHA256 of the password's UTF-8 */
    uint32_t iterations; /* 1 or more; each login that is not remembered costs this much of the server's thread */
    uint32_t role;       /* BF_UA_ROLE_… */
} bf_ua_user;

/* What a server is started with; everything is copied. */
typedef struct {
    const char *url;              /* where to listen, opc.tcp://HOST:PORT; port 0 takes a free one */
    const char *application_uri;  /* the URI of the certificate, where there is one */
    const char *application_name;
    const char *version;          /* of Bifrost, for BuildInfo */
    const uint8_t *certificate;   /* DER; NULL: no secure policy is possible */
    size_t certificate_bytes;
    const uint8_t *key;           /* DER, unencrypted PKCS#1 or PKCS#8 */
    size_t key_bytes;
    const char *trusted_folder;   /* these four are read again at each handshake; needed with a certificate */
    const char *issuers_folder;
    const char *revoked_folder;
    const char *rejected_folder;
    const bf_ua_user *users;
    uint32_t users_count;
    uint32_t policies;            /* BF_UA_POLICY_…, one at least; all but NONE with Sign and with SignAndEncrypt */
    uint32_t anonymous;           /* BF_UA_ROLE_… of clients without a user */
    const bf_ua_space *space;
    const void *table;            /* bf_table * of `_core`; outlives the server */
    const void *table_api;        /* const bf_table_api * of `_core` */
    bf_ua_limits limits;
} bf_ua_config;

typedef struct bf_ua_server bf_ua_server;

/* Starts a server in a thread of its own and waits until it listens or has failed. *server is written only if Good is returned.
 * BadInvalidArgument: something in `config` is outside its stated range; BadCertificateInvalid, BadCertificateUriInvalid: of the own
 * certificate; BadSecurityChecksFailed: key and certificate do not fit, or a folder is missing; BadCommunicationError: can't listen there. */
uint32_t bf_ua_server_start(const bf_ua_config *config, bf_ua_server **server);

/* TCP port the server listens on. */
uint16_t bf_ua_server_port(const bf_ua_server *server);

/* Answers parked writes with BadShutdown, closes sessions, waits for the thread and frees everything. Waits milliseconds. */
void bf_ua_server_stop(bf_ua_server *server);

/* Makes a self-signed certificate and its key (RSA, 2048 bits), both DER, for `bf_ua_config`. Takes up to seconds, in the caller's thread.
 * `subject`: common name; `uri`: ApplicationUri (OPC 10000-6, 6.2.2); `host`: DNS name; each up to 255 bytes. The two sizes are those of the
 * caller's memory and become what was written; 4096 bytes each are enough. BadOutOfRange: they are not. */
uint32_t bf_ua_certificate_make(const char *subject, const char *uri, const char *host, uint16_t days, uint8_t *certificate,
                                size_t *certificate_bytes, uint8_t *key, size_t *key_bytes);

/* ---- commands: Python → server -------------------------------------------------------------------------------------------------- */

/* The device's answer to the write of BF_UA_EVENT_WRITE `token`. Unknown tokens (timed out, client gone) are ignored. Never fails, never waits. */
void bf_ua_write_done(bf_ua_server *server, uint64_t token, uint32_t status);

/* Replaces the space. Nodes are the same if their ids are: items on them go on (from the node's new row, if that changed); items on ids that are
 * gone get BadNodeIdUnknown, and go on when a later space has the id again; so do, at once, items on ids whose type or kind changed. Clients
 * are told by a GeneralModelChangeEvent. A row that no node of the new space names is free for reuse when this returns. Waits for the server's
 * thread, milliseconds. BadOutOfMemory, BadInvalidArgument: the old one stays. */
uint32_t bf_ua_space_swap(bf_ua_server *server, const bf_ua_space *space);

/* Replaces users and role of anonymous clients; sessions that are open stay. Waits as above. */
uint32_t bf_ua_users_set(bf_ua_server *server, const bf_ua_user *users, uint32_t users_count, uint32_t anonymous);

/* ---- events: server → Python ---------------------------------------------------------------------------------------------------- */

#define BF_UA_EVENT_WRITE 1                /* a client wants `row` to become the value; answer it with bf_ua_write_done(token) */
#define BF_UA_EVENT_WRITE_ABANDONED 2      /* nobody waits for `token` any more; status: BadTimeout, BadRequestCancelledByClient, BadSessionClosed,
                                              BadSecureChannelClosed, BadShutdown */
#define BF_UA_EVENT_WRITE_REFUSED 3        /* a write to `row` was refused with `status` before it came to the device; for the audit log */
#define BF_UA_EVENT_SESSION_OPENED 4       /* a user was activated on session `token` */
#define BF_UA_EVENT_SESSION_CLOSED 5       /* session `token` */
#define BF_UA_EVENT_LOGIN_FAILED 6         /* status says why */
#define BF_UA_EVENT_CERTIFICATE_REJECTED 7 /* client: subject of the certificate; user: SHA-1 thumbprint in hex; status: why */
#define BF_UA_EVENT_LIMIT_REACHED 8        /* row: BF_UA_LIMIT_…; once a second for each at most */

#define BF_UA_LIMIT_MEMORY 1
#define BF_UA_LIMIT_CONNECTIONS 2
#define BF_UA_LIMIT_SESSIONS 3
#define BF_UA_LIMIT_SUBSCRIPTIONS 4
#define BF_UA_LIMIT_MONITORED_ITEMS 5
#define BF_UA_LIMIT_NOTIFICATIONS 6
#define BF_UA_LIMIT_WRITES 7
#define BF_UA_LIMIT_LOGIN_FAILURES 8
#define BF_UA_LIMIT_LOGIN_BYTES 9
#define BF_UA_LIMIT_BUFFERED_BYTES 10

#define BF_UA_WRITE_HAS_STATUS 1 /* the client sent these; they are told, not used */
#define BF_UA_WRITE_HAS_SOURCE_TIME 2

/* One event. Texts end with NUL and are cut if too long. */
typedef struct {
    uint64_t token;       /* of a write; of a session: a number of its own */
    uint64_t value;       /* WRITE of a scalar: 64 bits as in a slot (BOOL 0/1, INT and UINT as (u)int64, FLOAT32 and FLOAT64 as float64 bits) */
    int64_t source_time;  /* WRITE, with HAS_SOURCE_TIME */
    int64_t time;         /* when it happened */
    uint32_t kind;        /* BF_UA_EVENT_… */
    uint32_t row;
    uint32_t status;      /* WRITE: the client's, with HAS_STATUS; else the reason */
    uint32_t flags;       /* BF_UA_WRITE_… */
    uint32_t bytes_count; /* WRITE of a text (UTF-8) or array (little-endian elements as in a cell): bytes handed out beside this */
    uint32_t type;        /* WRITE: BF_TYPE_… of the value or its elements */
    char user[72];        /* "" for anonymous */
    char client[184];     /* address, or application URI */
} bf_ua_event;

/* Readable (eventfd) while events wait. Belongs to the server. */
int bf_ua_events_fd(const bf_ua_server *server);

/* Takes one event. Returns 1, or 0 when there is none. `bytes` has room for limits.array_bytes_max. */
int32_t bf_ua_event_take(bf_ua_server *server, bf_ua_event *event, uint8_t *bytes, size_t size);

/* ---- what it did and holds ------------------------------------------------------------------------------------------------------ */

typedef struct {
    uint64_t connections;  /* now; this and the next six */
    uint64_t sessions;
    uint64_t subscriptions;
    uint64_t monitored_items;
    uint64_t items_pushed; /* of them, reported by exception; the rest is sampled slower or is not ours */
    uint64_t notifications_granted; /* sum of queue sizes */
    uint64_t writes_parked;
    uint64_t changes;      /* taken from the ring; this and the rest count from the start */
    uint64_t changes_missed; /* overwritten before the server read them: overflow bits were set */
    uint64_t samples;      /* handed to items */
    uint64_t overflows;    /* samples that pushed an older one out of a full queue */
    uint64_t samples_lost; /* for want of memory */
    uint64_t writes;
    uint64_t writes_refused; /* before they came to the device */
    uint64_t writes_timed_out;
    uint64_t sessions_opened;
    uint64_t logins_failed;
    uint64_t certificates_rejected;
    uint64_t connections_refused; /* closed for a new one */
    uint64_t limits_reached;
    uint64_t events_dropped;
    uint64_t nodes_exhausted; /* more nodes in use at once than the pool has; 0, or it is too small */
    uint64_t cpu_ns;       /* of the server's thread */
} bf_ua_stats;

/* Never waits. The numbers are those after the thread's last turn. */
void bf_ua_server_stats(const bf_ua_server *server, bf_ua_stats *stats);

/* Bytes that open62541, mbedTLS and our glue hold, over all servers of the process; each block's header is counted too. */
typedef struct {
    uint64_t live_bytes;
    uint64_t peak_bytes;
    uint64_t limit_bytes;   /* an allocation beyond it is refused; UINT64_MAX if there is none */
    uint64_t refused_count; /* allocations refused, by the ceiling, by the system or by a test */
    uint64_t foreign_count; /* blocks freed here that were not allocated here: 0, or the library has a way around the count */
    uint64_t calls_count;   /* allocations asked for */
} bf_ua_memory;

void bf_ua_memory_read(bf_ua_memory *memory);

/* Sets the ceiling in bytes (bf_ua_server_start does too); UINT64_MAX takes it away. What is already held is kept. */
void bf_ua_memory_limit(uint64_t limit_bytes);

/* For tests: refuses the allocation whose number (counted from now, first is 1) is `fail_at`, and one in `fail_every`; 0: none. */
void bf_ua_memory_fail(uint64_t fail_at, uint64_t fail_every);

/* Version of open62541, such as "1.4.18"; static text. */
const char *bf_ua_version(void);
/* cdef: end */

#endif
