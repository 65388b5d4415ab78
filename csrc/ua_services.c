/* ua_services.c: where services of the library end in ours: item creation, the notification budget, and sending.
 *
 * Part of ua_unit.c; ua_hooks.c brings the library's calls here. Queue sizes share one budget: each item that may exist has one place, and what
 * is left over is given to those that ask first; `notifications_granted` counts what was given beyond the one place. */

static void login_refused(bf_ua_server *server, const UA_SecureChannel *channel, UA_StatusCode status);

static uint64_t budget_left(const bf_ua_server *server) {
    const bf_ua_limits *limits = &server->config.limits;
    uint64_t spare = limits->notifications_max - limits->monitored_items_max; /* limits_check: not negative */
    return spare > server->notifications_granted ? spare - server->notifications_granted : 0;
}

/* What of `queue_size` can be had when `extra` places beyond the first are held already. */
static UA_UInt32 budget_revise(bf_ua_server *server, UA_UInt32 queue_size, uint64_t extra) {
    uint64_t most = budget_left(server) + extra + 1;
    if (queue_size <= most) {
        return queue_size;
    }
    limit_reached(server, BF_UA_LIMIT_NOTIFICATIONS);
    return (UA_UInt32)most;
}

/* Takes the place of UA_Server_registerMonitoredItem, which every new item passes once. */
void bf_ua_item_begin(UA_Server *library, UA_MonitoredItem *item) {
    bf_ua_server *server = server_of(library);
    if (!item->registered && item->subscription != NULL) {
        item->parameters.queueSize = budget_revise(server, item->parameters.queueSize, 0);
        server->notifications_granted += item->parameters.queueSize - 1;
    }
    library_registerMonitoredItem(library, item);
}

/* Takes the place of UA_MonitoredItem_delete. */
void bf_ua_item_end(UA_Server *library, UA_MonitoredItem *item) {
    if (item->registered && item->subscription != NULL) {
        server_of(library)->notifications_granted -= item->parameters.queueSize - 1;
    }
    library_deleteMonitoredItem(library, item);
}

/* Takes the place of UA_MonitoredItem_addEvent. Where a subscription has lost its session, that of 1.4.18 makes a notification and forgets it, and
 * that of 1.4.11 uses the session. */
UA_StatusCode bf_ua_event_add(UA_Server *library, UA_MonitoredItem *item, const UA_NodeId *event) {
    bool is_detached = item->subscription == NULL || item->subscription->session == NULL;
    return is_detached ? UA_STATUSCODE_GOOD : library_addEvent(library, item, event);
}

void bf_ua_items_create(UA_Server *library, UA_Session *session, const UA_CreateMonitoredItemsRequest *request,
                        UA_CreateMonitoredItemsResponse *response) {
    bf_ua_server *server = server_of(library);
    for (size_t i = 0; i < request->itemsToCreateSize; i++) { /* decoded for this call alone: ours to change */
        filter_check(&request->itemsToCreate[i].requestedParameters);
    }
    server->creating = true;
    library_CreateMonitoredItems(library, session, request, response);
    server->creating = false;
    server->sample_expected = false;
    for (size_t i = 0; i < response->resultsSize; i++) {
        response->results[i].statusCode = filter_result(&request->itemsToCreate[i].requestedParameters, response->results[i].statusCode);
        if (response->results[i].statusCode == UA_STATUSCODE_BADTOOMANYMONITOREDITEMS) {
            limit_reached(server, BF_UA_LIMIT_MONITORED_ITEMS);
        }
    }
}

/* Adds up what the items of a request hold beyond their first place. */
static uint64_t extra_held(UA_Subscription *subscription, const UA_ModifyMonitoredItemsRequest *request) {
    uint64_t extra = 0;
    for (size_t i = 0; i < request->itemsToModifySize; i++) {
        const UA_MonitoredItem *item = UA_Subscription_getMonitoredItem(subscription, request->itemsToModify[i].monitoredItemId);
        extra += item == NULL ? 0 : item->parameters.queueSize - 1;
    }
    return extra;
}

/* The library takes new parameters over without a call that could be replaced, so what is asked for is revised before. */
void bf_ua_items_modify(UA_Server *library, UA_Session *session, const UA_ModifyMonitoredItemsRequest *request,
                        UA_ModifyMonitoredItemsResponse *response) {
    bf_ua_server *server = server_of(library);
    UA_Subscription *subscription = UA_Session_getSubscriptionById(session, request->subscriptionId);
    bool served = subscription != NULL && request->itemsToModifySize <= server->config.limits.items_per_call_max;
    uint64_t before = server->notifications_granted;
    uint64_t held = served ? extra_held(subscription, request) : 0;
    for (size_t i = 0; served && i < request->itemsToModifySize; i++) {
        UA_MonitoredItemModifyRequest *wanted = &request->itemsToModify[i]; /* decoded for this call alone: ours to change */
        const UA_MonitoredItem *item = UA_Subscription_getMonitoredItem(subscription, wanted->monitoredItemId);
        if (item == NULL) {
            continue;
        }
        filter_check(&wanted->requestedParameters);
        if (!(wanted->requestedParameters.samplingInterval <= 0.0 || wanted->requestedParameters.samplingInterval > 0.0)) {
            wanted->requestedParameters.samplingInterval = 0.0; /* no number; the library looks for that in the old parameters */
        }
        UA_UInt32 size = wanted->requestedParameters.queueSize;
        UA_UInt32 most = server->config.limits.queue_size_max;
        uint64_t has = item->parameters.queueSize - 1;
        size = budget_revise(server, size == 0 ? 1 : size > most ? most : size, has);
        wanted->requestedParameters.queueSize = size;
        server->notifications_granted += size - 1 > has ? size - 1 - has : 0; /* so that the next one of the request sees less */
    }
    server->modifying = true;
    library_ModifyMonitoredItems(library, session, request, response);
    server->modifying = false;
    for (size_t i = 0; i < response->resultsSize; i++) {
        const UA_MonitoredItemModifyRequest *wanted = &request->itemsToModify[i];
        UA_MonitoredItem *item = UA_Subscription_getMonitoredItem(subscription, wanted->monitoredItemId);
        response->results[i].statusCode = filter_result(&wanted->requestedParameters, response->results[i].statusCode);
        if (item != NULL && response->results[i].statusCode == UA_STATUSCODE_GOOD) {
            item->timestampsToReturn = request->timestampsToReturn; /* OPC 10000-4, 5.13.3; the library leaves them */
        }
    }
    server->notifications_granted = before;
    if (served) { /* an item named twice counts twice, before and after */
        server->notifications_granted += extra_held(subscription, request);
        server->notifications_granted -= held;
    }
}

/* Takes the place of ReadWithNode. The library asks only items for this: of a value alone an encoding can be chosen. OPC 10000-4, 5.11.2.4. */
void bf_ua_attribute_read(const UA_Node *node, UA_Server *library, UA_Session *session, UA_TimestampsToReturn times,
                          const UA_ReadValueId *wanted, UA_DataValue *out) {
    if (wanted->attributeId != UA_ATTRIBUTEID_VALUE && wanted->dataEncoding.name.length > 0) {
        out->hasStatus = true;
        out->status = UA_STATUSCODE_BADDATAENCODINGINVALID;
        return;
    }
    library_ReadWithNode(node, library, session, times, wanted, out);
}

/* There is no history, neither here nor behind; the library says less of why. OPC 10000-4, 5.11.3.4. */
static void history_refused(UA_Response *response, const UA_DataType *type) {
    if (type == &UA_TYPES[UA_TYPES_HISTORYREADRESPONSE] && response->responseHeader.serviceResult == UA_STATUSCODE_BADNOTSUPPORTED) {
        response->responseHeader.serviceResult = UA_STATUSCODE_BADHISTORYOPERATIONUNSUPPORTED;
    }
    UA_HistoryUpdateResponse *update = type == &UA_TYPES[UA_TYPES_HISTORYUPDATERESPONSE] ? &response->historyUpdateResponse : NULL;
    for (size_t i = 0; update != NULL && i < update->resultsSize; i++) {
        if (update->results[i].statusCode == UA_STATUSCODE_BADNOTSUPPORTED) {
            update->results[i].statusCode = UA_STATUSCODE_BADHISTORYOPERATIONUNSUPPORTED;
        }
    }
}

/* Takes the place of sendResponse: the answer to a Write that was parked is not sent now. */
UA_StatusCode bf_ua_response_send(UA_Server *library, UA_Session *session, UA_SecureChannel *channel, UA_UInt32 request_id,
                                  UA_Response *response, const UA_DataType *type) {
    bf_ua_server *server = server_of(library);
    if (server->parking != NULL) {
        assert(type == &UA_TYPES[UA_TYPES_WRITERESPONSE] && channel != NULL);
        server->parking->request_id = request_id;
        server->parking->request_handle = response->responseHeader.requestHandle;
        server->parking->channel_id = channel->securityToken.channelId;
        server->parking = NULL;
        return UA_STATUSCODE_GOOD;
    }
    if (type == &UA_TYPES[UA_TYPES_ACTIVATESESSIONRESPONSE] && response->responseHeader.serviceResult != UA_STATUSCODE_GOOD) {
        login_refused(server, channel, response->responseHeader.serviceResult);
    }
    history_refused(response, type);
    switch (response->responseHeader.serviceResult) {
    case UA_STATUSCODE_BADTOOMANYSESSIONS: limit_reached(server, BF_UA_LIMIT_SESSIONS); break;
    case UA_STATUSCODE_BADTOOMANYSUBSCRIPTIONS: limit_reached(server, BF_UA_LIMIT_SUBSCRIPTIONS); break;
    case UA_STATUSCODE_BADOUTOFMEMORY: limit_reached(server, BF_UA_LIMIT_MEMORY); break;
    default: break;
    }
    return library_sendResponse(library, session, channel, request_id, response, type);
}
