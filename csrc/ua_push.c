/* ua_push.c: every change of a row goes to every item that watches it, once, in order.
 *
 * Part of ua_unit.c. The library would sample: a pulse between two samples would be lost. So its two functions that begin and end the sampling of
 * an item are replaced (ua_hooks.c): an item on a value of ours is linked to its row, through the member that its sampling type leaves free,
 * and takes part in everything else (filters, queues, modes, triggering, transfer) as the library has it. Items that ask for fewer samples than
 * their subscription publishes, or than the row is scanned, are left to the library, which reads the image. */

static void limit_reached(bf_ua_server *server, uint32_t limit);

/* At the ceiling not even CloseSession would work: new items and growing queues stop short of it, by the reserve. */
static bool memory_is_pressed(const bf_ua_server *server) {
    bf_ua_memory memory;
    bf_ua_memory_read(&memory);
    return memory.live_bytes + server->config.limits.reserve_bytes > memory.limit_bytes;
}

/* ---- handing a sample to an item ------------------------------------------------------------------------------------------------ */

/* Remembers the sample for the next comparison; a scalar is copied into the memory of the last one. */
static UA_StatusCode last_value_set(UA_MonitoredItem *item, const UA_DataValue *sample) {
    UA_DataValue *last = &item->lastValue;
    const UA_DataType *type = sample->value.type;
    bool fits = sample->hasValue && last->hasValue && type == last->value.type && type->pointerFree &&
                UA_Variant_isScalar(&sample->value) && UA_Variant_isScalar(&last->value) && last->value.storageType == UA_VARIANT_DATA;
    if (fits) {
        UA_Variant kept = last->value;
        memcpy(kept.data, sample->value.data, type->memSize);
        *last = *sample;
        last->value = kept;
        return UA_STATUSCODE_GOOD;
    }
    UA_DataValue copy;
    UA_StatusCode status = UA_DataValue_copy(sample, &copy);
    if (status == UA_STATUSCODE_GOOD) {
        UA_DataValue_clear(last);
        *last = copy;
    }
    return status;
}

/* What UA_MonitoredItem_processSampledValue does, with a sample that is borrowed. */
static UA_StatusCode item_take(bf_ua_server *server, UA_MonitoredItem *item, const UA_DataValue *sample) {
    if (!detectValueChange(server->library, item, sample)) {
        return UA_STATUSCODE_GOOD;
    }
    UA_UInt32 queue_size = item->parameters.queueSize;
    bool is_full = item->queueSize >= queue_size;
    if (!is_full && item->queueSize >= 2 && memory_is_pressed(server)) {
        item->parameters.queueSize = (UA_UInt32)item->queueSize; /* acts as full: the oldest goes, the overflow bit comes */
        is_full = true;
        limit_reached(server, BF_UA_LIMIT_MEMORY);
    }
    UA_DataValue shown = *sample; /* the source time may be there only to be compared */
    shown.hasSourceTimestamp = sample->hasSourceTimestamp && times_have_source(item->timestampsToReturn);
    UA_StatusCode status = UA_MonitoredItem_createDataChangeNotification(server->library, item, &shown);
    item->parameters.queueSize = queue_size;
    if (status == UA_STATUSCODE_GOOD) {
        (void)last_value_set(item, sample); /* if it fails the next sample is compared with an older one, and told once too often */
        server->counts.samples++;
        server->counts.overflows += is_full ? 1 : 0;
    }
    return status;
}

static void sample_times(const UA_MonitoredItem *item, const ua_row *row, int64_t server_time, UA_DataValue *sample) {
    UA_TimestampsToReturn wanted = item->timestampsToReturn;
    if ((times_have_source(wanted) || item_compares_times(item)) && row->source_time != 0) {
        sample->hasSourceTimestamp = true;
        sample->sourceTimestamp = NANOSECONDS_TO_DATETIME(row->source_time);
    }
    if (wanted == UA_TIMESTAMPSTORETURN_SERVER || wanted == UA_TIMESTAMPSTORETURN_BOTH) {
        sample->hasServerTimestamp = true;
        sample->serverTimestamp = server_time == 0 ? UA_DateTime_now() : NANOSECONDS_TO_DATETIME(server_time);
    }
}

/* Cuts the item's index range out of `value`; the result is owned. */
static UA_StatusCode range_cut(const UA_MonitoredItem *item, const UA_Variant *value, UA_Variant *out) {
    UA_NumericRange range;
    UA_StatusCode status = UA_NumericRange_parse(&range, item->itemToMonitor.indexRange);
    if (status == UA_STATUSCODE_GOOD) {
        status = UA_Variant_copyRange(value, out, range);
        UA_free(range.dimensions);
    }
    return status;
}

static UA_StatusCode item_push(bf_ua_server *server, UA_MonitoredItem *item, const ua_row *row, int64_t server_time,
                               UA_StatusCode extra) {
    const bf_ua_node *node = &server->space.nodes[row->node];
    ua_word word;
    UA_DataValue sample;
    UA_DataValue_init(&sample);
    extra = item->parameters.queueSize > 1 ? extra : UA_STATUSCODE_GOOD; /* OPC 10000-4, 5.13.1.5 */
    sample.status = row->status | extra;
    UA_Variant cut;
    UA_Variant_init(&cut);
    if ((row->status & 0x80000000u) == 0) { /* the value of a bad status is null; OPC 10000-4, 7.11 */
        value_borrow(node, row, &word, &sample.value);
        sample.hasValue = true;
        if (item->itemToMonitor.indexRange.length > 0) {
            UA_StatusCode status = range_cut(item, &sample.value, &cut);
            sample.hasValue = status == UA_STATUSCODE_GOOD;
            sample.value = cut;
            sample.value.storageType = UA_VARIANT_DATA_NODELETE;
            sample.status = status == UA_STATUSCODE_GOOD ? sample.status : status;
        }
    }
    sample.hasStatus = sample.status != UA_STATUSCODE_GOOD;
    sample_times(item, row, server_time, &sample);
    UA_StatusCode status = item_take(server, item, &sample);
    if (status == UA_STATUSCODE_GOOD && extra != UA_STATUSCODE_GOOD) { /* says what was lost before, not how the value is */
        item->lastValue.status = sample.status & ~extra;
        item->lastValue.hasStatus = item->lastValue.status != UA_STATUSCODE_GOOD;
    }
    UA_Variant_clear(&cut);
    return status;
}

/* Hands what the row is now to all items that watch it. */
static void push_row(bf_ua_server *server, ua_row *row, int64_t server_time, UA_StatusCode extra) {
    UA_MonitoredItem *next;
    for (UA_MonitoredItem *item = row->watch; item != NULL; item = next) {
        next = LIST_NEXT(item, sampling.subscriptionSampling);
        if (item_push(server, item, row, server_time, extra) != UA_STATUSCODE_GOOD) {
            server->counts.samples_lost++;
            row_lose(&server->image, row); /* it is read again at the next tick, and then has the overflow bit */
            row->changed = 1;
            server->image.starved = true;
        }
    }
}

/* ---- which items are pushed ----------------------------------------------------------------------------------------------------- */

static void item_link(bf_ua_server *server, ua_row *row, UA_MonitoredItem *item) {
    item->sampling.subscriptionSampling.le_next = row->watch;
    if (row->watch != NULL) {
        row->watch->sampling.subscriptionSampling.le_prev = &item->sampling.subscriptionSampling.le_next;
    }
    item->sampling.subscriptionSampling.le_prev = &row->watch;
    row->watch = item;
    server->counts.items_pushed++;
}

static void item_unlink(bf_ua_server *server, UA_MonitoredItem *item) {
    if (item->sampling.subscriptionSampling.le_prev != NULL) {
        LIST_REMOVE(item, sampling.subscriptionSampling);
        item->sampling.subscriptionSampling.le_prev = NULL;
        server->counts.items_pushed--;
    }
}

/* Whether the item asked for fewer samples than there are changes to be told. What it asked for has been clamped to the two minima by now, so
 * that exactly a minimum means "as fast as you can". */
static bool item_is_slow(const bf_ua_server *server, const UA_MonitoredItem *item, const bf_ua_node *node) {
    double interval = item->parameters.samplingInterval;
    return item->subscription != NULL && interval > item->subscription->publishingInterval &&
           interval > UA_Server_getConfig(server->library)->samplingIntervalLimits.min && interval > (double)node->period_ms;
}

/* Takes the place of UA_MonitoredItem_registerSampling. */
UA_StatusCode bf_ua_sampling_begin(UA_Server *library, UA_MonitoredItem *item) {
    bf_ua_server *server = server_of(library);
    if (item->samplingType != UA_MONITOREDITEMSAMPLINGTYPE_NONE || item->monitoringMode == UA_MONITORINGMODE_DISABLED) {
        return UA_STATUSCODE_GOOD; /* ModifySubscription and ModifyMonitoredItems begin it again without looking at the mode */
    }
    if (memory_is_pressed(server)) {
        limit_reached(server, BF_UA_LIMIT_MEMORY);
        return UA_STATUSCODE_BADOUTOFMEMORY; /* the item is refused with this */
    }
    ua_found found = space_find(&server->space, &item->itemToMonitor.nodeId);
    bool is_value = item->itemToMonitor.attributeId == UA_ATTRIBUTEID_VALUE;
    bool is_orphan = found.kind == FOUND_NOTHING && item->itemToMonitor.nodeId.namespaceIndex == TAGS_NAMESPACE;
    if (is_orphan && item->registered && item->itemToMonitor.attributeId != UA_ATTRIBUTEID_EVENTNOTIFIER) {
        item->samplingType = UA_MONITOREDITEMSAMPLINGTYPE_EVENT; /* enabled again while its node is away: it waits for its return */
        item->sampling.subscriptionSampling.le_prev = NULL;
        return UA_STATUSCODE_GOOD;
    }
    if (found.kind == FOUND_NOTHING || item->itemToMonitor.attributeId == UA_ATTRIBUTEID_EVENTNOTIFIER) {
        return library_registerSampling(library, item);
    }
    const bf_ua_node *node = &server->space.nodes[found.node];
    bool is_tag_value = is_value && found.kind == FOUND_NODE && node->kind != BF_UA_FOLDER;
    if (is_tag_value && item_is_slow(server, item, node)) {
        UA_StatusCode status = library_registerSampling(library, item);
        server->sample_expected = server->creating && status == UA_STATUSCODE_GOOD;
        return status;
    }
    server->sample_expected = server->creating && is_tag_value; /* the library reads it next */
    item->samplingType = UA_MONITOREDITEMSAMPLINGTYPE_EVENT;
    item->sampling.subscriptionSampling.le_prev = NULL;
    item->parameters.samplingInterval = 0.0; /* revised: reported by exception; OPC 10000-4, 7.21 */
    if (is_tag_value) { /* names, types and properties change with the space only */
        item_link(server, &server->image.rows[node->row], item);
    }
    return UA_STATUSCODE_GOOD;
}

/* Takes the place of UA_MonitoredItem_unregisterSampling. */
void bf_ua_sampling_end(UA_Server *library, UA_MonitoredItem *item) {
    bool is_ours = item->itemToMonitor.nodeId.namespaceIndex == TAGS_NAMESPACE;
    if (item->samplingType != UA_MONITOREDITEMSAMPLINGTYPE_EVENT || !is_ours) {
        library_unregisterSampling(library, item);
        return;
    }
    item_unlink(server_of(library), item);
    item->samplingType = UA_MONITOREDITEMSAMPLINGTYPE_NONE;
}
