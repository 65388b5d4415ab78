/* ua_read.c: reading the value of a tag, out of the image.
 *
 * Part of ua_unit.c. The library reads by asking for the node, filling it whole, and asking that for its value. For the value of a tag all that is
 * needed is its row, so the library's function that reads one attribute is replaced (ua_hooks.c); whatever is not plainly the value of a
 * tag goes on to the library's own, which comes back to read_tag. */

/* The value of a bad status is null (OPC 10000-4, 7.11); only where a client asks whether a deadband fits, the type has to be seen. */
static bool value_is_shown(bf_ua_server *server, uint32_t status) {
    bool is_bad = (status & 0x80000000u) != 0; /* OPC 10000-4, 7.39.1 */
    if (server->sample_expected) {
        server->sample_expected = false;
        return !is_bad;
    }
    return !is_bad || server->creating || server->modifying;
}

/* Copies a borrowed value; the result is owned. A plain scalar, which most are, needs nothing of what the library's copying does. */
static UA_StatusCode value_copy(const UA_Variant *borrowed, UA_Variant *out) {
    if (!UA_Variant_isScalar(borrowed) || !borrowed->type->pointerFree) {
        return UA_Variant_copy(borrowed, out);
    }
    void *data = malloc(borrowed->type->memSize);
    if (data == NULL) {
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    *out = *borrowed;
    out->storageType = UA_VARIANT_DATA;
    out->data = memcpy(data, borrowed->data, borrowed->type->memSize);
    return UA_STATUSCODE_GOOD;
}

/* Reads the value of a tag or diagnostic. A status other than good is that of the read: `out` then has no value. */
static UA_StatusCode tag_read(bf_ua_server *server, const bf_ua_node *node, bool with_source_time, const UA_NumericRange *range,
                              UA_DataValue *out) {
    const ua_row *row = &server->image.rows[node->row];
    if (value_is_shown(server, row->status)) {
        ua_word word;
        UA_Variant value;
        value_borrow(node, row, &word, &value);
        UA_StatusCode status = range == NULL ? value_copy(&value, &out->value) : UA_Variant_copyRange(&value, &out->value, *range);
        if (status != UA_STATUSCODE_GOOD) {
            return status;
        }
        out->hasValue = true;
    }
    out->status = row->status;
    out->hasStatus = row->status != UA_STATUSCODE_GOOD;
    if (with_source_time && row->source_time != 0) {
        out->sourceTimestamp = NANOSECONDS_TO_DATETIME(row->source_time);
        out->hasSourceTimestamp = true;
    }
    /* The library makes BadWaitingForInitialData of a read that is good but has no value, whatever its status. */
    return out->hasValue ? UA_STATUSCODE_GOOD : row->status;
}

static UA_StatusCode read_tag(UA_Server *library, const UA_NodeId *session, void *session_context, const UA_NodeId *id, void *context,
                              UA_Boolean with_source_time, const UA_NumericRange *range, UA_DataValue *out) {
    (void)session, (void)session_context, (void)id;
    bf_ua_server *server = server_of(library);
    return tag_read(server, &server->space.nodes[(uint32_t)(uintptr_t)context], with_source_time, range, out);
}

/* Takes the place of Operation_Read. Everybody may read every tag (access_level). */
void bf_ua_read(UA_Server *library, UA_Session *session, UA_TimestampsToReturn *times, const UA_ReadValueId *wanted, UA_DataValue *out) {
    bf_ua_server *server = server_of(library);
    bool is_plain = wanted->attributeId == UA_ATTRIBUTEID_VALUE && wanted->indexRange.length == 0 && wanted->dataEncoding.name.length == 0;
    ua_found found = {FOUND_NOTHING, 0};
    if (is_plain) {
        found = space_find(&server->space, &wanted->nodeId);
    }
    const bf_ua_node *node = found.kind == FOUND_NODE ? &server->space.nodes[found.node] : NULL;
    if (node == NULL || node->kind == BF_UA_FOLDER) {
        library_Read(library, session, times, wanted, out);
        return;
    }
    bool is_both = *times == UA_TIMESTAMPSTORETURN_BOTH;
    bool with_source_time = is_both || *times == UA_TIMESTAMPSTORETURN_SOURCE;
    UA_StatusCode status = tag_read(server, node, with_source_time, NULL, out);
    if (status != UA_STATUSCODE_GOOD) {
        out->hasStatus = true;
        out->status = status;
    }
    if (with_source_time && !out->hasSourceTimestamp) { /* never read: the library, too, says now, and clients count on a time */
        out->sourceTimestamp = UA_DateTime_now();
        out->hasSourceTimestamp = true;
    }
    if (is_both || *times == UA_TIMESTAMPSTORETURN_SERVER) {
        out->serverTimestamp = UA_DateTime_now();
        out->hasServerTimestamp = true;
    }
}
