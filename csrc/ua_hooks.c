/* ua_hooks.c: functions of the library that are ours instead.
 *
 * The definitions in ua_unit.c are weak, so that these win when the module is linked, for the library's own calls too. They have to be in an object
 * of their own: in the same one they would be defined twice. The types are opaque here; ua_unit.c declares the same functions in full. */
#include <stdint.h>

typedef struct UA_Server UA_Server;
typedef struct UA_MonitoredItem UA_MonitoredItem;

uint32_t bf_ua_sampling_begin(UA_Server *library, UA_MonitoredItem *item);
void bf_ua_sampling_end(UA_Server *library, UA_MonitoredItem *item);
void bf_ua_item_begin(UA_Server *library, UA_MonitoredItem *item);
void bf_ua_item_end(UA_Server *library, UA_MonitoredItem *item);
uint32_t bf_ua_event_add(UA_Server *library, UA_MonitoredItem *item, const void *event);
void bf_ua_items_create(UA_Server *library, void *session, const void *request, void *response);
void bf_ua_items_modify(UA_Server *library, void *session, const void *request, void *response);
void bf_ua_read(UA_Server *library, void *session, void *times, const void *wanted, void *out);
void bf_ua_write(UA_Server *library, void *session, const void *request, void *response);
uint32_t bf_ua_response_send(UA_Server *library, void *session, void *channel, uint32_t request_id, void *response, const void *type);
void bf_ua_attribute_read(const void *node, UA_Server *library, void *session, int times, const void *wanted, void *out);
void bf_ua_subscription_end(UA_Server *library, void *subscription);
uint32_t bf_ua_publish(UA_Server *library, void *session, const void *request, uint32_t request_id);
void bf_ua_transfer(UA_Server *library, void *session, const void *request, void *response);
void bf_ua_cancel(UA_Server *library, void *session, const void *request, void *response);
uint32_t bf_ua_buffer_keep(void *channel);
uint32_t bf_ua_message_take(void *channel, void *kind, uint32_t *request_id, void *payload, void *is_copied);
uint32_t bf_ua_session_create(UA_Server *library, void *channel, const void *request, void **session);
void bf_ua_session_renew(void *session);
void bf_ua_channel_end(void *channel);

uint32_t UA_MonitoredItem_registerSampling(UA_Server *library, UA_MonitoredItem *item);
void UA_MonitoredItem_unregisterSampling(UA_Server *library, UA_MonitoredItem *item);
void UA_Server_registerMonitoredItem(UA_Server *library, UA_MonitoredItem *item);
void UA_MonitoredItem_delete(UA_Server *library, UA_MonitoredItem *item);
uint32_t UA_MonitoredItem_addEvent(UA_Server *library, UA_MonitoredItem *item, const void *event);
void Service_CreateMonitoredItems(UA_Server *library, void *session, const void *request, void *response);
void Service_ModifyMonitoredItems(UA_Server *library, void *session, const void *request, void *response);
void Operation_Read(UA_Server *library, void *session, void *times, const void *wanted, void *out);
void Service_Write(UA_Server *library, void *session, const void *request, void *response);
uint32_t sendResponse(UA_Server *library, void *session, void *channel, uint32_t request_id, void *response, const void *type);
void createSessionObject(UA_Server *library, void *session);
void createSubscriptionObject(UA_Server *library, void *session, void *subscription);
void ReadWithNode(const void *node, UA_Server *library, void *session, int times, const void *wanted, void *out);
void UA_Subscription_delete(UA_Server *library, void *subscription);
uint32_t Service_Publish(UA_Server *library, void *session, const void *request, uint32_t request_id);
void Service_TransferSubscriptions(UA_Server *library, void *session, const void *request, void *response);
void Service_Cancel(UA_Server *library, void *session, const void *request, void *response);
uint32_t UA_SecureChannel_persistBuffer(void *channel);
uint32_t UA_SecureChannel_getCompleteMessage(void *channel, void *kind, uint32_t *request_id, void *payload, void *is_copied);
uint32_t UA_Server_createSession(UA_Server *library, void *channel, const void *request, void **session);
void UA_Session_updateLifetime(void *session);
void UA_SecureChannel_clear(void *channel);

uint32_t UA_MonitoredItem_registerSampling(UA_Server *library, UA_MonitoredItem *item) {
    return bf_ua_sampling_begin(library, item);
}

void UA_MonitoredItem_unregisterSampling(UA_Server *library, UA_MonitoredItem *item) {
    bf_ua_sampling_end(library, item);
}

void UA_Server_registerMonitoredItem(UA_Server *library, UA_MonitoredItem *item) {
    bf_ua_item_begin(library, item);
}

void UA_MonitoredItem_delete(UA_Server *library, UA_MonitoredItem *item) {
    bf_ua_item_end(library, item);
}

uint32_t UA_MonitoredItem_addEvent(UA_Server *library, UA_MonitoredItem *item, const void *event) {
    return bf_ua_event_add(library, item, event);
}

void Service_CreateMonitoredItems(UA_Server *library, void *session, const void *request, void *response) {
    bf_ua_items_create(library, session, request, response);
}

void Service_ModifyMonitoredItems(UA_Server *library, void *session, const void *request, void *response) {
    bf_ua_items_modify(library, session, request, response);
}

void Operation_Read(UA_Server *library, void *session, void *times, const void *wanted, void *out) {
    bf_ua_read(library, session, times, wanted, out);
}

void Service_Write(UA_Server *library, void *session, const void *request, void *response) {
    bf_ua_write(library, session, request, response);
}

uint32_t sendResponse(UA_Server *library, void *session, void *channel, uint32_t request_id, void *response, const void *type) {
    return bf_ua_response_send(library, session, channel, request_id, response, type);
}

/* The library would keep a tree of 40 nodes for each session, 30 kB, and one for each subscription. What they say is in the arrays below
 * ServerDiagnostics too, which are made when somebody reads them; OPC 10000-5, 6.3.3 and 6.3.4 leave the objects to the server. */
void createSessionObject(UA_Server *library, void *session) {
    (void)library, (void)session;
}

void createSubscriptionObject(UA_Server *library, void *session, void *subscription) {
    (void)library, (void)session, (void)subscription;
}

void ReadWithNode(const void *node, UA_Server *library, void *session, int times, const void *wanted, void *out) {
    bf_ua_attribute_read(node, library, session, times, wanted, out);
}

void UA_Subscription_delete(UA_Server *library, void *subscription) {
    bf_ua_subscription_end(library, subscription);
}

uint32_t Service_Publish(UA_Server *library, void *session, const void *request, uint32_t request_id) {
    return bf_ua_publish(library, session, request, request_id);
}

void Service_TransferSubscriptions(UA_Server *library, void *session, const void *request, void *response) {
    bf_ua_transfer(library, session, request, response);
}

void Service_Cancel(UA_Server *library, void *session, const void *request, void *response) {
    bf_ua_cancel(library, session, request, response);
}

uint32_t UA_SecureChannel_persistBuffer(void *channel) {
    return bf_ua_buffer_keep(channel);
}

uint32_t UA_Server_createSession(UA_Server *library, void *channel, const void *request, void **session) {
    return bf_ua_session_create(library, channel, request, session);
}

void UA_Session_updateLifetime(void *session) {
    bf_ua_session_renew(session);
}

void UA_SecureChannel_clear(void *channel) {
    bf_ua_channel_end(channel);
}

uint32_t UA_SecureChannel_getCompleteMessage(void *channel, void *kind, uint32_t *request_id, void *payload, void *is_copied) {
    return bf_ua_message_take(channel, kind, request_id, payload, is_copied);
}
