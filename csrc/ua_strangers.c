/* ua_strangers.c: what a client may hold without saying who it is, or without ending what it began.
 *
 * Part of ua_unit.c; ua_hooks.c brings the library's calls here. What lasts without a login is bounded by the library one by one, not in sum: a
 * message whose end never comes, answers that are not taken (ua_sending.c), a session that is created and never activated. So every connection
 * may hold a small part of a message; what is held beyond that has one budget, which is for clients with an activated session alone. And a
 * session that was not activated lives for the time of a login, and gives way to one that comes after it when there is no place left. */

#define CHUNK_BYTES 128 /* what a chunk takes besides its own bytes: a client may send them empty */

/* ---- messages that have not ended, and answers that were not taken --------------------------------------------------------------- */

/* Whether somebody has logged in on this channel. */
static bool channel_is_known(const UA_SecureChannel *channel) {
    const UA_SessionHeader *header;
    SLIST_FOREACH(header, &channel->sessions, next) {
        if (((const UA_Session *)header)->activated) { /* the header is its first member */
            return true;
        }
    }
    return false;
}

/* What is held for a channel between two turns. */
static size_t held_bytes(const bf_ua_server *server, const UA_SecureChannel *channel) {
    return channel->chunksLength + channel->chunksCount * CHUNK_BYTES + channel->unprocessed.length +
           unsent_bytes(server, channel->connectionId);
}

/* The sum of what is held beyond the part that every connection has, if `channel` held `more`; *most becomes the channel that holds most. */
static uint64_t held_sum(bf_ua_server *server, UA_SecureChannel *channel, size_t more, UA_SecureChannel **most) {
    const UA_BinaryProtocolManager *protocol =
        (UA_BinaryProtocolManager *)getServerComponentByName(server->library, UA_STRING("binary"));
    const size_t free_bytes = server->config.limits.login_bytes_max;
    size_t most_bytes = 0;
    uint64_t sum = 0;
    channel_entry *entry;
    TAILQ_FOREACH(entry, &protocol->channels, pointers) {
        size_t bytes = held_bytes(server, &entry->channel) + (&entry->channel == channel ? more : 0);
        sum += bytes > free_bytes ? bytes - free_bytes : 0;
        if (bytes > most_bytes) {
            most_bytes = bytes;
            *most = &entry->channel;
        }
    }
    return sum;
}

/* Closes a channel and frees what is held for it. */
static void channel_drop(bf_ua_server *server, UA_SecureChannel *channel) {
    UA_SecureChannel_deleteBuffered(channel);
    if (unsent_bytes(server, channel->connectionId) == 0) { /* else the error would come after what is not sent any more */
        UA_TcpErrorMessage error = {.error = UA_STATUSCODE_BADTCPNOTENOUGHRESOURCES};
        UA_SecureChannel_sendError(channel, &error);
    }
    UA_SecureChannel_shutdown(channel, UA_SHUTDOWNREASON_ABORT);
    unsent_forget(server, channel->connectionId);
}

/* Whether `more` bytes may be held for `channel`; for that, those that hold most are closed. Bad: it is this one that has to be closed. */
static UA_StatusCode held_check(bf_ua_server *server, UA_SecureChannel *channel, size_t more) {
    const bf_ua_limits *limits = &server->config.limits;
    if (held_bytes(server, channel) + more <= limits->login_bytes_max) {
        return UA_STATUSCODE_GOOD;
    }
    if (!channel_is_known(channel)) {
        limit_reached(server, BF_UA_LIMIT_LOGIN_BYTES);
        return UA_STATUSCODE_BADTCPMESSAGETOOLARGE;
    }
    UA_SecureChannel *most = NULL;
    while (held_sum(server, channel, more, &most) > limits->buffered_bytes_max) { /* each turn one channel less holds something */
        limit_reached(server, BF_UA_LIMIT_BUFFERED_BYTES);
        if (most == channel) {
            return UA_STATUSCODE_BADTCPNOTENOUGHRESOURCES;
        }
        channel_drop(server, most);
    }
    return UA_STATUSCODE_GOOD;
}

/* Takes the place of UA_SecureChannel_persistBuffer, which ends the processing of whatever a connection received. A bad status closes the
 * channel, with an error message that has it. */
UA_StatusCode bf_ua_buffer_keep(UA_SecureChannel *channel) {
    UA_StatusCode status = library_persistBuffer(channel);
    if (status != UA_STATUSCODE_GOOD || channel->chunksCount + channel->unprocessed.length == 0) {
        return status;
    }
    status = held_check(server_of(channel->processOPNHeaderApplication), channel, 0);
    if (status != UA_STATUSCODE_GOOD) {
        UA_SecureChannel_deleteBuffered(channel);
    }
    return status;
}

/* ---- sessions that were not activated -------------------------------------------------------------------------------------------- */

/* Makes place for a session, if one can be had: of those that were never activated the oldest goes. OPC 10000-4, 5.6.2.1. */
static void session_evict(bf_ua_server *server) {
    session_list_entry *oldest = NULL;
    session_list_entry *entry;
    LIST_FOREACH(entry, &server->library->sessions, pointers) { /* the newest is first */
        oldest = entry->session.activated ? oldest : entry;
    }
    if (oldest != NULL) {
        limit_reached(server, BF_UA_LIMIT_SESSIONS);
        UA_Server_removeSession(server->library, oldest, UA_SHUTDOWNREASON_ABORT);
    }
}

/* Takes the place of UA_Server_createSession. */
UA_StatusCode bf_ua_session_create(UA_Server *library, UA_SecureChannel *channel, const UA_CreateSessionRequest *request,
                                   UA_Session **session) {
    bf_ua_server *server = server_of(library);
    const UA_ServerConfig *config = &library->config;
    /* One connection has to be without a session: for a new connection only such a one is closed. */
    if (library->sessionCount >= config->maxSessions || library->sessionCount + 1 >= config->maxSecureChannels) {
        session_evict(server);
    }
    UA_StatusCode status = library_createSession(library, channel, request, session);
    if (status == UA_STATUSCODE_GOOD) {
        UA_DateTime end = UA_DateTime_nowMonotonic() + (UA_DateTime)server->config.limits.login_timeout_ms * UA_DATETIME_MSEC;
        (*session)->validTill = end < (*session)->validTill ? end : (*session)->validTill;
    }
    return status;
}

/* Takes the place of UA_Session_updateLifetime. Requests that need no login do not lengthen the time for one; the login itself does, and its
 * handle is set when it comes here. */
void bf_ua_session_renew(UA_Session *session) {
    if (session->sessionHandle != NULL || session->validTill == 0) { /* 0: just made */
        library_updateLifetime(session);
    }
}
