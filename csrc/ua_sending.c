/* ua_sending.c: nobody waits for a client that does not read.
 *
 * Part of ua_unit.c. The library sends by waiting, for as long as it takes, until the kernel has taken everything: one client that stops
 * reading, or whose cable is pulled, stops the server for all. So we send: what the kernel does not take is kept, and goes when the connection
 * has room again. Until then nothing of that connection is read or served, so that it cannot ask for more. What is kept shares the budget of
 * messages that have not ended (ua_strangers.c). */

static UA_StatusCode held_check(bf_ua_server *server, UA_SecureChannel *channel, size_t more);

typedef struct ua_unsent_part {
    SIMPLEQ_ENTRY(ua_unsent_part) next;
    size_t length;
    size_t sent;
    uint8_t bytes[];
} ua_unsent_part;

/* A connection that is to get more than it takes. */
struct ua_unsent {
    LIST_ENTRY(ua_unsent) link;
    TCP_FD *connection;
    size_t bytes; /* of all its parts, as allocated */
    SIMPLEQ_HEAD(, ua_unsent_part) parts;
};

static ua_unsent *unsent_find(const bf_ua_server *server, uintptr_t connection) {
    ua_unsent *unsent;
    LIST_FOREACH(unsent, &server->unsent, link) {
        if ((uintptr_t)unsent->connection->rfd.fd == connection) {
            return unsent;
        }
    }
    return NULL;
}

/* Forgets the first part. */
static void part_free(ua_unsent *unsent) {
    ua_unsent_part *part = SIMPLEQ_FIRST(&unsent->parts);
    SIMPLEQ_REMOVE_HEAD(&unsent->parts, next);
    unsent->bytes -= sizeof *part + part->length;
    free(part);
}

static void unsent_free(ua_unsent *unsent) {
    while (!SIMPLEQ_EMPTY(&unsent->parts)) {
        part_free(unsent);
    }
    LIST_REMOVE(unsent, link);
    free(unsent);
}

/* What is kept for a connection, in bytes. */
static size_t unsent_bytes(const bf_ua_server *server, uintptr_t connection) {
    const ua_unsent *unsent = unsent_find(server, connection);
    return unsent == NULL ? 0 : unsent->bytes;
}

static void unsent_forget(bf_ua_server *server, uintptr_t connection) {
    ua_unsent *unsent = unsent_find(server, connection);
    if (unsent != NULL) {
        unsent_free(unsent);
    }
}

/* Sends what the kernel takes at once; *sent becomes how much that was. Bad: the connection is broken. */
static UA_StatusCode socket_send(uintptr_t connection, const uint8_t *bytes, size_t length, size_t *sent) {
    *sent = 0;
    while (*sent < length) {
        ssize_t count = send((int)connection, bytes + *sent, length - *sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno != EINTR) {
            return errno == EAGAIN || errno == EWOULDBLOCK ? UA_STATUSCODE_GOOD : UA_STATUSCODE_BADCONNECTIONCLOSED;
        }
        *sent += count < 0 ? 0 : (size_t)count;
    }
    return UA_STATUSCODE_GOOD;
}

/* Sends on what was kept, as far as it goes. */
static UA_StatusCode unsent_flush(ua_unsent *unsent) {
    while (!SIMPLEQ_EMPTY(&unsent->parts)) {
        ua_unsent_part *part = SIMPLEQ_FIRST(&unsent->parts);
        size_t sent;
        UA_StatusCode status =
            socket_send((uintptr_t)unsent->connection->rfd.fd, part->bytes + part->sent, part->length - part->sent, &sent);
        part->sent += sent;
        if (status != UA_STATUSCODE_GOOD || part->sent < part->length) {
            return status;
        }
        part_free(unsent);
    }
    return UA_STATUSCODE_GOOD;
}

/* Listens for `events` of a connection from now on. */
static void connection_listen(TCP_FD *connection, UA_EventLoop *loop, short events) {
    connection->rfd.listenEvents = events;
    (void)UA_EventLoopPOSIX_modifyFD((UA_EventLoopPOSIX *)loop, &connection->rfd); /* of a descriptor that is registered: it can't fail */
}

/* Takes the place of TCP_connectionSocketCallback for a connection that was once full. */
static void on_connection(UA_ConnectionManager *manager, TCP_FD *connection, short event) {
    if (event != UA_FDEVENT_OUT) {
        TCP_connectionSocketCallback(manager, connection, event);
        return;
    }
    bf_ua_server *server = manager->eventSource.eventLoop->logger->context;
    ua_unsent *unsent = unsent_find(server, (uintptr_t)connection->rfd.fd);
    if (unsent != NULL && unsent_flush(unsent) != UA_STATUSCODE_GOOD) {
        TCP_shutdown(manager, connection);
        return;
    }
    if (unsent != NULL && !SIMPLEQ_EMPTY(&unsent->parts)) {
        return;
    }
    unsent_forget(server, (uintptr_t)connection->rfd.fd);
    connection_listen(connection, manager->eventSource.eventLoop, UA_FDEVENT_IN);
    connection->applicationCB(manager, (uintptr_t)connection->rfd.fd, connection->application, &connection->context,
                              UA_CONNECTIONSTATE_ESTABLISHED, &UA_KEYVALUEMAP_NULL, UA_BYTESTRING_NULL); /* what was not served */
}

/* Keeps a copy of what was not taken: the library's own buffer is as large as a chunk can be. */
static UA_StatusCode unsent_add(bf_ua_server *server, ua_unsent *unsent, const uint8_t *bytes, size_t length) {
    size_t size = sizeof(ua_unsent_part) + length;
    UA_StatusCode status = held_check(server, unsent->connection->context, size);
    if (status != UA_STATUSCODE_GOOD) {
        return status;
    }
    ua_unsent_part *part = malloc(size);
    if (part == NULL) {
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    part->length = length;
    part->sent = 0;
    memcpy(part->bytes, bytes, length);
    SIMPLEQ_INSERT_TAIL(&unsent->parts, part, next);
    unsent->bytes += size;
    return UA_STATUSCODE_GOOD;
}

/* Begins to keep what `connection` does not take; NULL if it is none, or is closing. */
static ua_unsent *unsent_begin(bf_ua_server *server, UA_ConnectionManager *manager, uintptr_t connection) {
    UA_FD fd = (UA_FD)connection;
    TCP_FD *found = (TCP_FD *)ZIP_FIND(UA_FDTree, &((UA_POSIXConnectionManager *)manager)->fds, &fd);
    ua_unsent *unsent = found == NULL || found->rfd.dc.callback != NULL ? NULL : calloc(1, sizeof *unsent);
    if (unsent != NULL) {
        SIMPLEQ_INIT(&unsent->parts);
        unsent->connection = found;
        LIST_INSERT_HEAD(&server->unsent, unsent, link);
        found->rfd.eventSourceCB = (UA_FDCallback)on_connection;
        connection_listen(found, manager->eventSource.eventLoop, UA_FDEVENT_OUT);
    }
    return unsent;
}

/* Takes the place of TCP_sendWithConnection; `buffer` is taken in any case. */
static UA_StatusCode connection_send(UA_ConnectionManager *manager, uintptr_t connection, const UA_KeyValueMap *parameters,
                                     UA_ByteString *buffer) {
    (void)parameters;
    bf_ua_server *server = manager->eventSource.eventLoop->logger->context;
    ua_unsent *unsent = unsent_find(server, connection);
    size_t sent = 0;
    UA_StatusCode status = UA_STATUSCODE_GOOD;
    if (unsent == NULL) {
        status = socket_send(connection, buffer->data, buffer->length, &sent);
    }
    if (status == UA_STATUSCODE_GOOD && sent < buffer->length) {
        unsent = unsent == NULL ? unsent_begin(server, manager, connection) : unsent;
        status = unsent == NULL ? UA_STATUSCODE_BADCONNECTIONCLOSED
                                : unsent_add(server, unsent, buffer->data + sent, buffer->length - sent);
    }
    UA_ByteString_clear(buffer);
    if (status != UA_STATUSCODE_GOOD) {
        (void)manager->closeConnection(manager, connection);
        return UA_STATUSCODE_BADCONNECTIONCLOSED;
    }
    return UA_STATUSCODE_GOOD;
}

/* Takes the place of UA_SecureChannel_getCompleteMessage. That there is none yet is said by a payload that stays empty. */
UA_StatusCode bf_ua_message_take(UA_SecureChannel *channel, UA_MessageType *kind, UA_UInt32 *request_id, UA_ByteString *payload,
                                 UA_Boolean *is_copied) {
    const bf_ua_server *server = server_of(channel->processOPNHeaderApplication); /* the library, as createServerSecureChannel sets it */
    if (unsent_bytes(server, channel->connectionId) > 0) {
        return UA_STATUSCODE_GOOD;
    }
    return library_getCompleteMessage(channel, kind, request_id, payload, is_copied);
}

/* Takes the place of UA_SecureChannel_clear, which is called before the connection's number is free for another one. */
void bf_ua_channel_end(UA_SecureChannel *channel) {
    unsent_forget(server_of(channel->processOPNHeaderApplication), channel->connectionId);
    library_clearChannel(channel);
}
