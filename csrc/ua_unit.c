/* ua_unit.c: open62541 without its namespace 0, and our glue to it, as one unit whose allocations are counted.
 *
 * The build (csrc/builder/amalgamation.py) writes the included library; it is compiled as it came. The glue is in the same unit because it
 * needs what the library keeps to itself: the queue of an item, the answer to a request, the file descriptors of the event loop. The functions
 * named below lose against those of the same name in ua_hooks.c when the module is linked, so that the library's own calls go there; being weak
 * they are never inlined. Their originals stay reachable under the names with `library_`. */
#include "ua_memory.h"

#include <sys/socket.h>

/* The library sets both options on a listening socket. SO_REUSEADDR lets a server that is started again have its port back at once.
 * SO_REUSEPORT would also let a second server share the port of a running one, and take half of its clients. */
#undef SO_REUSEPORT
#define SO_REUSEPORT SO_REUSEADDR

#pragma weak UA_MonitoredItem_registerSampling
#pragma weak UA_MonitoredItem_unregisterSampling
#pragma weak UA_Server_registerMonitoredItem
#pragma weak UA_MonitoredItem_delete
#pragma weak UA_MonitoredItem_addEvent
#pragma weak Service_CreateMonitoredItems
#pragma weak Service_ModifyMonitoredItems
#pragma weak Service_Write
#pragma weak Operation_Read
#pragma weak sendResponse
#pragma weak createSessionObject
#pragma weak createSubscriptionObject
#pragma weak ReadWithNode
#pragma weak UA_Subscription_delete
#pragma weak Service_Publish
#pragma weak Service_TransferSubscriptions
#pragma weak Service_Cancel
#pragma weak UA_SecureChannel_persistBuffer
#pragma weak UA_Server_createSession
#pragma weak UA_Session_updateLifetime
#pragma weak UA_SecureChannel_clear
#pragma weak UA_SecureChannel_getCompleteMessage

#ifndef NDEBUG
#define BF_UA_ASSERTS /* of the glue; the library's own stay off, as in its release */
#define NDEBUG
#endif
#include "open62541.c"
#ifdef BF_UA_ASSERTS
#undef NDEBUG
#endif

#include <arpa/inet.h>
#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <mbedtls/md.h>
#include <mbedtls/pkcs5.h>
#include <mbedtls/sha1.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ORIGINAL(name) __attribute__((alias(name)))
static UA_StatusCode library_registerSampling(UA_Server *, UA_MonitoredItem *) ORIGINAL("UA_MonitoredItem_registerSampling");
static void library_unregisterSampling(UA_Server *, UA_MonitoredItem *) ORIGINAL("UA_MonitoredItem_unregisterSampling");
static void library_registerMonitoredItem(UA_Server *, UA_MonitoredItem *) ORIGINAL("UA_Server_registerMonitoredItem");
static void library_deleteMonitoredItem(UA_Server *, UA_MonitoredItem *) ORIGINAL("UA_MonitoredItem_delete");
static UA_StatusCode library_addEvent(UA_Server *, UA_MonitoredItem *, const UA_NodeId *) ORIGINAL("UA_MonitoredItem_addEvent");
static void library_CreateMonitoredItems(UA_Server *, UA_Session *, const UA_CreateMonitoredItemsRequest *,
                                         UA_CreateMonitoredItemsResponse *) ORIGINAL("Service_CreateMonitoredItems");
static void library_ModifyMonitoredItems(UA_Server *, UA_Session *, const UA_ModifyMonitoredItemsRequest *,
                                         UA_ModifyMonitoredItemsResponse *) ORIGINAL("Service_ModifyMonitoredItems");
static void library_Read(UA_Server *, UA_Session *, UA_TimestampsToReturn *, const UA_ReadValueId *,
                         UA_DataValue *) ORIGINAL("Operation_Read");
static UA_StatusCode library_sendResponse(UA_Server *, UA_Session *, UA_SecureChannel *, UA_UInt32, UA_Response *,
                                          const UA_DataType *) ORIGINAL("sendResponse");
static void library_ReadWithNode(const UA_Node *, UA_Server *, UA_Session *, UA_TimestampsToReturn, const UA_ReadValueId *,
                                 UA_DataValue *) ORIGINAL("ReadWithNode");
static void library_deleteSubscription(UA_Server *, UA_Subscription *) ORIGINAL("UA_Subscription_delete");
static UA_StatusCode library_Publish(UA_Server *, UA_Session *, const UA_PublishRequest *, UA_UInt32) ORIGINAL("Service_Publish");
static void library_TransferSubscriptions(UA_Server *, UA_Session *, const UA_TransferSubscriptionsRequest *,
                                          UA_TransferSubscriptionsResponse *) ORIGINAL("Service_TransferSubscriptions");
static UA_StatusCode library_persistBuffer(UA_SecureChannel *) ORIGINAL("UA_SecureChannel_persistBuffer");
static UA_StatusCode library_createSession(UA_Server *, UA_SecureChannel *, const UA_CreateSessionRequest *,
                                           UA_Session **) ORIGINAL("UA_Server_createSession");
static void library_updateLifetime(UA_Session *) ORIGINAL("UA_Session_updateLifetime");
static void library_clearChannel(UA_SecureChannel *) ORIGINAL("UA_SecureChannel_clear");
static UA_StatusCode library_getCompleteMessage(UA_SecureChannel *, UA_MessageType *, UA_UInt32 *, UA_ByteString *,
                                                UA_Boolean *) ORIGINAL("UA_SecureChannel_getCompleteMessage");

#include "ua_glue.h"
#include "ua_pages.h"

static bf_ua_server *server_of(UA_Server *library) {
    return UA_Server_getConfig(library)->context;
}

#include "ua_space.c"
#include "ua_values.c"
#include "ua_read.c"
#include "ua_nodestore.c"
#include "ua_image.c"
#include "ua_filter.c"
#include "ua_push.c"
#include "ua_channel.c"
#include "ua_services.c"
#include "ua_subscription.c"
#include "ua_sending.c"
#include "ua_strangers.c"
#include "ua_write.c"
#include "ua_users.c"
#include "ua_security.c"
#include "ua_config.c"
#include "ua_reload.c"
#include "ua_capabilities.c"
#include "ua_server.c"
