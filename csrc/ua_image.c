/* ua_image.c: the server's own image of the rows, filled from the change ring and from nothing else.
 *
 * Part of ua_unit.c. Were values read from the table, a client could see the newest one, then an older one out of the ring, then the newest again.
 * Only a row that lost changes is read from its slot, once the ring is drained; it is then *ahead* of the ring: its changes that were appended
 * meanwhile may be older than the slot, so that they are not applied but make it be read once more. When a round found none, the rows that
 * were ahead are where the ring is, and their items are told, with the overflow bit. So nothing goes backward, and the newest value arrives. */

#define ROUNDS_MAX 16 /* a round takes as long as the changes of the last one: they soon run out, or it goes on at the next turn */

static void push_row(bf_ua_server *server, ua_row *row, int64_t server_time, UA_StatusCode extra);

static bool row_has_cell(const bf_ua_server *server, const ua_row *row) {
    assert(row->node != NO_NODE);
    const bf_ua_node *node = &server->space.nodes[row->node];
    return node->type == BF_TYPE_STRING || (node->flags & BF_UA_FLAG_ARRAY) != 0;
}

static void row_lose(ua_image *image, ua_row *row) {
    if (row->lost == 0 && row->node != NO_NODE) {
        row->lost = 1;
        image->lost_count++;
    }
}

static void row_find(ua_image *image, ua_row *row) {
    if (row->lost != 0) {
        row->lost = 0;
        image->lost_count--;
    }
}

static void all_lose(ua_image *image) {
    for (uint32_t i = 0; i < image->rows_count; i++) {
        row_lose(image, &image->rows[i]);
    }
}

/* ---- one change ----------------------------------------------------------------------------------------------------------------- */

/* Server time of a change (bifrost.h, bf_change); 0, which is "now", where a source time is so far off that it does not fit. */
static int64_t change_server_time(const bf_change *change) {
    int64_t time;
    return __builtin_add_overflow(change->source_time, change->when / 65536 * 100, &time) ? 0 : time;
}

/* Takes the bytes of a text or array from the ring into the row's cell; false if they are lost. */
static bool change_take_bytes(bf_ua_server *server, const bf_change *change, ua_row *row) {
    size_t length = 0;
    bool is_lost = (change->when & BF_CHANGE_VALUE_LOST) != 0 ||
                   server->api->ring_bytes(server->table, change, server->image.scratch, server->image.scratch_bytes, &length) != BF_OK;
    if (!is_lost) {
        bool is_text = server->space.nodes[row->node].type == BF_TYPE_STRING;
        cell_set(row->value.cell, is_text, server->image.scratch, length);
    }
    return !is_lost;
}

static void change_apply(bf_ua_server *server, const bf_change *change) {
    ua_image *image = &server->image;
    if (change->tag >= image->rows_count || image->rows[change->tag].node == NO_NODE) {
        return;
    }
    ua_row *row = &image->rows[change->tag];
    if (row->ahead != 0) {
        row_lose(image, row);
        return;
    }
    bool has_cell = row_has_cell(server, row);
    if (has_cell && !change_take_bytes(server, change, row)) {
        row_lose(image, row); /* a later change may have its bytes; if none comes, the slot is read */
        return;
    }
    if (!has_cell) {
        row->value.bits = change->value;
    }
    row->source_time = change->source_time;
    row->status = change->status;
    UA_StatusCode extra = row->lost != 0 ? STATUS_OVERFLOW : UA_STATUSCODE_GOOD;
    row_find(image, row);
    row->changed = 0;
    push_row(server, row, change_server_time(change), extra);
}

/* Applies up to `count_max` changes; false when that was not all. */
static bool changes_apply(bf_ua_server *server, uint64_t count_max) {
    ua_image *image = &server->image;
    for (uint64_t done = 0; done < count_max;) {
        uint64_t missed = 0;
        size_t count = server->api->ring_read(server->table, &image->position, server->changes, CHANGES_PER_READ, &missed);
        if (missed > 0) {
            server->counts.changes_missed += missed;
            all_lose(image);
        }
        for (size_t i = 0; i < count; i++) {
            change_apply(server, &server->changes[i]);
        }
        server->counts.changes += count;
        if (count == 0) {
            return true;
        }
        done += count;
    }
    return false;
}

/* ---- rows that lost changes ----------------------------------------------------------------------------------------------------- */

/* Reads the slot of a row into the image. */
static void row_read(bf_ua_server *server, uint32_t index) {
    ua_image *image = &server->image;
    ua_row *row = &image->rows[index];
    bf_slot slot;
    int32_t status;
    bool is_same = true;
    if (row_has_cell(server, row)) {
        size_t length = 0;
        status = server->api->read_bytes(server->table, index, &slot, image->scratch, image->scratch_bytes, &length);
        if (status == BF_OK) {
            cell_set(row->value.cell, server->space.nodes[row->node].type == BF_TYPE_STRING, image->scratch, length);
        }
    } else {
        status = server->api->read(server->table, 1, &index, &slot);
        if (status == BF_OK) {
            is_same = row->value.bits == slot.value;
            row->value.bits = slot.value;
        }
    }
    if (status != BF_OK) { /* its writer died in the middle of writing */
        return;
    }
    if (!is_same || row->source_time != slot.source_time || row->status != slot.status) {
        row->changed = 1;
    }
    row->source_time = slot.source_time;
    row->status = slot.status;
    if (row->ahead == 0) {
        row->ahead = 1;
        image->ahead_count++;
    }
}

static void lost_read(bf_ua_server *server) {
    ua_image *image = &server->image;
    for (uint32_t i = 0; i < image->rows_count && image->lost_count > 0; i++) {
        if (image->rows[i].lost != 0) {
            row_find(image, &image->rows[i]);
            row_read(server, i);
        }
    }
}

/* The rows that were ahead are where the ring is. */
static void ahead_end(bf_ua_server *server) {
    ua_image *image = &server->image;
    for (uint32_t i = 0; i < image->rows_count && image->ahead_count > 0; i++) {
        ua_row *row = &image->rows[i];
        if (row->ahead == 0) {
            continue;
        }
        row->ahead = 0;
        image->ahead_count--;
        if (row->changed != 0) {
            row->changed = 0;
            push_row(server, row, 0, STATUS_OVERFLOW);
        }
    }
}

/* Brings the image to where the ring is. False: there is more; let others have their turn first. */
static bool image_drain(bf_ua_server *server) {
    ua_image *image = &server->image;
    image->starved = false;
    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        if (!changes_apply(server, (uint64_t)CHANGES_PER_READ * 256)) {
            return false;
        }
        if (image->lost_count == 0) {
            if (image->ahead_count > 0) {
                ahead_end(server);
            }
            return true;
        }
        if (image->starved) {
            return true;
        }
        lost_read(server);
    }
    return false;
}

/* ---- memory --------------------------------------------------------------------------------------------------------------------- */

/* Bytes that the cell of a row has to hold: a text that turns out to be Latin-1 grows to twice its size at most. */
static uint32_t cell_size(const bf_ua_server *server, const bf_ua_node *node) {
    uint8_t kind = 0;
    uint32_t bytes = 0;
    (void)server->api->row(server->table, node->row, &kind, &bytes);
    return node->type == BF_TYPE_STRING && (node->flags & BF_UA_FLAG_ARRAY) == 0 ? 2 * bytes : bytes;
}

static bool node_has_cell(const bf_ua_node *node) {
    return node->kind != BF_UA_FOLDER && (node->type == BF_TYPE_STRING || (node->flags & BF_UA_FLAG_ARRAY) != 0);
}

static void image_clear(ua_image *image, const ua_space *space) {
    for (uint32_t i = 0; i < image->rows_count; i++) {
        ua_row *row = &image->rows[i];
        if (row->node != NO_NODE && node_has_cell(&space->nodes[row->node])) {
            free(row->value.cell);
        }
    }
    free(image->rows);
    free(image->scratch);
    image->rows = NULL;
    image->scratch = NULL;
    image->rows_count = 0;
}

/* Makes the image that `space` needs, with all its rows lost, so that the first turn reads them. Nothing is held on failure. */
static UA_StatusCode image_make(const bf_ua_server *server, const ua_space *space, ua_image *out) {
    out->rows_count = space->rows_count;
    out->lost_count = 0;
    out->ahead_count = 0;
    out->scratch_bytes = 1;
    out->rows = calloc((size_t)space->rows_count + 1, sizeof *out->rows);
    out->scratch = NULL;
    if (out->rows == NULL) {
        out->rows_count = 0;
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    for (uint32_t i = 0; i < out->rows_count; i++) {
        out->rows[i].node = NO_NODE;
        out->rows[i].status = UA_STATUSCODE_BADWAITINGFORINITIALDATA;
    }
    bool enough = true;
    for (uint32_t i = 0; i < space->nodes_count && enough; i++) {
        const bf_ua_node *node = &space->nodes[i];
        if (node->kind == BF_UA_FOLDER) {
            continue;
        }
        ua_row *row = &out->rows[node->row];
        if (node_has_cell(node)) {
            uint32_t size = cell_size(server, node);
            row->value.cell = calloc(1, sizeof(ua_cell) + size);
            enough = row->value.cell != NULL;
            if (!enough) {
                break;
            }
            row->value.cell->size = size;
            out->scratch_bytes = size > out->scratch_bytes ? size : out->scratch_bytes;
        }
        row->node = i & NO_NODE;
        row_lose(out, row);
    }
    out->scratch = enough ? malloc(out->scratch_bytes) : NULL;
    if (out->scratch == NULL) {
        image_clear(out, space);
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    return UA_STATUSCODE_GOOD;
}
