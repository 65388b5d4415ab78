/* ua_channel.c: what the server's thread and the rest of the process say to each other.
 *
 * Part of ua_unit.c. Three bounded queues under one lock that is held for copies only: events out (an eventfd is readable while there are any),
 * answers to writes in, and one call that the thread makes for somebody who waits. */

#define DONES_PER_WRITE 2 /* a token is answered once; an answer that comes after its time-out may lie beside that of the next token */

static UA_StatusCode channel_make(ua_channel *channel, const bf_ua_limits *limits) {
    channel->events_size = limits->events_max + 2 * limits->writes_parked_max;
    channel->dones_size = DONES_PER_WRITE * limits->writes_parked_max;
    channel->events = calloc(channel->events_size, sizeof *channel->events);
    channel->dones = calloc(channel->dones_size, sizeof *channel->dones);
    channel->events_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    channel->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&channel->lock, NULL); /* neither can fail here: glibc and musl allocate nothing for them */
    pthread_cond_init(&channel->called, NULL);
    bool made = channel->events != NULL && channel->dones != NULL && channel->events_fd >= 0 && channel->wake_fd >= 0;
    return made ? UA_STATUSCODE_GOOD : UA_STATUSCODE_BADOUTOFMEMORY;
}

static void channel_clear(ua_channel *channel) {
    for (uint32_t i = 0; i < channel->events_count; i++) {
        free(channel->events[(channel->events_first + i) % channel->events_size].bytes);
    }
    free(channel->events);
    free(channel->dones);
    if (channel->events_fd >= 0) {
        close(channel->events_fd);
    }
    if (channel->wake_fd >= 0) {
        close(channel->wake_fd);
    }
    pthread_mutex_destroy(&channel->lock);
    pthread_cond_destroy(&channel->called);
}

static void fd_raise(int fd) {
    uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof one);
    (void)written; /* it fails only if the counter is full: then the fd is readable anyway */
}

static void fd_lower(int fd) {
    uint64_t count;
    ssize_t taken = read(fd, &count, sizeof count);
    (void)taken; /* it fails only if the counter is 0 */
}

/* ---- events --------------------------------------------------------------------------------------------------------------------- */

static int64_t utc_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Puts an event into the queue and takes `bytes` over. False: there is no room, nothing is taken. */
static bool event_put(bf_ua_server *server, bf_ua_event *event, uint8_t *bytes) {
    ua_channel *channel = &server->channel;
    bool is_write = event->kind == BF_UA_EVENT_WRITE;
    event->time = utc_now_ns();
    pthread_mutex_lock(&channel->lock);
    bool fits = channel->events_count < channel->events_size &&
                (is_write || channel->others_count < server->config.limits.events_max);
    if (fits) {
        uint32_t at = (channel->events_first + channel->events_count) % channel->events_size;
        channel->events[at] = (ua_event_slot){*event, bytes};
        channel->events_count++;
        channel->others_count += is_write ? 0 : 1;
        if (channel->events_count == 1) {
            fd_raise(channel->events_fd);
        }
    }
    pthread_mutex_unlock(&channel->lock);
    server->counts.events_dropped += fits ? 0 : 1;
    return fits;
}

int bf_ua_events_fd(const bf_ua_server *server) {
    assert(server != NULL);
    return server->channel.events_fd;
}

int32_t bf_ua_event_take(bf_ua_server *server, bf_ua_event *event, uint8_t *bytes, size_t size) {
    assert(server != NULL && event != NULL);
    ua_channel *channel = &server->channel;
    ua_event_slot slot = {.bytes = NULL};
    pthread_mutex_lock(&channel->lock);
    bool taken = channel->events_count > 0;
    if (taken) {
        slot = channel->events[channel->events_first];
        channel->events_first = (channel->events_first + 1) % channel->events_size;
        channel->events_count--;
        channel->others_count -= slot.event.kind == BF_UA_EVENT_WRITE ? 0 : 1;
        if (channel->events_count == 0) {
            fd_lower(channel->events_fd);
        }
    }
    pthread_mutex_unlock(&channel->lock);
    if (!taken) {
        return 0;
    }
    *event = slot.event;
    assert(slot.event.bytes_count <= size);
    if (slot.bytes != NULL && slot.event.bytes_count <= size) {
        memcpy(bytes, slot.bytes, slot.event.bytes_count);
    }
    free(slot.bytes);
    return 1;
}

/* Copies a text of the library into a field of an event; cut at the end of a character. */
static void text_copy(char *target, size_t size, UA_String text) {
    size_t length = text.length < size - 1 ? text.length : size - 1;
    while (length < text.length && length > 0 && (text.data[length] & 0xC0) == 0x80) {
        length--;
    }
    if (length > 0) {
        memcpy(target, text.data, length);
    }
    target[length] = '\0';
}

/* Tells once a second at most that a limit was reached. */
static void limit_reached(bf_ua_server *server, uint32_t limit) {
    assert(limit > 0 && limit < LIMITS_KINDS);
    UA_DateTime now = UA_DateTime_nowMonotonic();
    server->counts.limits_reached++;
    if (server->limits_told[limit] == 0 || now - server->limits_told[limit] > UA_DATETIME_SEC) {
        server->limits_told[limit] = now;
        bf_ua_event event = {.kind = BF_UA_EVENT_LIMIT_REACHED, .row = limit};
        (void)event_put(server, &event, NULL);
    }
}

/* ---- answers to writes ---------------------------------------------------------------------------------------------------------- */

void bf_ua_write_done(bf_ua_server *server, uint64_t token, uint32_t status) {
    assert(server != NULL);
    ua_channel *channel = &server->channel;
    pthread_mutex_lock(&channel->lock);
    if (channel->dones_count < channel->dones_size) { /* else the caller answers what was never asked */
        channel->dones[(channel->dones_first + channel->dones_count) % channel->dones_size] = (ua_done){token, status};
        channel->dones_count++;
    }
    pthread_mutex_unlock(&channel->lock);
    fd_raise(channel->wake_fd);
}

static bool done_take(ua_channel *channel, ua_done *out) {
    pthread_mutex_lock(&channel->lock);
    bool taken = channel->dones_count > 0;
    if (taken) {
        *out = channel->dones[channel->dones_first];
        channel->dones_first = (channel->dones_first + 1) % channel->dones_size;
        channel->dones_count--;
    }
    pthread_mutex_unlock(&channel->lock);
    return taken;
}

/* ---- calls ---------------------------------------------------------------------------------------------------------------------- */

/* Has `function` called by the server's thread, and waits for it. */
static UA_StatusCode channel_call(bf_ua_server *server, UA_StatusCode (*function)(bf_ua_server *, void *), void *argument) {
    ua_channel *channel = &server->channel;
    ua_call call = {.function = function, .argument = argument};
    pthread_mutex_lock(&channel->lock);
    while (channel->call != NULL) {
        pthread_cond_wait(&channel->called, &channel->lock);
    }
    channel->call = &call;
    fd_raise(channel->wake_fd);
    while (!call.done) {
        pthread_cond_wait(&channel->called, &channel->lock);
    }
    pthread_mutex_unlock(&channel->lock);
    return call.status;
}

/* Makes the call that waits, if one does. */
static void call_serve(bf_ua_server *server) {
    ua_channel *channel = &server->channel;
    pthread_mutex_lock(&channel->lock);
    ua_call *call = channel->call;
    pthread_mutex_unlock(&channel->lock);
    if (call == NULL) {
        return;
    }
    UA_StatusCode status = call->function(server, call->argument); /* without the lock: it may put events */
    pthread_mutex_lock(&channel->lock);
    call->status = status;
    call->done = true;
    channel->call = NULL;
    pthread_cond_broadcast(&channel->called);
    pthread_mutex_unlock(&channel->lock);
}
