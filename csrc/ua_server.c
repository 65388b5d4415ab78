/* ua_server.c: one OPC UA server, owned by one thread.
 *
 * Part of ua_unit.c. States: starting, serving, stopping. bf_ua_server_start makes the thread and waits; the thread makes the server, says how
 * that went and iterates until it is told to stop; then it deletes the server and ends. Only that thread calls the library. It sleeps in the
 * library's event loop, where our eventfd wakes it: for changes in the ring, for answers to writes, for calls, and to stop. */

#define STACK_BYTES ((size_t)1 << 20) /* the library's deepest path, RSA in mbedTLS, takes a tenth of it */
#define TICK_MS 100.0                 /* how much later than its time-out a write may be answered */

/* ---- while serving -------------------------------------------------------------------------------------------------------------- */

static void stats_publish(bf_ua_server *server) {
    const UA_Server *library = server->library;
    bf_ua_stats *counts = &server->counts;
    counts->connections = library->secureChannelStatistics.currentChannelCount;
    counts->connections_refused = library->secureChannelStatistics.channelPurgeCount;
    counts->sessions = library->sessionCount;
    counts->subscriptions = library->subscriptionsSize;
    counts->monitored_items = library->monitoredItemsSize;
    counts->notifications_granted = server->notifications_granted + library->monitoredItemsSize;
    uint64_t numbers[STATS_COUNT];
    memcpy(numbers, counts, sizeof numbers);
    for (size_t i = 0; i < STATS_COUNT; i++) {
        atomic_store_explicit(&server->stats[i], numbers[i], memory_order_relaxed);
    }
}

/* Tells of allocations that were refused, whoever asked for them. */
static void refusals_tell(bf_ua_server *server) {
    bf_ua_memory memory;
    bf_ua_memory_read(&memory);
    if (memory.refused_count != server->refused_told) {
        server->refused_told = memory.refused_count;
        limit_reached(server, BF_UA_LIMIT_MEMORY);
    }
}

static void tick(UA_Server *library, void *context) {
    bf_ua_server *server = context;
    refusals_tell(server);
    writes_expire(server);
    if (library->secureChannelStatistics.channelPurgeCount != server->counts.connections_refused) { /* since the last turn */
        limit_reached(server, BF_UA_LIMIT_CONNECTIONS);
    }
    if (server->image.lost_count > 0) { /* samples that were lost for want of memory */
        (void)image_drain(server);
    }
}

/* Whatever the thread was woken for. */
static void on_wake(UA_EventSource *source, UA_RegisteredFD *registered, short event) {
    (void)source, (void)event;
    bf_ua_server *server = (bf_ua_server *)(uintptr_t)((char *)registered - offsetof(bf_ua_server, wake));
    fd_lower(server->channel.wake_fd);
    server->api->watch_ready(server->table, server->image.watcher); /* before reading: later changes wake us again */
    writes_answer(server);
    call_serve(server);
    if (!image_drain(server)) {
        fd_raise(server->channel.wake_fd);
    }
}

/* ---- making and deleting -------------------------------------------------------------------------------------------------------- */

/* The port of the first address the server found itself listening on; 0 if it found none. */
static uint16_t listening_port(const bf_ua_server *server) {
    const UA_ApplicationDescription *application = &server->library->config.applicationDescription;
    for (size_t index = 0; index < application->discoveryUrlsSize; index++) {
        UA_String host = UA_STRING_NULL;
        UA_String path = UA_STRING_NULL;
        UA_UInt16 port = 0;
        UA_StatusCode status = UA_parseEndpointUrl(&application->discoveryUrls[index], &host, &port, &path);
        if (status == UA_STATUSCODE_GOOD && port != 0) {
            return port;
        }
    }
    return 0;
}

/* Lets the library listen. It says BadInternalError where it can't, and where memory ran out. */
static UA_StatusCode startup(bf_ua_server *server) {
    bf_ua_memory memory;
    bf_ua_memory_read(&memory);
    uint64_t refused = memory.refused_count;
    UA_StatusCode status = UA_Server_run_startup(server->library);
    bf_ua_memory_read(&memory);
    server->refused_told = memory.refused_count;
    if (status != UA_STATUSCODE_BADINTERNALERROR) {
        return status;
    }
    return memory.refused_count == refused ? UA_STATUSCODE_BADCOMMUNICATIONERROR : UA_STATUSCODE_BADOUTOFMEMORY;
}

/* Hangs what is ours into the library that was made, and listens. */
static UA_StatusCode library_begin(bf_ua_server *server) {
    UA_StatusCode status = UA_STATUSCODE_BADOUTOFMEMORY;
    if (UA_Server_addNamespace(server->library, "urn:bifrost:tags") == TAGS_NAMESPACE) {
        status = store_hang_in(server);
    }
    if (status == UA_STATUSCODE_GOOD) {
        status = capabilities_install(server);
    }
    if (status == UA_STATUSCODE_GOOD) {
        status = UA_Server_addRepeatedCallback(server->library, tick, server, TICK_MS, &server->tick_id);
    }
    if (status == UA_STATUSCODE_GOOD) {
        status = startup(server);
    }
    if (status != UA_STATUSCODE_GOOD) {
        return status;
    }
    /* Only now: while it starts the library browses all of namespace 0 itself, within the same limit. */
    server->library->config.maxReferencesPerNode = server->config.limits.references_per_node_max;
    server->port = listening_port(server); /* when no address could be bound the library only logs it */
    server->wake = (UA_RegisteredFD){.fd = server->channel.wake_fd, .listenEvents = UA_FDEVENT_IN, .eventSourceCB = on_wake};
    UA_EventLoopPOSIX *loop = (UA_EventLoopPOSIX *)server->library->config.eventLoop;
    status = server->port == 0 ? UA_STATUSCODE_BADCOMMUNICATIONERROR : UA_EventLoopPOSIX_registerFD(loop, &server->wake);
    if (status != UA_STATUSCODE_GOOD) {
        UA_Server_run_shutdown(server->library);
    }
    return status;
}

/* Makes a server that listens; else says why not, and nothing is left. */
static UA_StatusCode library_make(bf_ua_server *server) {
    UA_StatusCode status = library_configure(server, &server->library_config);
    if (status != UA_STATUSCODE_GOOD) {
        UA_ServerConfig_clean(&server->library_config);
        return status;
    }
    server->library = UA_Server_newWithConfig(&server->library_config); /* takes what it holds, also when it fails */
    if (server->library == NULL) {
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    status = library_begin(server);
    if (status != UA_STATUSCODE_GOOD) {
        UA_Server_delete(server->library);
        server->library = NULL;
    }
    return status;
}

static void library_end(bf_ua_server *server) {
    UA_EventLoopPOSIX_deregisterFD((UA_EventLoopPOSIX *)server->library->config.eventLoop, &server->wake);
    writes_abandon(server, NULL, UA_STATUSCODE_BADSHUTDOWN);
    UA_Server_run_shutdown(server->library);
    UA_Server_delete(server->library);
    server->library = NULL;
}

static void *run(void *argument) {
    bf_ua_server *server = argument;
    bf_ua_memory_keep();
    server->status = library_make(server);
    bool serves = server->status == UA_STATUSCODE_GOOD;
    if (serves) {
        (void)image_drain(server); /* before the first client: the image of every row */
        stats_publish(server);
    }
    sem_post(&server->started);
    if (serves) {
        while (!atomic_load(&server->channel.stop)) {
            UA_Server_run_iterate(server->library, true);
            stats_publish(server);
        }
        library_end(server);
    }
    bf_ua_memory_keep_end();
    return NULL;
}

/* Starts the thread with every signal blocked: signals belong to Python. */
static int start_thread(bf_ua_server *server) {
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    int failed = pthread_attr_init(&attributes);
    if (failed != 0) {
        return failed;
    }
    sigfillset(&all);
    failed = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (failed == 0) {
        pthread_sigmask(SIG_SETMASK, &all, &before);
        failed = pthread_create(&server->thread, &attributes, run, server);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
    return failed;
}

/* ---- from outside --------------------------------------------------------------------------------------------------------------- */

static void discard(bf_ua_server *server) {
    if (server->image.watcher >= 0) {
        server->api->unwatch(server->table, server->image.watcher); /* before its fd is closed */
    }
    image_clear(&server->image, &server->space);
    space_clear(&server->space);
    channel_clear(&server->channel);
    sem_destroy(&server->started);
    free(server->parked_values);
    free(server->users);
    free(server->texts);
    free(server);
}

/* Everything the thread finds ready when it begins. */
static UA_StatusCode prepare(bf_ua_server *server, const bf_ua_config *config) {
    UA_StatusCode status = config_copy(server, config);
    server->api = config->table_api;
    server->table = (bf_table *)(uintptr_t)config->table;
    server->anonymous = config->anonymous;
    server->users_count = config->users_count;
    LIST_INIT(&server->parked);
    LIST_INIT(&server->unsent);
    if (status == UA_STATUSCODE_GOOD) {
        status = channel_make(&server->channel, &server->config.limits);
    }
    if (status == UA_STATUSCODE_GOOD) {
        status = users_make(config->users, config->users_count, &server->users);
    }
    if (status == UA_STATUSCODE_GOOD) {
        status = writes_make(server);
    }
    if (status == UA_STATUSCODE_GOOD) {
        status = space_make(server, config->space, &server->space);
    }
    if (status == UA_STATUSCODE_GOOD) {
        status = image_make(server, &server->space, &server->image);
    }
    if (status != UA_STATUSCODE_GOOD) {
        return status;
    }
    server->image.position = server->api->ring_head(server->table); /* what was before is in the slots */
    server->image.watcher = server->api->watch(server->table, server->channel.wake_fd);
    if (getrandom(server->memory_key, sizeof server->memory_key, 0) != (ssize_t)sizeof server->memory_key) {
        return UA_STATUSCODE_BADINTERNALERROR;
    }
    return server->image.watcher >= 0 ? UA_STATUSCODE_GOOD : UA_STATUSCODE_BADRESOURCEUNAVAILABLE;
}

uint32_t bf_ua_server_start(const bf_ua_config *config, bf_ua_server **server) {
    assert(config != NULL);
    assert(server != NULL);
    if (!config_check(config)) {
        return UA_STATUSCODE_BADINVALIDARGUMENT;
    }
    bf_ua_memory_hook();
    bf_ua_memory_limit(config->limits.memory_bytes_max);
    bf_ua_server *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    made->image.watcher = -1;
    made->channel.events_fd = -1;
    made->channel.wake_fd = -1;
    UA_StatusCode status = prepare(made, config);
    if (sem_init(&made->started, 0, 0) != 0 || (status == UA_STATUSCODE_GOOD && start_thread(made) != 0)) {
        status = UA_STATUSCODE_BADOUTOFMEMORY;
    }
    if (status != UA_STATUSCODE_GOOD) {
        discard(made);
        return status;
    }
    while (sem_wait(&made->started) != 0) { /* only a signal of this thread comes between */
    }
    status = made->status;
    if (status != UA_STATUSCODE_GOOD) {
        pthread_join(made->thread, NULL);
        discard(made);
        return status;
    }
    bf_ua_pages_release();
    *server = made;
    return UA_STATUSCODE_GOOD;
}

uint16_t bf_ua_server_port(const bf_ua_server *server) {
    assert(server != NULL);
    return server->port;
}

void bf_ua_server_stop(bf_ua_server *server) {
    assert(server != NULL);
    atomic_store(&server->channel.stop, true);
    fd_raise(server->channel.wake_fd);
    pthread_join(server->thread, NULL);
    discard(server);
}

void bf_ua_server_stats(const bf_ua_server *server, bf_ua_stats *stats) {
    assert(server != NULL && stats != NULL);
    uint64_t numbers[STATS_COUNT];
    for (size_t i = 0; i < STATS_COUNT; i++) {
        numbers[i] = atomic_load_explicit(&server->stats[i], memory_order_relaxed);
    }
    memcpy(stats, numbers, sizeof *stats);
    clockid_t clock;
    struct timespec used;
    if (pthread_getcpuclockid(server->thread, &clock) == 0 && clock_gettime(clock, &used) == 0) {
        stats->cpu_ns = (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
    }
}

#define TEXT_OF(number) #number
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *bf_ua_version(void) {
    return VERSION_TEXT(UA_OPEN62541_VER_MAJOR, UA_OPEN62541_VER_MINOR, UA_OPEN62541_VER_PATCH);
}
