/* ua_write.c: a write to a tag is answered when the device has answered.
 *
 * Part of ua_unit.c. The library's Write service answers at once, so it is replaced: values for tags are checked, sent out as events and parked;
 * the response is kept back (bf_ua_response_send) and sent when the last of them has its answer or its time is over. Nobody waits meanwhile.
 * What is not a tag is left to the library. A token is the place of a parked value and how often that place was used, so that an answer that
 * comes too late meets nobody. */

#define NO_PLACE 0xFFFFFFFFu

static UA_StatusCode writes_make(bf_ua_server *server) {
    uint32_t count = server->config.limits.writes_parked_max;
    server->parked_values = calloc(count, sizeof *server->parked_values);
    if (server->parked_values == NULL) {
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    for (uint32_t i = 0; i < count; i++) {
        server->parked_values[i].next = i + 1 < count ? i + 1 : NO_PLACE;
        server->parked_values[i].generation = 1; /* so that no token is 0 */
    }
    server->parked_free = 0;
    return UA_STATUSCODE_GOOD;
}

/* ---- the end of a write --------------------------------------------------------------------------------------------------------- */

static void request_free(ua_parked *request) {
    LIST_REMOVE(request, link);
    UA_NodeId_clear(&request->session_id);
    free(request->results);
    free(request);
}

/* The session that waits for the response; NULL when it is gone, or no longer on the channel that asked: the number of the request means nothing
 * on another one. */
static UA_Session *request_session(const bf_ua_server *server, const ua_parked *request) {
    UA_Session *session = getSessionById(server->library, &request->session_id);
    const UA_SecureChannel *channel = session == NULL ? NULL : session->header.channel;
    return channel != NULL && channel->securityToken.channelId == request->channel_id ? session : NULL;
}

static void request_answer(bf_ua_server *server, ua_parked *request) {
    UA_Session *session = request_session(server, request);
    if (session != NULL) {
        UA_WriteResponse response;
        UA_WriteResponse_init(&response);
        response.responseHeader.requestHandle = request->request_handle;
        response.responseHeader.serviceResult = request->status;
        if (request->status == UA_STATUSCODE_GOOD) {
            response.results = request->results;
            response.resultsSize = request->results_count;
        }
        (void)library_sendResponse(server->library, session, session->header.channel, request->request_id, (UA_Response *)&response,
                                   &UA_TYPES[UA_TYPES_WRITERESPONSE]); /* if it fails the client's own time-out answers */
    }
    request_free(request);
}

/* Frees the place of a parked value. */
static void value_free(bf_ua_server *server, ua_parked_value *value) {
    value->request = NULL;
    value->generation++;
    value->next = server->parked_free;
    server->parked_free = (uint32_t)(value - server->parked_values);
    server->counts.writes_parked--;
}

static void value_finish(bf_ua_server *server, ua_parked_value *value, UA_StatusCode status) {
    ua_parked *request = value->request;
    request->results[value->result] = status;
    request->open_count--;
    value_free(server, value);
    if (request->open_count == 0 && request != server->parking) {
        request_answer(server, request);
    }
}

static uint64_t value_token(const bf_ua_server *server, const ua_parked_value *value) {
    return (uint64_t)value->generation << 32 | (uint64_t)(value - server->parked_values);
}

static void value_abandon(bf_ua_server *server, ua_parked_value *value, UA_StatusCode status) {
    bf_ua_event event = {.kind = BF_UA_EVENT_WRITE_ABANDONED, .token = value_token(server, value), .status = status};
    (void)event_put(server, &event, NULL);
    value_finish(server, value, status);
}

/* Takes the devices' answers. */
static void writes_answer(bf_ua_server *server) {
    ua_done done;
    for (uint32_t i = 0; i < server->channel.dones_size && done_take(&server->channel, &done); i++) {
        uint32_t place = (uint32_t)done.token;
        if (place < server->config.limits.writes_parked_max) {
            ua_parked_value *value = &server->parked_values[place];
            if (value->request != NULL && value->generation == (uint32_t)(done.token >> 32)) {
                value_finish(server, value, done.status);
            }
        }
    }
}

/* Ends all parked values of `session`; NULL: of all sessions. */
static void writes_abandon(bf_ua_server *server, const UA_NodeId *session, UA_StatusCode status) {
    for (uint32_t i = 0; i < server->config.limits.writes_parked_max && server->counts.writes_parked > 0; i++) {
        ua_parked_value *value = &server->parked_values[i];
        if (value->request != NULL && (session == NULL || UA_NodeId_equal(session, &value->request->session_id))) {
            value_abandon(server, value, status);
        }
    }
}

/* Ends the parked values whose time is over, or whose client is gone. */
static void writes_expire(bf_ua_server *server) {
    UA_DateTime now = UA_DateTime_nowMonotonic();
    for (uint32_t i = 0; i < server->config.limits.writes_parked_max && server->counts.writes_parked > 0; i++) {
        ua_parked_value *value = &server->parked_values[i];
        if (value->request == NULL) {
            continue;
        }
        if (now >= value->deadline) {
            server->counts.writes_timed_out++;
            value_abandon(server, value, UA_STATUSCODE_BADTIMEOUT);
        } else if (request_session(server, value->request) == NULL) {
            value_abandon(server, value, UA_STATUSCODE_BADSECURECHANNELCLOSED);
        }
    }
}

/* Ends the writes of `session` whose request has the handle; returns the number of requests. */
static UA_UInt32 writes_cancel(bf_ua_server *server, const UA_Session *session, UA_UInt32 handle) {
    UA_UInt32 cancelled = 0;
    ua_parked *next;
    for (ua_parked *request = LIST_FIRST(&server->parked); request != NULL; request = next) {
        next = LIST_NEXT(request, link);
        if (request->request_handle != handle || !UA_NodeId_equal(&session->sessionId, &request->session_id)) {
            continue;
        }
        request->status = UA_STATUSCODE_BADREQUESTCANCELLEDBYCLIENT;
        size_t open = request->open_count; /* the last one takes the request with it */
        for (uint32_t i = 0; i < server->config.limits.writes_parked_max && open > 0; i++) {
            if (server->parked_values[i].request == request) {
                value_abandon(server, &server->parked_values[i], request->status);
                open--;
            }
        }
        cancelled++;
    }
    return cancelled;
}

/* ---- the beginning of a write --------------------------------------------------------------------------------------------------- */

/* Whether the write may go to the device at all. */
static UA_StatusCode write_check(const bf_ua_server *server, const UA_Session *session, ua_found found, const UA_WriteValue *write) {
    const bf_ua_node *node = &server->space.nodes[found.node];
    if (write->attributeId < UA_ATTRIBUTEID_NODEID || write->attributeId > UA_ATTRIBUTEID_ACCESSLEVELEX) {
        return UA_STATUSCODE_BADATTRIBUTEIDINVALID;
    }
    if (write->attributeId == UA_ATTRIBUTEID_VALUE && found.kind == FOUND_NODE && node->kind == BF_UA_FOLDER) {
        return UA_STATUSCODE_BADATTRIBUTEIDINVALID;
    }
    bool is_writable = found.kind == FOUND_NODE && node->kind == BF_UA_TAG && (node->flags & BF_UA_FLAG_WRITABLE) != 0;
    if (write->attributeId != UA_ATTRIBUTEID_VALUE || !is_writable) {
        return UA_STATUSCODE_BADNOTWRITABLE;
    }
    const ua_login *login = session->sessionHandle;
    if (login == NULL || login->role != BF_UA_ROLE_WRITE) {
        return UA_STATUSCODE_BADUSERACCESSDENIED;
    }
    if (write->indexRange.length > 0) {
        return UA_STATUSCODE_BADWRITENOTSUPPORTED;
    }
    return write->value.hasValue && write->value.value.type != NULL ? UA_STATUSCODE_GOOD : UA_STATUSCODE_BADTYPEMISMATCH;
}

/* UTC nanoseconds of any time a client can send; what 64 bits do not hold (before 1677, after 2262) becomes the nearest they do. */
static int64_t datetime_nanoseconds(UA_DateTime time) {
    int64_t ticks;
    int64_t nanoseconds;
    if (__builtin_sub_overflow(time, UA_DATETIME_UNIX_EPOCH, &ticks) || __builtin_mul_overflow(ticks, 100, &nanoseconds)) {
        return time > UA_DATETIME_UNIX_EPOCH ? INT64_MAX : INT64_MIN;
    }
    return nanoseconds;
}

/* Turns the client's value into an event; *bytes is owned by the caller. */
static UA_StatusCode write_convert(const bf_ua_server *server, const bf_ua_node *node, const UA_DataValue *given, bf_ua_event *event,
                                   uint8_t **bytes) {
    UA_StatusCode status;
    UA_String text = UA_STRING_NULL;
    size_t length = 0;
    if ((node->flags & BF_UA_FLAG_ARRAY) != 0) {
        length = (size_t)node->array_length * value_type(node->type)->memSize;
    } else {
        status = scalar_take(node, &given->value, &event->value, &text);
        if (status != UA_STATUSCODE_GOOD) {
            return status;
        }
        length = text.length;
    }
    if (length > server->config.limits.array_bytes_max) {
        return UA_STATUSCODE_BADOUTOFRANGE;
    }
    if (length > 0) {
        *bytes = malloc(length);
        if (*bytes == NULL) {
            return UA_STATUSCODE_BADOUTOFMEMORY;
        }
    }
    if ((node->flags & BF_UA_FLAG_ARRAY) != 0) {
        status = array_take(node, &given->value, *bytes);
        if (status != UA_STATUSCODE_GOOD) {
            return status;
        }
    } else if (length > 0) {
        memcpy(*bytes, text.data, length);
    }
    event->bytes_count = (uint32_t)length;
    event->type = node->type == BF_TYPE_BCD16 ? BF_TYPE_UINT16 : node->type == BF_TYPE_BCD32 ? BF_TYPE_UINT32 : node->type;
    event->flags |= given->hasStatus ? BF_UA_WRITE_HAS_STATUS : 0;
    event->status = given->hasStatus ? given->status : UA_STATUSCODE_GOOD;
    if (given->hasSourceTimestamp) {
        event->flags |= BF_UA_WRITE_HAS_SOURCE_TIME;
        event->source_time = datetime_nanoseconds(given->sourceTimestamp);
    }
    return UA_STATUSCODE_GOOD;
}

static void event_set_login(bf_ua_event *event, const UA_Session *session) {
    const ua_login *login = session->sessionHandle;
    if (login != NULL) {
        memcpy(event->user, login->user, sizeof login->user);
        memcpy(event->client, login->client, sizeof login->client);
    }
}

/* Sends one value on its way and parks it. */
static UA_StatusCode write_park(bf_ua_server *server, ua_parked *request, size_t result, bf_ua_event *event, uint8_t *bytes) {
    if (server->parked_free == NO_PLACE) {
        limit_reached(server, BF_UA_LIMIT_WRITES);
        return UA_STATUSCODE_BADTOOMANYOPERATIONS;
    }
    ua_parked_value *value = &server->parked_values[server->parked_free];
    event->kind = BF_UA_EVENT_WRITE;
    event->token = value_token(server, value);
    if (!event_put(server, event, bytes)) {
        return UA_STATUSCODE_BADTOOMANYOPERATIONS;
    }
    server->parked_free = value->next;
    value->request = request;
    value->result = result;
    value->deadline = UA_DateTime_nowMonotonic() + (UA_DateTime)server->config.limits.write_timeout_ms * UA_DATETIME_MSEC;
    request->open_count++;
    server->counts.writes_parked++;
    server->counts.writes++;
    return UA_STATUSCODE_GOOD;
}

static UA_StatusCode tag_write(bf_ua_server *server, UA_Session *session, ua_found found, const UA_WriteValue *write,
                               ua_parked *request, size_t result) {
    const bf_ua_node *node = &server->space.nodes[found.node];
    bf_ua_event event = {.row = node->row};
    event_set_login(&event, session);
    uint8_t *bytes = NULL;
    UA_StatusCode status = write_check(server, session, found, write);
    if (status == UA_STATUSCODE_GOOD) {
        status = write_convert(server, node, &write->value, &event, &bytes);
    }
    if (status == UA_STATUSCODE_GOOD) {
        status = write_park(server, request, result, &event, bytes);
    }
    if (status != UA_STATUSCODE_GOOD) {
        free(bytes);
        server->counts.writes_refused++;
        if (node->kind != BF_UA_FOLDER) {
            event.kind = BF_UA_EVENT_WRITE_REFUSED;
            event.status = status;
            event.bytes_count = 0;
            (void)event_put(server, &event, NULL);
        }
    }
    return status;
}

static ua_parked *request_make(bf_ua_server *server, const UA_Session *session, size_t count) {
    ua_parked *request = calloc(1, sizeof *request);
    if (request == NULL) {
        return NULL;
    }
    request->results = calloc(count, sizeof *request->results);
    request->results_count = count;
    LIST_INSERT_HEAD(&server->parked, request, link);
    if (request->results == NULL || UA_NodeId_copy(&session->sessionId, &request->session_id) != UA_STATUSCODE_GOOD) {
        request_free(request);
        return NULL;
    }
    return request;
}

/* Takes the place of Service_Write. */
void bf_ua_write(UA_Server *library, UA_Session *session, const UA_WriteRequest *given, UA_WriteResponse *response) {
    bf_ua_server *server = server_of(library);
    size_t count = given->nodesToWriteSize;
    if (count == 0 || count > server->config.limits.nodes_per_write_max) {
        response->responseHeader.serviceResult = count == 0 ? UA_STATUSCODE_BADNOTHINGTODO : UA_STATUSCODE_BADTOOMANYOPERATIONS;
        return;
    }
    ua_parked *request = request_make(server, session, count);
    if (request == NULL) {
        response->responseHeader.serviceResult = UA_STATUSCODE_BADOUTOFMEMORY;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const UA_WriteValue *write = &given->nodesToWrite[i];
        ua_found found = space_find(&server->space, &write->nodeId);
        if (found.kind == FOUND_NOTHING) {
            Operation_Write(library, session, NULL, write, &request->results[i]);
        } else {
            UA_StatusCode status = tag_write(server, session, found, write, request, i);
            request->results[i] = status;
        }
    }
    if (request->open_count > 0) {
        server->parking = request; /* bf_ua_response_send is called next */
        return;
    }
    response->results = request->results; /* allocated here: the same allocator as the library's */
    response->resultsSize = count;
    request->results = NULL;
    request_free(request);
}

/* ---- Cancel ---------------------------------------------------------------------------------------------------------------------- */

/* Answers the Publish requests of `session` that have the handle; returns their number. */
static UA_UInt32 publishes_cancel(bf_ua_server *server, UA_Session *session, UA_UInt32 handle) {
    UA_UInt32 cancelled = 0;
    size_t count = session->responseQueueSize;
    for (size_t i = 0; i < count; i++) { /* once around: those that stay are queued again, in their order */
        UA_PublishResponseEntry *entry = UA_Session_dequeuePublishReq(session);
        if (entry->response.responseHeader.requestHandle != handle) {
            UA_Session_queuePublishReq(session, entry, false);
            continue;
        }
        entry->response.responseHeader.serviceResult = UA_STATUSCODE_BADREQUESTCANCELLEDBYCLIENT;
        (void)library_sendResponse(server->library, session, session->header.channel, entry->requestId, (UA_Response *)&entry->response,
                                   &UA_TYPES[UA_TYPES_PUBLISHRESPONSE]);
        UA_PublishResponse_clear(&entry->response);
        free(entry);
        cancelled++;
    }
    return cancelled;
}

/* Takes the place of Service_Cancel, which knows nothing of parked writes, and answers a Publish with the answer to the Cancel. What was written
 * to a device is not undone. OPC 10000-4, 5.6.5. */
void bf_ua_cancel(UA_Server *library, UA_Session *session, const UA_CancelRequest *request, UA_CancelResponse *response) {
    bf_ua_server *server = server_of(library);
    response->cancelCount = publishes_cancel(server, session, request->requestHandle);
    response->cancelCount += writes_cancel(server, session, request->requestHandle);
}
