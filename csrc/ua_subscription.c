/* ua_subscription.c: the ends of subscriptions: of one that nobody heard of, and of the one that a transfer leaves behind.
 *
 * Part of ua_unit.c; ua_hooks.c brings the library's calls here. A subscription lives as long as its client publishes. When its life is over there
 * is no request that could be answered with that, so the library forgets it silently; a client that comes back within its session, and has another
 * subscription, would wait for this one forever. We keep the number, and the next Publish is answered with it. OPC 10000-4, 5.14.1.4. */

/* Takes the place of UA_Subscription_delete. */
void bf_ua_subscription_end(UA_Server *library, UA_Subscription *subscription) {
    ua_login *login = subscription->session == NULL ? NULL : subscription->session->sessionHandle;
    /* This status it has only when no request was there to tell it. */
    if (subscription->statusChange == UA_STATUSCODE_BADTIMEOUT && login != NULL && login->ended_count < ENDED_MAX) {
        login->ended[login->ended_count++] = (ua_ended){subscription->subscriptionId, subscription->nextSequenceNumber};
    }
    library_deleteSubscription(library, subscription);
}

/* What the library does first with a Publish request. */
static void acknowledge(UA_Session *session, const UA_PublishRequest *request, UA_StatusCode *results) {
    for (size_t i = 0; i < request->subscriptionAcknowledgementsSize; i++) {
        const UA_SubscriptionAcknowledgement *known = &request->subscriptionAcknowledgements[i];
        UA_Subscription *subscription = UA_Session_getSubscriptionById(session, known->subscriptionId);
        results[i] = subscription == NULL ? UA_STATUSCODE_BADSUBSCRIPTIONIDINVALID
                                          : UA_Subscription_removeRetransmissionMessage(subscription, known->sequenceNumber);
    }
}

/* Answers a Publish request with the end of the subscription that ended first. */
static UA_StatusCode end_tell(UA_Server *library, UA_Session *session, ua_login *login, const UA_PublishRequest *request,
                              UA_UInt32 request_id) {
    UA_StatusChangeNotification change;
    UA_StatusChangeNotification_init(&change);
    change.status = UA_STATUSCODE_BADTIMEOUT;
    UA_ExtensionObject told;
    UA_ExtensionObject_setValue(&told, &change, &UA_TYPES[UA_TYPES_STATUSCHANGENOTIFICATION]); /* borrowed: never cleared */
    UA_PublishResponse response;
    UA_PublishResponse_init(&response);
    response.responseHeader.requestHandle = request->requestHeader.requestHandle;
    response.subscriptionId = login->ended[0].subscription;
    response.notificationMessage.sequenceNumber = login->ended[0].sequence;
    response.notificationMessage.publishTime = UA_DateTime_now();
    response.notificationMessage.notificationData = &told;
    response.notificationMessage.notificationDataSize = 1;
    response.resultsSize = request->subscriptionAcknowledgementsSize;
    response.results = UA_Array_new(response.resultsSize, &UA_TYPES[UA_TYPES_STATUSCODE]);
    if (response.results == NULL) {
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    acknowledge(session, request, response.results);
    UA_StatusCode status = library_sendResponse(library, session, session->header.channel, request_id, (UA_Response *)&response,
                                                &UA_TYPES[UA_TYPES_PUBLISHRESPONSE]);
    UA_Array_delete(response.results, response.resultsSize, &UA_TYPES[UA_TYPES_STATUSCODE]);
    login->ended_count--;
    memmove(&login->ended[0], &login->ended[1], login->ended_count * sizeof *login->ended);
    return status;
}

/* Takes the place of Service_Publish, which sends its response itself. */
UA_StatusCode bf_ua_publish(UA_Server *library, UA_Session *session, const UA_PublishRequest *request, UA_UInt32 request_id) {
    ua_login *login = session->sessionHandle;
    if (login == NULL || login->ended_count == 0) {
        return library_Publish(library, session, request, request_id);
    }
    UA_StatusCode status = end_tell(library, session, login, request, request_id);
    /* Short of memory: the library refuses the request, in a response that needs none. */
    return status == UA_STATUSCODE_BADOUTOFMEMORY ? library_Publish(library, session, request, request_id) : status;
}

/* Takes the place of Service_TransferSubscriptions. The library moves the content of a subscription to a copy and leaves the original to tell its
 * session. Where there is no session any more it would stay, counted, until its life is over; and where the original was about to go on publishing
 * at once, the copy would believe that of itself. */
void bf_ua_transfer(UA_Server *library, UA_Session *session, const UA_TransferSubscriptionsRequest *request,
                    UA_TransferSubscriptionsResponse *response) {
    UA_EventLoop *loop = UA_Server_getConfig(library)->eventLoop;
    for (size_t i = 0; i < request->subscriptionIdsSize; i++) {
        UA_Subscription *moved = getSubscriptionById(library, request->subscriptionIds[i]);
        if (moved != NULL && moved->session != session && moved->delayedCallbackRegistered) {
            loop->removeDelayedCallback(loop, &moved->delayedMoreNotifications);
            moved->delayedCallbackRegistered = false;
            moved->late = true; /* goes on with the next request instead */
        }
    }
    library_TransferSubscriptions(library, session, request, response);
    UA_Subscription *subscription;
    UA_Subscription *next;
    LIST_FOREACH_SAFE(subscription, &library->subscriptions, serverListEntry, next) {
        if (subscription->session == NULL && subscription->statusChange == UA_STATUSCODE_GOODSUBSCRIPTIONTRANSFERRED) {
            library_deleteSubscription(library, subscription);
        }
    }
}
