/* ua_config.c: from our configuration and limits to the library's.
 *
 * Part of ua_unit.c. Wherever the library has "0 is unlimited" there is a limit of ours, none of which may be 0 (limits_check). */

#define QUEUES_MAX 100000 /* of one item: more is a mistake */
#define MESSAGE_BYTES_MIN 8192 /* OPC 10000-6, 7.1.2.3: of a buffer */
#define REFERENCES_MIN 100 /* the library browses types itself, within the same limit */
#define BACKLOG_LIFETIMES 3 /* OPC 10000-4, 5.13.2.2: the lifetime is three keep-alives at least */

/* The library reports here what its status codes say too; a gateway's log has its own way. */
static void log_nothing(void *context, UA_LogLevel level, UA_LogCategory category, const char *message, va_list arguments) {
    (void)context, (void)level, (void)category, (void)message, (void)arguments;
}

/* ---- what may be asked for ------------------------------------------------------------------------------------------------------ */

static bool limits_check(const bf_ua_limits *limits) {
    const uint32_t *numbers = &limits->connections_max;
    size_t last = (offsetof(bf_ua_limits, buffered_bytes_max) - offsetof(bf_ua_limits, connections_max)) / sizeof *numbers;
    for (size_t i = 0; i <= last; i++) { /* all of them are uint32_t */
        if (numbers[i] == 0) {
            return false;
        }
    }
    return limits->memory_bytes_max > limits->reserve_bytes && limits->connections_max <= UINT16_MAX && limits->sessions_max <= UINT16_MAX &&
           limits->notifications_max >= limits->monitored_items_max && limits->queue_size_max <= QUEUES_MAX &&
           limits->browse_continuations_max <= UINT16_MAX && limits->lifetime_count_max >= BACKLOG_LIFETIMES &&
           limits->message_bytes_max >= MESSAGE_BYTES_MIN && limits->references_per_node_max >= REFERENCES_MIN &&
           limits->buffered_bytes_max >= limits->message_bytes_max &&
           limits->writes_parked_max < NO_PLACE / 4 && limits->events_max < NO_PLACE / 4;
}

static bool config_check(const bf_ua_config *config) {
    const uint32_t all = BF_UA_POLICY_NONE | BF_UA_POLICY_BASIC256SHA256 | BF_UA_POLICY_AES128_SHA256_RSAOAEP |
                         BF_UA_POLICY_AES256_SHA256_RSAPSS;
    bool has_certificate = config->certificate != NULL && config->certificate_bytes > 0 && config->key != NULL && config->key_bytes > 0;
    bool has_folders = config->trusted_folder != NULL && config->issuers_folder != NULL && config->revoked_folder != NULL &&
                       config->rejected_folder != NULL;
    bool needs_certificate = (config->policies & ~(uint32_t)BF_UA_POLICY_NONE) != 0;
    const bf_table_api *api = config->table_api;
    return config->url != NULL && config->application_uri != NULL && config->application_name != NULL && config->version != NULL &&
           config->policies != 0 && (config->policies & ~all) == 0 && config->anonymous <= BF_UA_ROLE_WRITE &&
           (config->certificate == NULL ? !needs_certificate : has_certificate && has_folders) && config->table != NULL && api != NULL &&
           api->version == BF_TABLE_API_VERSION && (config->users != NULL || config->users_count == 0) && limits_check(&config->limits);
}

/* Copies all texts and buffers of the configuration into one block. */
static UA_StatusCode config_copy(bf_ua_server *server, const bf_ua_config *given) {
    server->config = *given;
    bf_ua_config *own = &server->config;
    const char **texts[] = {&own->url,            &own->application_uri, &own->application_name, &own->version, &own->trusted_folder,
                            &own->issuers_folder, &own->revoked_folder,  &own->rejected_folder};
    size_t bytes = own->certificate_bytes + own->key_bytes + 1;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        bytes += *texts[i] == NULL ? 0 : strlen(*texts[i]) + 1;
    }
    server->texts = malloc(bytes);
    if (server->texts == NULL) {
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    char *at = server->texts;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (*texts[i] != NULL) {
            size_t length = strlen(*texts[i]) + 1;
            *texts[i] = memcpy(at, *texts[i], length);
            at += length;
        }
    }
    if (own->certificate != NULL) {
        own->certificate = memcpy(at, own->certificate, own->certificate_bytes);
        own->key = memcpy(at + own->certificate_bytes, own->key, own->key_bytes);
    }
    own->users = NULL; /* taken by users_make, space_make */
    own->space = NULL;
    return UA_STATUSCODE_GOOD;
}

/* ---- the library's configuration ------------------------------------------------------------------------------------------------ */

static void limits_install(UA_ServerConfig *config, const bf_ua_limits *limits) {
    config->tcpMaxMsgSize = limits->message_bytes_max;
    config->tcpMaxChunks = limits->chunks_max;
    config->maxSecureChannels = (UA_UInt16)limits->connections_max; /* each connection is a channel from its first byte on */
    config->maxSessions = (UA_UInt16)limits->sessions_max;
    config->maxSessionTimeout = limits->session_timeout_max_ms;
    config->maxNodesPerRead = limits->nodes_per_read_max;
    config->maxNodesPerWrite = limits->nodes_per_write_max;
    config->maxNodesPerMethodCall = limits->nodes_per_method_call_max;
    config->maxNodesPerBrowse = limits->nodes_per_browse_max;
    config->maxNodesPerRegisterNodes = limits->nodes_per_register_max;
    config->maxNodesPerTranslateBrowsePathsToNodeIds = limits->nodes_per_translate_max;
    config->maxNodesPerNodeManagement = 1; /* every one of them is refused */
    config->maxMonitoredItemsPerCall = limits->items_per_call_max;
    config->maxSubscriptions = limits->subscriptions_max;
    config->maxSubscriptionsPerSession = limits->subscriptions_per_session_max;
    config->maxMonitoredItems = limits->monitored_items_max;
    config->maxMonitoredItemsPerSubscription = limits->monitored_items_max;
    config->publishingIntervalLimits.min = limits->publishing_interval_min_ms;
    config->samplingIntervalLimits.min = limits->publishing_interval_min_ms;
    config->lifeTimeCountLimits.max = limits->lifetime_count_max;
    config->keepAliveCountLimits.max = limits->lifetime_count_max / BACKLOG_LIFETIMES;
    config->queueSizeLimits.max = limits->queue_size_max;
    config->maxNotificationsPerPublish = limits->notifications_per_publish_max; /* 0 would be none at all, ever */
    config->enableRetransmissionQueue = true;
    config->maxRetransmissionQueueSize = limits->retransmissions_max;
    config->maxEventsPerNode = 1; /* kept for nobody: event history is not offered */
    config->maxPublishReqPerSession = limits->publish_requests_per_session_max;
    config->maxReturnDataValues = 1;
    config->maxReturnEventValues = 1;
}

static UA_StatusCode text_set(UA_String *target, const char *text) {
    UA_String_clear(target);
    *target = UA_String_fromChars(text);
    return target->data == NULL ? UA_STATUSCODE_BADOUTOFMEMORY : UA_STATUSCODE_GOOD;
}

static UA_StatusCode names_install(const bf_ua_server *server, UA_ServerConfig *config) {
    UA_StatusCode status = text_set(&config->applicationDescription.applicationUri, server->config.application_uri);
    status |= text_set(&config->applicationDescription.applicationName.text, server->config.application_name);
    status |= text_set(&config->applicationDescription.productUri, "urn:bifrost:gateway");
    status |= text_set(&config->buildInfo.productUri, "urn:bifrost:gateway");
    status |= text_set(&config->buildInfo.manufacturerName, "Bifrost");
    status |= text_set(&config->buildInfo.productName, "Bifrost");
    status |= text_set(&config->buildInfo.softwareVersion, server->config.version);
    status |= text_set(&config->buildInfo.buildNumber, server->config.version); /* the library would say when it was compiled */
    UA_LocalizedText *name = &config->applicationDescription.applicationName;
    UA_String_clear(&name->locale);
    config->buildInfo.buildDate = 0;
    /* The default listens on every interface. */
    UA_Array_delete(config->serverUrls, config->serverUrlsSize, &UA_TYPES[UA_TYPES_STRING]);
    config->serverUrls = NULL;
    config->serverUrlsSize = 0;
    UA_String url = UA_STRING((char *)(uintptr_t)server->config.url);
    status |= UA_Array_appendCopy((void **)&config->serverUrls, &config->serverUrlsSize, &url, &UA_TYPES[UA_TYPES_STRING]);
    return status == UA_STATUSCODE_GOOD ? UA_STATUSCODE_GOOD : UA_STATUSCODE_BADOUTOFMEMORY;
}

/* Makes an event loop that speaks TCP and nothing else. The library would make one with more in it, and use it unchecked if memory ran out. */
static UA_StatusCode loop_install(UA_ServerConfig *config) {
    UA_EventLoop *loop = UA_EventLoop_new_POSIX(config->logging);
    if (loop == NULL) {
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    config->eventLoop = loop;
    config->externalEventLoop = false;
    UA_ConnectionManager *tcp = UA_ConnectionManager_new_POSIX_TCP(UA_STRING("tcp"));
    if (tcp == NULL) {
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    tcp->sendWithConnection = connection_send;
    UA_StatusCode status = loop->registerEventSource(loop, &tcp->eventSource);
    if (status != UA_STATUSCODE_GOOD) {
        tcp->eventSource.free(&tcp->eventSource);
    }
    return status;
}

/* Fills `config`; on failure the caller still has to give it to the library to be cleared. */
static UA_StatusCode library_configure(bf_ua_server *server, UA_ServerConfig *config) {
    server->logger = (UA_Logger){.log = log_nothing, .context = server};
    config->logging = &server->logger;
    config->context = server;
    UA_StatusCode status = store_install(server, config);
    if (status == UA_STATUSCODE_GOOD) {
        status = loop_install(config);
    }
    if (status == UA_STATUSCODE_GOOD) {
        status = UA_ServerConfig_setBasics_withPort(config, 0);
    }
    if (status != UA_STATUSCODE_GOOD) {
        return status;
    }
    limits_install(config, &server->config.limits);
    config->tcpReuseAddr = true; /* ua_unit.c: this is SO_REUSEADDR alone, so that a restart has its port back at once */
    status = names_install(server, config);
    if (status == UA_STATUSCODE_GOOD) {
        status = security_install(server, config);
    }
    access_install(server, config);
    return status;
}
