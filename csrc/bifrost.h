/* bifrost.h: the whole C API of the native core.
 *
 * The idea: everything the plant says sits in one table of fixed size. The scan engine writes it, everyone else reads it. Nothing here
 * allocates: each object tells its size (bf_…_bytes), the caller gives the memory (bf_…_init). Nothing here raises: calls return a BF_…
 * status and write through out-pointers only on success. The parts between the marks are cut out for cffi; keep them plain C that a
 * person and cffi can both read. Layouts are little-endian without padding; the Python twin packs the same bytes with `struct`.
 */
#ifndef BIFROST_H
#define BIFROST_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin */
#define BF_ABI 1

/* Status of a call at the seam: 0 done, positive "not yet", negative refused. One table for C and Python. */
enum {
    BF_OK = 0,
    BF_PARTIAL = 1,          /* call again: more bytes are needed, or more room for actions */
    BF_LOST = 2,             /* the body of a change was overwritten before it was read */
    BF_E_ARGUMENT = -1,      /* an argument is outside its stated range: our own bug */
    BF_E_SPACE = -2,         /* the caller's memory is too small */
    BF_E_FULL = -3,          /* a queue is at its limit; try later */
    BF_E_SYSTEM = -4,        /* the system refused a call; errno says why */
    BF_E_TRANSACTION = -10,
    BF_E_PROTOCOL = -11,
    BF_E_LENGTH = -12,
    BF_E_UNIT = -13,
    BF_E_FUNCTION = -14,
    BF_E_COUNT = -15,
    BF_E_EXCEPTION = -16     /* a well-formed exception answer; its code is written out */
};

/* Types on the wire (core.datatypes.DataType, in its order). */
#define BF_TYPE_BOOL 1
#define BF_TYPE_INT8 2
#define BF_TYPE_UINT8 3
#define BF_TYPE_INT16 4
#define BF_TYPE_UINT16 5
#define BF_TYPE_INT32 6
#define BF_TYPE_UINT32 7
#define BF_TYPE_INT64 8
#define BF_TYPE_UINT64 9
#define BF_TYPE_FLOAT32 10
#define BF_TYPE_FLOAT64 11
#define BF_TYPE_STRING 12
#define BF_TYPE_BCD16 13
#define BF_TYPE_BCD32 14

/* Kinds of a value in the table (core.datatypes.ValueKind, in its order). TEXT and ARRAY live in a cell. */
#define BF_KIND_BOOL 1
#define BF_KIND_INT 2
#define BF_KIND_UINT 3
#define BF_KIND_FLOAT 4
#define BF_KIND_TEXT 5
#define BF_KIND_ARRAY 6

/* Byte order: ABCD = 0, BADC = SWAP_BYTES, CDAB = SWAP_WORDS, DCBA = both. */
#define BF_ORDER_SWAP_BYTES 1
#define BF_ORDER_SWAP_WORDS 2

/* OPC UA StatusCodes that the core itself sets (core.status.StatusCode). */
#define BF_GOOD 0x00000000u
#define BF_UNCERTAIN_LAST_USABLE 0x408F0000u /* UncertainNoCommunicationLastUsableValue */
#define BF_BAD_DECODING 0x80070000u
#define BF_BAD_NO_COMMUNICATION 0x80310000u
#define BF_BAD_WAITING 0x80320000u           /* BadWaitingForInitialData */
#define BF_BAD_DEVICE_FAILURE 0x808B0000u

/* ---- the process's heap ---------------------------------------------------------------------------------------------------------- */

/* Has memory that is freed go back to the system, as far as the C library lets itself be told; for the whole process, before much is allocated.
 * BF_E_SYSTEM: the library refuses. */
int32_t bf_heap_tune(void);

/* ---- codec ---------------------------------------------------------------------------------------------------------------------- */

/* CRC-16/MODBUS (reflected polynomial 0xA001, start 0xFFFF) of `length` bytes. Modbus over Serial Line V1.02, 6.2.2. */
uint16_t bf_crc16(const uint8_t *data, size_t length);

/* A read (function 1 to 4) of `count` bits or registers, and where its values go: prepared once, used for every answer.
 * Functions 1 and 2: `type` is BF_TYPE_BOOL and one byte (0 or 1) is written per bit. Functions 3 and 4: `type` is BF_TYPE_INT16 to
 * BF_TYPE_FLOAT64; elements follow each other from the first register, native byte order, as many as fit whole. */
typedef struct {
    uint8_t unit;
    uint8_t function;
    uint8_t type;
    uint8_t order;
    uint16_t count;
    uint16_t unused;
    void *out;
    size_t out_bytes;
} bf_modbus_question;

/* Checks one whole Modbus TCP answer to the question and decodes its body in one pass. MBAP, PDU and body are checked as Modbus Messaging on
 * TCP/IP V1.0b, 3.1.3 and Application Protocol V1.1b3, 6.1 to 6.4 say. Returns BF_OK, BF_PARTIAL, BF_E_EXCEPTION (the code is frame[8]),
 * BF_E_SPACE when `out_bytes` is too small for the answer that was asked for, or what is wrong first in the order of the bytes; bytes after the
 * answer are BF_E_LENGTH. Nothing is written unless the answer is good. */
int32_t bf_modbus_answer_decode(const bf_modbus_question *question, uint16_t transaction, const uint8_t *frame, size_t length);

/* ---- gather-decode -------------------------------------------------------------------------------------------------------------- */

#define BF_DECODE_SCALED 1 /* value = raw * scale + bias, in float64, never fused */
#define BF_DECODE_ARRAY 2

/* How one tag is found in a body. 32 bytes. */
typedef struct {
    uint32_t tag;    /* row in the table */
    uint32_t offset; /* bytes from the start of the body, or of the item's data */
    uint16_t item;   /* number of the item, from 0, in answers made of items (BF_WALK_…); else 0 */
    uint16_t count;  /* elements of an array, bytes of a string, else 1 */
    uint8_t type;
    uint8_t order; /* with SWAP_BYTES byte k of texts and of 8-bit elements is taken from offset + (k ^ 1); SWAP_WORDS says nothing there */
    uint8_t bit;   /* BOOL: bit number from `offset`, 0 = least significant; may exceed 7 and runs on over the next bytes; with
                      SWAP_BYTES byte k of the run is taken from offset + (k ^ 1), which makes bit n of a big-endian register */
    uint8_t flags; /* BF_DECODE_… */
    double scale;
    double bias;
} bf_decode;

/* Answers made of items, each with a status of its own. */
#define BF_WALK_NONE 0
#define BF_WALK_S7 1  /* body: items of return code, transport size, length, data, padding to even; S7 Read Var */
#define BF_WALK_CIP 2 /* body: count, offsets, items of reply service, 0, status, extended size, data; Multiple Service Packet */

/* Decodes `count` entries from `body`, without a table. For each entry: values[i] holds the value's 64 bits (BOOL 0/1, INT and UINT as
 * (u)int64, FLOAT as float64 bits, every NaN as 0x7FF8000000000000) and statuses[i] its StatusCode. TEXT and ARRAY bytes are appended to
 * `bytes` (text up to its first NUL; arrays as little-endian elements of the type, 1 byte a bool, float64 when scaled, bcd as uint16 or
 * uint32) and values[i] is offset << 32 | length. An entry outside the body, a failed item or a wrong BCD digit gets BF_BAD_DECODING (items:
 * BF_BAD_DEVICE_FAILURE) and value 0. Returns BF_OK, BF_E_SPACE when `bytes` is too small. */
int32_t bf_gather(const uint8_t *body, size_t length, uint8_t walk, const bf_decode *entries, size_t count, uint64_t *values,
                  uint32_t *statuses, uint8_t *bytes, size_t bytes_size);

/* ---- tag table and change ring -------------------------------------------------------------------------------------------------- */

typedef struct bf_table bf_table;

typedef struct {
    uint32_t tags_count_max;
    uint32_t ring_changes_count; /* a power of two, at least 2 * tags_count_max */
    uint32_t ring_body_bytes;    /* 0 or a power of two, at least 16; texts and arrays of changes */
    uint32_t cell_bytes;         /* all current texts and arrays together */
} bf_table_limits;

/* The latest value of a tag. 32 bytes. */
typedef struct {
    uint64_t value;      /* by kind; TEXT and ARRAY: length of the bytes in the cell */
    int64_t source_time; /* UTC nanoseconds of the value; 0: never read */
    int64_t server_time; /* UTC nanoseconds when value or status was last set */
    uint32_t status;
    uint32_t sequence;   /* even; counts writes times two */
} bf_slot;

#define BF_CHANGE_CLOCK_UNSYNCHRONISED 1
#define BF_CHANGE_VALUE_LOST 2

/* One reported change. 32 bytes. `when` = (server time - source time, in 100 ns rounded down, saturating at 47 bits and a sign) * 65536 + flags. */
typedef struct {
    uint32_t tag;
    uint32_t status;
    int64_t source_time;
    uint64_t value; /* by kind; TEXT and ARRAY: position in the body ring */
    int64_t when;
} bf_change;

/* Bytes of memory that bf_table_init needs (8-byte aligned), 0 when the limits are impossible. */
size_t bf_table_bytes(const bf_table_limits *limits);
int32_t bf_table_init(void *memory, size_t bytes, const bf_table_limits *limits, bf_table **table);

/* Defines rows `first` … first + count - 1, once each, before any writer uses them: kind, deadband (in the value's unit, 0: every bit), longest
 * time between reports (ns, 0: none) and room for TEXT and ARRAY bytes. Status becomes BF_BAD_WAITING. BF_E_SPACE: cells are used up, or a
 * cell is larger than half the body ring; nothing is defined then. */
int32_t bf_table_define(bf_table *table, uint32_t first, uint32_t count, const uint8_t *kinds, const double *deadbands,
                        const int64_t *max_intervals, const uint32_t *cell_sizes);

/* Gives rows another deadband and longest time between reports, also while they are written: what comes next is compared with the new ones.
 * BF_E_ARGUMENT: a row is not defined, or a number is impossible; nothing is changed then. */
int32_t bf_table_retune(bf_table *table, size_t count, const uint32_t *tags, const double *deadbands, const int64_t *max_intervals);

/* Writes a batch: tags[i] gets values[i] and statuses[i]. A status that is bad keeps the old value and source time. Rows of TEXT and ARRAY are
 * not allowed here. `now_ns` is monotonic (for max_interval), `flags` go to the changes. Each tag has one writer. One short lock a batch. */
int32_t bf_table_put(bf_table *table, size_t count, const uint32_t *tags, const uint64_t *values, const uint32_t *statuses,
                     int64_t source_time, int64_t server_time, int64_t now_ns, uint32_t flags);
/* The same for one TEXT or ARRAY. BF_E_SPACE: longer than the tag's cell. */
int32_t bf_table_put_bytes(bf_table *table, uint32_t tag, const uint8_t *bytes, size_t length, uint32_t status, int64_t source_time,
                           int64_t server_time, int64_t now_ns, uint32_t flags);

#define BF_MARK_ALL 0       /* set the status whatever it was */
#define BF_MARK_GOOD_ONLY 1 /* only where the status is good: "last usable value" is not said of what never was */
/* Sets only the status of `count` tags, found `stride` bytes apart from `tags` (4: an array of tags; 32: the tag column of bf_decode). */
int32_t bf_table_mark(bf_table *table, size_t count, const uint32_t *tags, size_t stride, uint32_t status, uint32_t rule,
                      int64_t server_time, int64_t now_ns, uint32_t flags);
/* Gathers and writes in one pass: what the scan engine does with a good answer. `scratch` holds one TEXT or ARRAY. */
int32_t bf_table_scatter(bf_table *table, const uint8_t *body, size_t length, uint8_t walk, const bf_decode *entries, size_t count,
                         int64_t source_time, int64_t server_time, int64_t now_ns, uint32_t flags, uint8_t *scratch,
                         size_t scratch_bytes);

/* Snapshot: slots of `count` tags, each consistent in itself. */
int32_t bf_table_read(const bf_table *table, size_t count, const uint32_t *tags, bf_slot *out);
/* Slot and bytes of one TEXT or ARRAY, consistent with each other. BF_E_SPACE when `size` < length. */
int32_t bf_table_read_bytes(const bf_table *table, uint32_t tag, bf_slot *out, uint8_t *bytes, size_t size, size_t *length);

/* Position after the newest change: where a new cursor starts. Positions count changes from 0 and never wrap. */
uint64_t bf_ring_head(const bf_table *table);
/* How many of the changes before *head, which is the ring's head, are of `tags`, each named once. Appending waits meanwhile, 1 ns to 5 ns a tag.
 * Between two calls a lapped reader knows so how many changes of its own tags it missed. */
int32_t bf_ring_count(bf_table *table, size_t count, const uint32_t *tags, uint64_t *head, uint64_t *changes);
/* Copies up to `count` changes from *position on and moves it. A lapped reader goes on at the oldest change there is, *missed says how many it
 * lost. Returns the number copied. */
size_t bf_ring_read(const bf_table *table, uint64_t *position, bf_change *out, size_t count, uint64_t *missed);
/* Bytes of a TEXT or ARRAY change. BF_LOST when they were overwritten. */
int32_t bf_ring_bytes(const bf_table *table, const bf_change *change, uint8_t *bytes, size_t size, size_t *length);

/* Functions of the table for a module that is not linked with this one (the OPC UA face); its fields stand behind the marks. Static. */
typedef struct bf_table_api bf_table_api;
const bf_table_api *bf_table_api_get(void);

/* ---- scan engine ---------------------------------------------------------------------------------------------------------------- */

/* One compiled request. 104 bytes. An answer is good when its length fits and (answer[expect_offset…] & expect_mask) == expect; it is the
 * device's "no" when the error_ fields fit. Anything else does not match this request: it is counted and dropped, the wait goes on. */
typedef struct {
    uint32_t request_offset; /* into the plan's request bytes */
    uint32_t decode_first;
    uint32_t decode_count;
    uint16_t request_length;
    uint16_t unit;              /* index of the unit (circuit breaker) on the link, from 0 */
    uint16_t answer_length;     /* exact length of a good answer; 0: at least answer_length_min */
    uint16_t answer_length_min;
    uint16_t body_offset;
    uint16_t error_length;      /* least length of an error answer; 0: the protocol has none */
    uint16_t error_code_offset;
    uint8_t error_code_bytes;   /* 1 or 2, big-endian */
    uint8_t walk;
    uint8_t expect_offset;
    uint8_t expect_length;      /* up to 16 */
    uint8_t error_expect_offset;
    uint8_t error_expect_length;
    uint32_t hold_code;         /* an error code that changes no quality, since Python will split the block; 0: none */
    uint32_t items_count;       /* items in a good answer made of items; 0: not made of items */
    uint8_t expect[16];
    uint8_t expect_mask[16];
    uint8_t error_expect[16];
    uint8_t error_expect_mask[16];
} bf_exchange;

/* Exchanges `first` … first + count - 1 are polled together. 32 bytes. Periods lie on a grid: adoption time + phase + k * period. */
typedef struct {
    int64_t period_ns;
    int64_t phase_ns;
    int64_t stale_ns; /* after the last good answer: quality falls to bad */
    uint32_t first;
    uint32_t count;
} bf_group;

/* Device error code -> StatusCode of a read; a code that is not listed becomes BF_BAD_DEVICE_FAILURE. 8 bytes. */
typedef struct {
    uint32_t code;
    uint32_t status;
} bf_code;

/* The engine's own notes about a plan; the caller gives the memory, zeroed, and does not touch it. */
typedef struct {
    int64_t last_good_ns;
    uint32_t last_code;
    uint8_t state; /* BF_EXCHANGE_… */
    uint8_t in_flight;
    uint16_t unused;
} bf_exchange_state;
typedef struct {
    int64_t due_ns;
    uint32_t next;      /* next exchange of this cycle, relative to first; count: none left */
    uint32_t in_flight;
} bf_group_state;
typedef struct {
    int64_t open_until_ns;
    int64_t backoff_ns;
    uint32_t failures; /* time-outs in a row */
    uint32_t state;    /* BF_UNIT_… */
} bf_unit_state;

#define BF_EXCHANGE_NEW 0       /* not answered under this plan yet */
#define BF_EXCHANGE_GOOD 1
#define BF_EXCHANGE_ERROR 2     /* the device says no */
#define BF_EXCHANGE_UNCERTAIN 3 /* no answer; last usable values */
#define BF_EXCHANGE_STALE 4     /* no answer for longer than stale */
#define BF_UNIT_CLOSED 0        /* polled */
#define BF_UNIT_OPEN 1          /* not polled until open_until */
#define BF_UNIT_PROBING 2       /* one request is out to see whether it is back */

typedef struct {
    uint32_t generation; /* never 0 */
    uint32_t exchange_count;
    uint32_t decode_count;
    uint32_t group_count;
    uint32_t unit_count;
    uint32_t code_count;
    const bf_exchange *exchanges;
    const bf_decode *decodes;
    const bf_group *groups;
    const bf_code *codes;
    const uint8_t *requests;
    size_t requests_bytes;
    bf_exchange_state *exchange_states;
    bf_group_state *group_states;
    bf_unit_state *unit_states;
} bf_plan;

/* How a link frames, waits and comes back. */
typedef struct {
    int64_t timeout_ns;
    int64_t reconnect_min_ns; /* full jitter up to min * 2^n … */
    int64_t reconnect_max_ns; /* … and never more than max */
    int64_t breaker_min_ns;
    int64_t breaker_max_ns;
    uint16_t window;            /* requests in flight, 1 to window_max */
    uint16_t timeouts_to_close; /* time-outs in a row without any answer: the link is closed */
    uint16_t breaker_failures;  /* time-outs in a row of one unit: its breaker opens */
    uint16_t frame_bytes_max;   /* longest frame the protocol knows */
    uint16_t frame_bytes_min;   /* shortest; at least as long as the length field's end */
    int16_t length_add;         /* frame length = field + length_add */
    uint8_t length_offset;
    uint8_t length_little;      /* 1: the field is little-endian; it always has 2 bytes */
    uint8_t transaction_offset;
    uint8_t transaction_bytes;  /* 2; 0: the protocol has no transaction number and window is 1 */
    uint8_t transaction_little;
    uint8_t sync_offset;        /* bytes every frame must hold, or the stream is out of step and is closed */
    uint8_t sync_length;        /* 0 to 4 */
    uint8_t sync[4];
    uint8_t unused[9];
} bf_link_options;

/* Events in. */
#define BF_EVENT_LINK 1      /* data: bf_link_options. Makes or remakes the link, at rest */
#define BF_EVENT_PLAN 2      /* data: bf_plan, kept by the caller until BF_ACTION_PLANNED names its generation as `index` */
#define BF_EVENT_OPEN 3      /* the session connected and shook hands; the shell keeps the descriptor given in `value` */
#define BF_EVENT_FAILED 4    /* the session could not connect */
#define BF_EVENT_BYTES 5     /* data, length: bytes received */
#define BF_EVENT_CLOSED 6    /* the peer closed or the descriptor failed; value: errno or 0 */
#define BF_EVENT_BLOCKED 7   /* the last SEND could not be written whole yet */
#define BF_EVENT_DRAINED 8   /* now it is */
#define BF_EVENT_ONESHOT 9   /* data: bf_oneshot followed by its request bytes; length: of both; token comes back */
#define BF_EVENT_POLL 10     /* index: exchange of plan `value` (generation) to be polled now; token comes back */
#define BF_EVENT_CLOCK 11    /* value: UTC minus monotonic, ns; index: 1 synchronised, 0 not; token: 0, or a UTC time after a small step back:
                                stamps stand still there, or at the last one made, until the clock has caught up */
#define BF_EVENT_STOP 12     /* closes the link and forgets its plan */
typedef struct {
    uint32_t kind;
    uint32_t link;
    uint32_t index;
    uint32_t length;
    uint64_t token;
    int64_t value;
    const void *data;
} bf_event;

/* An Exchange of its own, ahead of polls: a write, a read-back, a read nobody planned. Its request follows it in the event. */
typedef struct {
    bf_exchange exchange; /* request_offset and the decode fields are 0; unit: index on the link */
    int64_t timeout_ns;   /* 0: the link's; counted from sending */
} bf_oneshot;

/* Actions out. */
#define BF_ACTION_SEND 1     /* data, length: write to the link's descriptor; valid until the next step */
#define BF_ACTION_CLOSE 2    /* close the descriptor; code: BF_CLOSE_… */
#define BF_ACTION_CONNECT 3  /* the session is to connect, and say OPEN or FAILED */
#define BF_ACTION_UP 4       /* the link is open and polled */
#define BF_ACTION_DOWN 5     /* the link is closed; code: BF_CLOSE_… */
#define BF_ACTION_EXCHANGE 6 /* index: exchange; code: the device's error code, new since its last answer, 0: good again; data: the answer */
#define BF_ACTION_UNIT 7     /* index: unit; code: BF_UNIT_OPEN or BF_UNIT_CLOSED */
#define BF_ACTION_DONE 8     /* a one-shot or POLL ended: token; code: BF_DONE_…; status; data: the answer, if one came */
#define BF_ACTION_PLANNED 9  /* generation: adopted plan; index: generation that is now free, 0: none */
#define BF_CLOSE_PEER 1      /* the peer closed, or the descriptor failed */
#define BF_CLOSE_SILENT 2    /* timeouts_to_close time-outs in a row */
#define BF_CLOSE_FRAMING 3   /* the bytes are no frames of this protocol */
#define BF_CLOSE_STOPPED 4   /* BF_EVENT_STOP or BF_EVENT_LINK */
#define BF_CLOSE_FAILED 5    /* no connection could be made */
#define BF_DONE_GOOD 0
#define BF_DONE_ERROR 1      /* the device said no; status holds its error code mapped, `index` the code itself */
#define BF_DONE_TIMEOUT 2
#define BF_DONE_CLOSED 3     /* the link is not open, or closed meanwhile */
#define BF_DONE_FULL 4       /* oneshots_count_max are waiting */
#define BF_DONE_REPLANNED 5  /* POLL of a plan that is gone */
typedef struct {
    uint32_t kind;
    uint32_t link;
    uint32_t index;
    uint32_t code;
    uint32_t status;
    uint32_t generation;
    uint64_t token;
    int64_t time_ns; /* monotonic */
    const uint8_t *data;
    size_t length;
} bf_action;

typedef struct {
    uint32_t links_count_max;
    uint32_t window_max;
    uint32_t frame_bytes_max;
    uint32_t request_bytes_max;
    uint32_t oneshots_count_max; /* of all links together */
    uint32_t scratch_bytes;      /* longest TEXT or ARRAY in the table */
} bf_scan_limits;

typedef struct {
    uint64_t requests;
    uint64_t answers_good;
    uint64_t answers_error;    /* the device said no */
    uint64_t answers_late;     /* nobody waits for this transaction number any more */
    uint64_t answers_mismatched; /* right number, but unit, function, count or length do not fit */
    uint64_t timeouts;
    uint64_t skipped;          /* periods that began while the last was still running, or late by whole periods */
    uint64_t opens;
    uint64_t closes;
    uint64_t framing_errors;
    uint64_t bytes_sent;
    uint64_t bytes_received;
} bf_counters;

typedef struct bf_scan bf_scan;
size_t bf_scan_bytes(const bf_scan_limits *limits);
int32_t bf_scan_init(void *memory, size_t bytes, const bf_scan_limits *limits, bf_table *table, uint64_t seed, bf_scan **scan);
/* How many actions one event, or one link's timers, can make at most: the least `actions_size` of bf_scan_step. */
size_t bf_scan_actions_min(const bf_scan_limits *limits);
/* Takes `events` at the monotonic time `now_ns`, does what is due, and says what is to be done. No system call, no clock, no thread. *consumed
 * events were taken; BF_PARTIAL: carry out the actions, then call again with the rest. *wake_ns: call again at this time at the latest. */
int32_t bf_scan_step(bf_scan *scan, int64_t now_ns, const bf_event *events, size_t events_count, size_t *consumed, bf_action *actions,
                     size_t actions_size, size_t *actions_count, int64_t *wake_ns);
/* Counters of one link; may be called from any thread. */
int32_t bf_scan_counters(const bf_scan *scan, uint32_t link, bf_counters *out);

/* ---- the shell: one thread, epoll, no protocol --------------------------------------------------------------------------------------- */

typedef struct bf_shell bf_shell;
typedef struct {
    uint32_t commands_count_max; /* events waiting to be taken */
    uint32_t notices_count_max;  /* actions waiting for Python; when it is full, EXCHANGE and UNIT are dropped and counted, others fit always */
    uint32_t notice_bytes_max;   /* longest answer handed to Python; longer ones are cut */
    uint32_t request_bytes_max;
    uint32_t read_bytes;         /* read buffer */
} bf_shell_limits;
size_t bf_shell_bytes(const bf_shell_limits *limits, const bf_scan_limits *scan_limits);
int32_t bf_shell_init(void *memory, size_t bytes, const bf_shell_limits *limits, const bf_scan_limits *scan_limits, bf_scan *scan,
                      bf_shell **shell);
int32_t bf_shell_start(bf_shell *shell);
/* Hands an event to the thread (LINK, PLAN, OPEN, FAILED, ONESHOT, POLL, CLOCK, STOP). Data is copied, but for a plan. BF_E_FULL: try later. */
int32_t bf_shell_post(bf_shell *shell, const bf_event *event);
/* Takes one notice (CONNECT, UP, DOWN, EXCHANGE, UNIT, DONE, PLANNED). BF_OK, or BF_PARTIAL when there is none. */
int32_t bf_shell_take(bf_shell *shell, bf_action *notice, uint8_t *bytes, size_t size);
int bf_shell_fd(const bf_shell *shell); /* readable (eventfd) while notices wait */
uint64_t bf_shell_dropped(const bf_shell *shell);
uint64_t bf_shell_cpu_ns(const bf_shell *shell); /* CPU time of the thread */
/* Ends the thread, closes every descriptor. The memory may be freed afterwards. Safe to call twice. */
int32_t bf_shell_stop(bf_shell *shell);

/* ---- journal ------------------------------------------------------------------------------------------------------------------------ */

/* CRC-32 as zlib has it; `crc` is that of the bytes before, 0 at the start. */
uint32_t bf_crc32(uint32_t crc, const uint8_t *data, size_t length);

#define BF_JOURNAL_STREAMS_MAX 64 /* of one store, in all its life */
#define BF_JOURNAL_STREAM_NAME_BYTES_MAX 64
#define BF_JOURNAL_RANGES_MAX 64  /* acknowledged out of order, in the cursor */
#define BF_JOURNAL_COUNTERS_BYTES_MAX 256
#define BF_JOURNAL_REASONS 8
#define BF_JOURNAL_READ_RECORDS_MAX 1024 /* that one call of contract.Journal.read gives */

/* Why samples are done with. */
#define BF_DONE_WITH_ACKNOWLEDGED 0
#define BF_DONE_WITH_CAP 1     /* the disk cap was reached: the oldest segment was dropped */
#define BF_DONE_WITH_AGE 2
#define BF_DONE_WITH_QUARANTINE 3
#define BF_DONE_WITH_DAMAGED 4 /* what the disk gave back was not what was written */

#define BF_LANE_LIVE 0
#define BF_LANE_BACKFILL 1
#define BF_COMMIT_SYNC 1        /* what is written is made durable */
#define BF_COMMIT_SYNC_CURSOR 2 /* so is the cursor (it always is before a segment is deleted) */
#define BF_JOURNAL_DROP_OLDEST 1
#define BF_JOURNAL_SALVAGE 2    /* at open: what can't be read is set aside, though it may be readable later */
#define BF_RECORD_DATA 1
#define BF_RECORD_COMMIT 2
#define BF_RECORD_STREAM 3
#define BF_RECORD_DAMAGED 255 /* only from bf_journal_read, never on the disk */

#define BF_ALARM_SYNC_FAILED 1  /* a sync failed; what it was to make durable was written again elsewhere, or waits */
#define BF_ALARM_DAMAGE 2       /* bytes on the disk were not what was written */
#define BF_ALARM_WRITE_FAILED 4 /* the last commit failed and its records wait in memory; cleared by one that succeeds */
#define BF_ALARM_CURSOR_LOST 8  /* no cursor could be read at open: all there is will be sent again */
#define BF_ALARM_SET_ASIDE 16   /* a file that is unreadable, of an unknown version or another store is now `.aside` */

/* The files of one directory. Calls give 0 or more, or the negative errno; what each does is said in contract.JournalIO. */
typedef struct {
    void *context;
    int (*open)(void *context, const char *name, int create);
    int (*close)(void *context, int fd);
    int (*allocate)(void *context, int fd, uint64_t size);
    int64_t (*read)(void *context, int fd, uint64_t offset, uint8_t *data, size_t size);
    int64_t (*write)(void *context, int fd, uint64_t offset, const uint8_t *data, size_t size);
    int (*sync)(void *context, int fd);
    int (*unlink)(void *context, const char *name);
    int (*rename)(void *context, const char *name, const char *new_name);
    int (*sync_directory)(void *context);
} bf_journal_io;
/* The system's own calls; `directory` is a descriptor of the directory and stays the caller's. */
void bf_journal_io_system(bf_journal_io *io, int *directory);

typedef struct {
    uint32_t segment_bytes;
    uint32_t segments_count_max;
    uint32_t batch_bytes;
    uint32_t record_bytes_max;
    uint32_t acknowledgements_count_max;
    uint32_t flags;
} bf_journal_limits;

typedef struct {
    uint64_t sequence;
    uint32_t type;
    uint32_t records;
    uint32_t stream;
    uint32_t lane;
    uint32_t samples;
    uint32_t length; /* of the payload … */
    size_t offset;   /* … and where it is in the caller's buffer */
    int64_t first_ns;
    int64_t last_ns;
} bf_journal_record;

typedef struct {
    uint8_t store_id[16];
    uint64_t next_sequence;
    uint64_t written_sequence;
    uint64_t durable_sequence;
    uint64_t base_sequence;
    uint64_t samples_total;
    uint64_t done[8];
    uint64_t records_damaged;
    uint64_t dropped_by_stream[64];
    int64_t dropped_first_ns;
    int64_t dropped_last_ns;
    uint32_t segments_count;
    uint64_t disk_bytes;
    uint64_t generation;
    uint32_t alarms;
    int32_t error;
    uint32_t was_clean;
    uint32_t counters_length;
    uint8_t counters[256];
} bf_journal_report;

/* An append-only log in segment files, with one cursor. What each call means, what it may be called beside, and what it gives is said in
 * contract.Journal; docs/reference/formats.md specifies the files. stream, append, acknowledge and begin are the side of memory and never
 * wait; open, commit, read and close are the side of the disk. They meet in begin. */
typedef struct bf_journal bf_journal;
/* Bytes of a journal that finds `segments_found` files; 0 when the limits are impossible. */
size_t bf_journal_bytes(const bf_journal_limits *limits, size_t segments_found);
/* `numbers`: of the segment files there are, in order; `last_number`: the highest that any file has, set aside or not. BF_E_SYSTEM, *error: the
 * disk can't be read just now. */
int32_t bf_journal_open(void *memory, size_t bytes, const bf_journal_limits *limits, const bf_journal_io *io, const uint8_t *store_id,
                        const uint32_t *numbers, size_t numbers_count, uint32_t last_number, int64_t now_ns, bf_journal **journal,
                        int32_t *error);
int32_t bf_journal_stream(bf_journal *journal, const uint8_t *name, size_t length);
/* Name of a stream; NULL: there is none. Not ended by a zero. */
const uint8_t *bf_journal_stream_name(const bf_journal *journal, uint32_t stream, size_t *length);
int64_t bf_journal_append(bf_journal *journal, uint32_t stream, uint32_t lane, uint32_t samples, int64_t first_ns, int64_t last_ns,
                          const uint8_t *payload, size_t length);
int32_t bf_journal_acknowledge(bf_journal *journal, size_t count, const uint64_t *sequences, const uint32_t *records,
                               const uint32_t *samples, uint32_t reason);
int32_t bf_journal_begin(bf_journal *journal, const uint8_t *counters, size_t length, int64_t now_ns, int64_t expire_before_ns);
int32_t bf_journal_commit(bf_journal *journal, uint32_t flags);
/* `bytes` holds at least the batch_bytes of the limits; payloads of the records lie there. */
int32_t bf_journal_read(bf_journal *journal, uint64_t sequence, uint64_t through, bf_journal_record *records, size_t count,
                        uint8_t *bytes, size_t *got);
void bf_journal_report_get(const bf_journal *journal, bf_journal_report *report);
/* `BF_OK`, or what the cursor's last save gave; the files are closed all the same. */
int32_t bf_journal_close(bf_journal *journal);
/* cdef: end */

#define BF_TABLE_API_VERSION 1
#define BF_WATCHERS_MAX 4 /* of one table */

struct bf_table_api {
    uint32_t version; /* BF_TABLE_API_VERSION: the two modules may be of different builds */
    uint32_t unused;
    int32_t (*read)(const bf_table *table, size_t count, const uint32_t *tags, bf_slot *out);
    int32_t (*read_bytes)(const bf_table *table, uint32_t tag, bf_slot *out, uint8_t *bytes, size_t size, size_t *length);
    uint64_t (*ring_head)(const bf_table *table);
    size_t (*ring_read)(const bf_table *table, uint64_t *position, bf_change *out, size_t count, uint64_t *missed);
    int32_t (*ring_bytes)(const bf_table *table, const bf_change *change, uint8_t *bytes, size_t size, size_t *length);
    /* Kind of a row (0: not defined) and room of its cell. BF_E_ARGUMENT: there is no such row. */
    int32_t (*row)(const bf_table *table, uint32_t tag, uint8_t *kind, uint32_t *cell_bytes);
    /* From now on `fd`, an eventfd, is written when changes are appended, unless the watcher is awake. Returns its number, or BF_E_FULL. */
    int32_t (*watch)(bf_table *table, int fd);
    /* The watcher is going to read all changes there are: later ones wake it again. Call it before reading. */
    void (*watch_ready)(bf_table *table, int32_t watcher);
    /* When this returns no writer uses the fd any more. */
    void (*unwatch)(bf_table *table, int32_t watcher);
};

#endif
