/* journal.h: the parts of the journal, for each other. The idea of each stands in its C file; the twins in Python have the same names. */
#ifndef BIFROST_JOURNAL_H
#define BIFROST_JOURNAL_H

#include <stdbool.h>

#include "bifrost.h"

#define BF_HEADER_BYTES 64u
#define BF_HEADER_COPY_AT 512u /* in another sector: one that is damaged costs nothing */
#define BF_RECORDS_AT 1024u
#define BF_FRAME_BYTES 28u
#define BF_COMMIT_BYTES 16u
#define BF_COMMIT_FRAME_BYTES_MAX (BF_FRAME_BYTES + BF_COMMIT_BYTES + BF_JOURNAL_COUNTERS_BYTES_MAX)
#define BF_PREAMBLE_BYTES_MAX                                                                                \
    (BF_RECORDS_AT + BF_JOURNAL_STREAMS_MAX * (BF_FRAME_BYTES + BF_JOURNAL_STREAM_NAME_BYTES_MAX) +          \
     BF_COMMIT_FRAME_BYTES_MAX)
#define BF_SEGMENT_BYTES_MAX (16u << 20) /* a length has 24 bits */
#define BF_SLOT_AT 4096u                 /* of the second one: a page of its own, so that a torn write leaves the other alone */
#define BF_CURSOR_FILE_BYTES (2 * BF_SLOT_AT)
#define BF_SLOT_BYTES_MAX (120u + BF_JOURNAL_RANGES_MAX * 16u + BF_JOURNAL_COUNTERS_BYTES_MAX)
#define BF_NAME_BYTES 24u /* of a file, with its zero */
#define BF_CURSOR_NAME "cursor.bfc"
#define BF_DAMAGED_NAME "damaged.bad"
#define BF_SPARE_NAME "spare.free"
#define BF_VERSION_UNKNOWN 3 /* a status of our own: the bytes are whole, but of a format that we do not know */

/* ---- format ------------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t number;
    uint8_t store_id[16];
    uint64_t first_sequence; /* of the records in it and after it */
    uint64_t first_samples;
    int64_t created_ns;
    uint32_t segment_bytes;
} bf_segment_header;

/* One record in a segment, whole and checked; `at` and `next_at` are offsets in the file. */
typedef struct {
    uint64_t at;
    uint64_t next_at;
    uint64_t sequence;
    int64_t first_ns;
    uint32_t span_ms;
    uint32_t length;
    const uint8_t *payload; /* in the window of the scan */
    uint16_t samples;
    uint8_t type;
    uint8_t stream;
    uint8_t flags;
} bf_frame;

typedef struct {
    uint64_t generation;
    uint64_t samples_total;
    const uint8_t *counters;
    size_t counters_length;
} bf_commit;

typedef struct {
    uint64_t first;
    uint64_t last;
} bf_range;

typedef struct {
    uint8_t bytes[BF_JOURNAL_COUNTERS_BYTES_MAX];
    size_t length;
} bf_journal_counters;

typedef struct {
    uint8_t store_id[16];
    uint64_t generation;
    uint64_t base;
    uint64_t done[BF_JOURNAL_REASONS];
    bool is_clean;
    uint32_t ranges_count;
    bf_range ranges[BF_JOURNAL_RANGES_MAX];
    bf_journal_counters counters;
} bf_cursor;

static inline size_t bf_aligned(size_t length)
{
    return (length + 3) & ~(size_t)3;
}

uint32_t bf_segment_salt(const bf_segment_header *header);
void bf_segment_name(uint32_t number, const char *suffix, char name[BF_NAME_BYTES]);
/* BF_RECORDS_AT bytes: header and copy. */
void bf_header_pack(const bf_segment_header *header, uint8_t *bytes);
/* BF_OK, BF_VERSION_UNKNOWN, or BF_E_PROTOCOL when both copies are damaged. */
int32_t bf_header_unpack(const uint8_t *bytes, size_t length, bf_segment_header *header);
uint32_t bf_span_ms(int64_t first_ns, int64_t last_ns);
/* Writes all of a record but what only its segment knows; returns its length. `payload` may lie where it belongs already. */
size_t bf_frame_pack(uint8_t *bytes, const bf_frame *frame);
/* Adds that: number and checksum. */
void bf_frame_seal(uint8_t *bytes, uint32_t salt, uint32_t delta);
size_t bf_frame_length(const uint8_t *bytes, uint8_t *type); /* of the payload, as the bytes claim */
bool bf_frame_unpack(const uint8_t *bytes, uint32_t salt, uint64_t first_sequence, uint64_t at, bf_frame *frame);
size_t bf_commit_pack(uint8_t *bytes, uint32_t salt, uint32_t delta, uint64_t generation, uint64_t samples_total,
                      const bf_journal_counters *counters);
bool bf_commit_unpack(const bf_frame *frame, bf_commit *commit);
int64_t bf_frame_last_ns(const bf_frame *frame);
size_t bf_cursor_pack(uint8_t *bytes, const bf_cursor *cursor);
int32_t bf_cursor_unpack(const uint8_t *bytes, size_t length, bf_cursor *cursor); /* as bf_header_unpack */
bool bf_journal_limits_fit(const bf_journal_limits *limits);
size_t bf_journal_window_bytes(const bf_journal_limits *limits);

/* ---- ranges ------------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t sequence;
    uint32_t records;
    uint32_t samples;
    uint32_t reason;
    uint32_t unused;
} bf_acknowledgement;

typedef struct {
    uint64_t base;
    uint64_t done[BF_JOURNAL_REASONS];
    bf_range ranges[BF_JOURNAL_RANGES_MAX];
    size_t count;
    bf_acknowledgement *pending; /* what waits: there was no room for one more range */
    size_t pending_count;
} bf_ranges;

uint64_t bf_ranges_sum(const bf_ranges *ranges);
bool bf_ranges_is_done(const bf_ranges *ranges, uint64_t sequence);
/* Narrows `first` to `last` to the first stretch that is not done with; false: there is none. */
bool bf_ranges_undone(const bf_ranges *ranges, uint64_t *first, uint64_t *last);
/* Everything from `first` on is done with, up to `end` (not included), above which there is nothing. */
void bf_ranges_pass_over(bf_ranges *ranges, uint64_t first, uint64_t end);
bool bf_ranges_apply(bf_ranges *ranges, uint64_t end_sequence, uint64_t samples_total);
bool bf_ranges_settle(bf_ranges *ranges, uint64_t end_sequence, uint64_t samples_total);
void bf_ranges_raise_base(bf_ranges *ranges, uint64_t base);

/* ---- scan --------------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    bf_segment_header header;
    uint64_t end; /* where its records end, as far as that is known */
    bool is_damaged;
} bf_segment;

typedef struct {
    bf_segment *list;
    size_t count;
    size_t size;
} bf_segments;

typedef struct {
    const bf_journal_io *io;
    int fd;
    uint32_t salt;
    uint64_t first_sequence;
    uint64_t at;
    uint64_t end;
    uint64_t floor;
    uint64_t ceiling;
    uint8_t *window;
    size_t window_bytes;
    size_t window_length;
    uint64_t window_at;
    int error; /* negative errno */
} bf_journal_scan;

void bf_journal_scan_start(bf_journal_scan *scan, int fd, const bf_segment *segment, uint64_t at, uint64_t ceiling);
bool bf_journal_scan_next(bf_journal_scan *scan, bf_frame *frame);

typedef struct {
    uint64_t sequence;
    uint64_t samples;
} bf_mark;

/* A record, or (type BF_RECORD_DAMAGED) what is missing before the next one. */
typedef struct {
    uint8_t type;
    uint64_t sequence;
    uint32_t records;
    uint32_t samples;
    bf_frame frame;
} bf_entry;

typedef struct {
    const bf_segments *segments;
    bf_journal_scan scan; /* its io, window and window_bytes are set once */
    uint32_t number;      /* of the segment it stands in; 0: in none */
    uint64_t sequence;    /* of the record that comes next */
    uint64_t samples;     /* of all records before it */
    bool has_hole;
    bf_entry hole;
    int error;
} bf_journal_reader;

void bf_journal_reader_close(bf_journal_reader *reader);
bool bf_journal_reader_seek(bf_journal_reader *reader, uint64_t sequence, const bf_mark *end);
bool bf_journal_reader_next(bf_journal_reader *reader, const bf_mark *end, bf_entry *entry);
/* Number of what comes next. */
uint64_t bf_journal_reader_place(const bf_journal_reader *reader);
/* Narrows a gap to its first stretch that is not done with; false: there is none. How many samples a part held is not known: they are counted
 * when all else is. */
bool bf_entry_narrow(const bf_ranges *ranges, bf_entry *entry);
void bf_journal_reader_give_back(bf_journal_reader *reader, const bf_frame *frame);

/* ---- cursor ------------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const bf_journal_io *io;
    uint8_t *slot; /* BF_SLOT_BYTES_MAX, to write from */
    int fd;
    int durable_slot;
    uint64_t durable_base;
    uint64_t saved_base;
    bool is_saved;
    bool is_synced;
    bool is_new;
} bf_cursor_file;

int bf_journal_write_all(const bf_journal_io *io, int fd, uint64_t at, const uint8_t *data, size_t length);
int bf_cursor_file_save(bf_cursor_file *file, const bf_cursor *cursor);
int bf_cursor_file_sync(bf_cursor_file *file);
void bf_cursor_file_close(bf_cursor_file *file);

/* ---- disk --------------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint8_t bytes[BF_JOURNAL_STREAM_NAME_BYTES_MAX];
    uint8_t length;
} bf_stream_name;

typedef struct {
    uint8_t *bytes; /* records one after the other; after them room for a commit record */
    size_t length;
} bf_batch_bytes;

/* What nobody will get: since open. */
typedef struct {
    uint64_t records_damaged;
    uint64_t by_stream[BF_JOURNAL_STREAMS_MAX];
    int64_t first_ns;
    int64_t last_ns;
} bf_dropped;

typedef struct {
    bool is_needed;
    bool is_copied;
    bf_segment segment; /* a copy; its end is where its records end */
    uint64_t at;
} bf_rescue;

typedef struct {
    bf_journal_io io;
    bf_journal_limits limits;
    uint8_t store_id[16];
    bf_ranges ranges;
    bf_segments segments;
    bf_stream_name *streams; /* the journal's; only the first streams_count are looked at */
    uint32_t streams_count;
    bf_mark written;
    bf_mark durable;
    uint32_t last_number;
    uint64_t generation;
    bf_journal_counters counters;
    bf_journal_counters saved_counters;
    int64_t now_ns;
    int64_t expire_before_ns;
    bf_batch_bytes batch;
    size_t batch_written; /* bytes of it that are in a file … */
    size_t batch_durable; /* … and that are synced */
    bf_mark batch_start;  /* before the first that is not */
    int active_fd;
    uint64_t synced_at; /* in the active segment */
    uint32_t streams_written;
    bool is_directory_dirty;
    bool has_spare; /* a file of a segment that is done with, for the next one */
    bf_rescue rescue;
    bf_cursor_file cursor;
    bool is_cursor_dirty;
    int error;
    uint32_t alarms;
    bf_dropped dropped;
    bf_dropped dropped_before; /* the segment that is being counted */
    bool was_clean;
    bf_journal_reader reader; /* of bf_journal_read */
    bf_journal_reader tally;  /* of what is dropped */
    uint8_t *preamble;        /* BF_PREAMBLE_BYTES_MAX; also for one name, and for what is read at open */
    bf_journal_scan rescue_scan;
    bf_cursor snapshot;   /* what is being saved, or was found */
    bf_cursor found;
    uint32_t *unreadable; /* numbers of segments, at open */
    uint8_t slot[BF_SLOT_BYTES_MAX];
} bf_disk;

int32_t bf_disk_refuse(bf_disk *disk, int refused);
int32_t bf_disk_open(bf_disk *disk, const uint32_t *numbers, size_t numbers_count);
int32_t bf_disk_commit(bf_disk *disk, uint32_t flags);
bool bf_disk_has_work(const bf_disk *disk);
int32_t bf_disk_close(bf_disk *disk, bool is_clean);
/* Segments. */
int32_t bf_disk_create_segment(bf_disk *disk);
int32_t bf_disk_roll(bf_disk *disk);
int32_t bf_disk_sync_active(bf_disk *disk);
void bf_disk_distrust_active(bf_disk *disk);
int32_t bf_disk_expire(bf_disk *disk);
/* Samples of all records from `first` on, up to `end`, that are not done with, by reading them all. tally.error: why not all. */
uint64_t bf_disk_count_buffered(bf_disk *disk, uint64_t first, const bf_mark *end);
int32_t bf_disk_free_segments(bf_disk *disk);
int32_t bf_disk_save_cursor(bf_disk *disk, bool sync, bool is_clean);
int32_t bf_disk_sync_cursor(bf_disk *disk);
size_t bf_disk_name_frame(const bf_disk *disk, const bf_segment_header *header, uint32_t stream, uint8_t *bytes);

static inline bf_segment *bf_disk_active(const bf_disk *disk)
{
    return &disk->segments.list[disk->segments.count - 1];
}

#endif
