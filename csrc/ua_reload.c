/* ua_reload.c: another space while clients are connected.
 *
 * Part of ua_unit.c. The new space and image are made by the thread that asks, beside the old ones; the server's thread then only moves items over:
 * an item belongs to an id. Where the id still names the same kind of thing the item goes on; else it is told that its node is unknown, and stays
 * as it is, silent, until a space has its id again. Rows that are kept keep their image, so that nobody sees a value twice. */

typedef struct {
    ua_space space;
    ua_image image;
} reload_made;

/* Whether a variable is the same thing to a client as before. */
static bool node_is_same(const bf_ua_node *before, const bf_ua_node *after) {
    return before->kind == after->kind && before->type == after->type && before->array_length == after->array_length;
}

/* Takes over what was known of the rows that stay: same row, same kind of value, same id. */
static void rows_keep(bf_ua_server *server, reload_made *made) {
    for (uint32_t i = 0; i < server->image.rows_count && i < made->image.rows_count; i++) {
        ua_row *before = &server->image.rows[i];
        ua_row *after = &made->image.rows[i];
        if (before->node == NO_NODE || after->node == NO_NODE || before->lost != 0 || before->ahead != 0) {
            continue;
        }
        const bf_ua_node *old_node = &server->space.nodes[before->node];
        const bf_ua_node *new_node = &made->space.nodes[after->node];
        UA_String old_id = node_id_text(&server->space, before->node);
        UA_String new_id = node_id_text(&made->space, after->node);
        if (!node_is_same(old_node, new_node) || !UA_String_equal(&old_id, &new_id)) {
            continue;
        }
        if (node_has_cell(new_node)) {
            if (after->value.cell->size < before->value.cell->length) {
                continue;
            }
            memcpy(after->value.cell->bytes, before->value.cell->bytes, before->value.cell->length);
            after->value.cell->length = before->value.cell->length;
        } else {
            after->value.bits = before->value.bits;
        }
        after->source_time = before->source_time;
        after->status = before->status;
        row_find(&made->image, after);
    }
}

/* Tells an item that its node is gone. */
static void item_orphan(bf_ua_server *server, UA_MonitoredItem *item) {
    UA_DataValue sample;
    UA_DataValue_init(&sample);
    sample.status = UA_STATUSCODE_BADNODEIDUNKNOWN;
    sample.hasStatus = true;
    UA_TimestampsToReturn wanted = item->timestampsToReturn;
    sample.hasServerTimestamp = wanted == UA_TIMESTAMPSTORETURN_SERVER || wanted == UA_TIMESTAMPSTORETURN_BOTH;
    sample.serverTimestamp = UA_DateTime_now();
    if (item_take(server, item, &sample) != UA_STATUSCODE_GOOD) {
        server->counts.samples_lost++;
    }
}

/* What became of the id that an item is on. */
typedef enum { ID_STAYS, ID_GOES, ID_COMES, ID_CHANGES, ID_MISSING } ua_fate;

static ua_fate item_fate(const bf_ua_server *server, const UA_MonitoredItem *item, const ua_space *old_space, ua_found after) {
    ua_found before = space_find(old_space, &item->itemToMonitor.nodeId);
    if (before.kind == FOUND_NOTHING) {
        return after.kind == FOUND_NOTHING ? ID_MISSING : ID_COMES;
    }
    if (after.kind == FOUND_NOTHING) {
        return ID_GOES;
    }
    bool is_same = before.kind == after.kind &&
                   (before.kind != FOUND_NODE || node_is_same(&old_space->nodes[before.node], &server->space.nodes[after.node]));
    return is_same ? ID_STAYS : ID_CHANGES;
}

/* Moves one item into the new space, or tells it that its node is gone. The old image is still there; the new one is in place. */
static void item_move(bf_ua_server *server, UA_MonitoredItem *item, ua_fate fate, ua_found after) {
    bool is_linked = item->sampling.subscriptionSampling.le_prev != NULL;
    item_unlink(server, item);
    if (fate == ID_GOES || fate == ID_CHANGES) {
        item_orphan(server, item);
    } else if (fate == ID_STAYS && is_linked) {
        item_link(server, &server->image.rows[server->space.nodes[after.node].row], item);
    } else if (fate == ID_STAYS) { /* a name, type or property: it may have changed */
        monitoredItem_sampleCallback(server->library, item);
    }
}

/* Brings an item to life whose node has come back, maybe as something else. The new image has been filled. */
static void item_return(bf_ua_server *server, UA_MonitoredItem *item, ua_fate fate, ua_found after) {
    if (fate != ID_COMES && fate != ID_CHANGES) {
        return;
    }
    const bf_ua_node *node = &server->space.nodes[after.node];
    if (item->itemToMonitor.attributeId == UA_ATTRIBUTEID_VALUE && after.kind == FOUND_NODE && node->kind != BF_UA_FOLDER) {
        item_link(server, &server->image.rows[node->row], item);
    }
    monitoredItem_sampleCallback(server->library, item);
}

/* Calls `function` for every item of ours that is reported by exception. Slow ones are sampled by the library, which finds out by itself. */
static void items_visit(bf_ua_server *server, const ua_space *old_space,
                        void (*function)(bf_ua_server *, UA_MonitoredItem *, ua_fate, ua_found)) {
    UA_Subscription *subscription;
    LIST_FOREACH(subscription, &server->library->subscriptions, serverListEntry) {
        UA_MonitoredItem *item;
        LIST_FOREACH(item, &subscription->monitoredItems, listEntry) {
            if (item->itemToMonitor.nodeId.namespaceIndex == TAGS_NAMESPACE &&
                item->itemToMonitor.attributeId != UA_ATTRIBUTEID_EVENTNOTIFIER &&
                item->samplingType == UA_MONITOREDITEMSAMPLINGTYPE_EVENT) {
                ua_found after = space_find(&server->space, &item->itemToMonitor.nodeId);
                function(server, item, item_fate(server, item, old_space, after), after);
            }
        }
    }
}

/* Tells clients that subscribed to events of the Server object that the space changed. OPC 10000-3, 9.32.7. */
static UA_StatusCode model_change_tell(bf_ua_server *server) {
    UA_NodeId event;
    UA_NodeId type = UA_NODEID_NUMERIC(0, UA_NS0ID_GENERALMODELCHANGEEVENTTYPE);
    UA_StatusCode status = UA_Server_createEvent(server->library, type, &event);
    if (status != UA_STATUSCODE_GOOD) {
        return status;
    }
    UA_ModelChangeStructureDataType change = {
        .affected = server->space.ids[0],
        .affectedType = UA_NODEID_NUMERIC(0, UA_NS0ID_FOLDERTYPE),
        .verb = 0x01 | 0x02 | 0x04 | 0x08, /* nodes and references, added and deleted, at or below it; OPC 10000-5, 12.16 */
    };
    UA_Variant changes;
    UA_Variant_setArray(&changes, &change, 1, &UA_TYPES[UA_TYPES_MODELCHANGESTRUCTUREDATATYPE]);
    status = UA_Server_writeObjectProperty(server->library, event, UA_QUALIFIEDNAME(0, "Changes"), changes);
    UA_UInt16 severity = 1;
    status |= UA_Server_writeObjectProperty_scalar(server->library, event, UA_QUALIFIEDNAME(0, "Severity"), &severity,
                                                   &UA_TYPES[UA_TYPES_UINT16]);
    UA_LocalizedText message = UA_LOCALIZEDTEXT("en", "The tags were configured anew.");
    status |= UA_Server_writeObjectProperty_scalar(server->library, event, UA_QUALIFIEDNAME(0, "Message"), &message,
                                                   &UA_TYPES[UA_TYPES_LOCALIZEDTEXT]);
    UA_String source = UA_STRING("Server");
    status |= UA_Server_writeObjectProperty_scalar(server->library, event, UA_QUALIFIEDNAME(0, "SourceName"), &source,
                                                   &UA_TYPES[UA_TYPES_STRING]);
    UA_DateTime now = UA_DateTime_now();
    status |= UA_Server_writeObjectProperty_scalar(server->library, event, UA_QUALIFIEDNAME(0, "Time"), &now, &UA_TYPES[UA_TYPES_DATETIME]);
    if (status == UA_STATUSCODE_GOOD) {
        status = UA_Server_triggerEvent(server->library, event, UA_NODEID_NUMERIC(0, UA_NS0ID_SERVER), NULL, true);
    }
    if (status != UA_STATUSCODE_GOOD) { /* else the node of the event would stay */
        (void)UA_Server_deleteNode(server->library, event, true);
    }
    UA_NodeId_clear(&event);
    return status;
}

static UA_StatusCode reload_serve(bf_ua_server *server, void *argument) {
    reload_made *made = argument;
    UA_String old_root = node_id_text(&server->space, 0);
    UA_String new_root = node_id_text(&made->space, 0);
    if (!UA_String_equal(&old_root, &new_root)) {
        return UA_STATUSCODE_BADINVALIDARGUMENT; /* the reference from Objects names it */
    }
    (void)image_drain(server); /* what the ring holds belongs to the old rows */
    rows_keep(server, made);
    ua_space old_space = server->space;
    ua_image old_image = server->image;
    made->image.position = old_image.position;
    made->image.watcher = old_image.watcher;
    server->space = made->space;
    server->image = made->image;
    items_visit(server, &old_space, item_move);
    (void)image_drain(server); /* now rows that are new have their values, and items that come back begin with them */
    items_visit(server, &old_space, item_return);
    image_clear(&old_image, &old_space);
    space_clear(&old_space);
    memset(made, 0, sizeof *made);
    (void)model_change_tell(server); /* short of memory: a client learns of it when it browses again */
    return UA_STATUSCODE_GOOD;
}

uint32_t bf_ua_space_swap(bf_ua_server *server, const bf_ua_space *given) {
    assert(server != NULL);
    reload_made *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    UA_StatusCode status = space_make(server, given, &made->space);
    if (status == UA_STATUSCODE_GOOD) {
        status = image_make(server, &made->space, &made->image);
    }
    if (status == UA_STATUSCODE_GOOD) {
        status = channel_call(server, reload_serve, made);
    }
    image_clear(&made->image, &made->space);
    space_clear(&made->space);
    free(made);
    return status;
}

/* ---- users ---------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    ua_user *users;
    uint32_t users_count;
    uint32_t anonymous;
} users_made;

static UA_StatusCode users_serve(bf_ua_server *server, void *argument) {
    users_made *made = argument;
    ua_user *old_users = server->users;
    server->users = made->users;
    server->users_count = made->users_count;
    server->anonymous = made->anonymous;
    made->users = old_users;
    logins_offer(server, &UA_Server_getConfig(server->library)->accessControl);
    return UA_STATUSCODE_GOOD;
}

uint32_t bf_ua_users_set(bf_ua_server *server, const bf_ua_user *users, uint32_t users_count, uint32_t anonymous) {
    assert(server != NULL);
    if (anonymous > BF_UA_ROLE_WRITE || (users == NULL && users_count > 0)) {
        return UA_STATUSCODE_BADINVALIDARGUMENT;
    }
    users_made made = {.users_count = users_count, .anonymous = anonymous};
    UA_StatusCode status = users_make(users, users_count, &made.users);
    if (status == UA_STATUSCODE_GOOD) {
        status = channel_call(server, users_serve, &made);
        free(made.users); /* the old ones */
    }
    return status;
}
