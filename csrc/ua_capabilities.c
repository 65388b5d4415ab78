/* ua_capabilities.c: the Server object says what this server can do: the limits it was configured with.
 *
 * Part of ua_unit.c. The library tells its own constant for continuation points, and removes the nodes for what it does not track. */

static UA_StatusCode capability_add(UA_Server *library, UA_UInt32 id, const char *name, UA_UInt32 value) {
    UA_VariableAttributes attributes = UA_VariableAttributes_default;
    attributes.displayName = UA_LOCALIZEDTEXT("", (char *)(uintptr_t)name);
    attributes.dataType = UA_TYPES[UA_TYPES_UINT32].typeId;
    attributes.valueRank = UA_VALUERANK_SCALAR;
    UA_Variant_setScalar(&attributes.value, &value, &UA_TYPES[UA_TYPES_UINT32]);
    return UA_Server_addVariableNode(library, UA_NODEID_NUMERIC(0, id), UA_NODEID_NUMERIC(0, UA_NS0ID_SERVER_SERVERCAPABILITIES),
                                     UA_NODEID_NUMERIC(0, UA_NS0ID_HASPROPERTY), UA_QUALIFIEDNAME(0, (char *)(uintptr_t)name),
                                     UA_NODEID_NUMERIC(0, UA_NS0ID_PROPERTYTYPE), attributes, NULL, NULL);
}

/* Properties of ServerCapabilitiesType: OPC 10000-5, 6.3.2. */
static UA_StatusCode capabilities_install(bf_ua_server *server) {
    const bf_ua_limits *limits = &server->config.limits;
    const struct {
        UA_UInt32 id;
        const char *name;
        UA_UInt32 value;
    } all[] = {
        {UA_NS0ID_SERVER_SERVERCAPABILITIES_MAXSESSIONS, "MaxSessions", limits->sessions_max},
        {UA_NS0ID_SERVER_SERVERCAPABILITIES_MAXSUBSCRIPTIONS, "MaxSubscriptions", limits->subscriptions_max},
        {UA_NS0ID_SERVER_SERVERCAPABILITIES_MAXSUBSCRIPTIONSPERSESSION, "MaxSubscriptionsPerSession",
         limits->subscriptions_per_session_max},
        {UA_NS0ID_SERVER_SERVERCAPABILITIES_MAXMONITOREDITEMS, "MaxMonitoredItems", limits->monitored_items_max},
        {UA_NS0ID_SERVER_SERVERCAPABILITIES_MAXMONITOREDITEMSPERSUBSCRIPTION, "MaxMonitoredItemsPerSubscription",
         limits->monitored_items_max},
        {UA_NS0ID_SERVER_SERVERCAPABILITIES_MAXMONITOREDITEMSQUEUESIZE, "MaxMonitoredItemsQueueSize", limits->queue_size_max},
    };
    UA_UInt16 continuations = (UA_UInt16)limits->browse_continuations_max;
    UA_Variant value;
    UA_Variant_setScalar(&value, &continuations, &UA_TYPES[UA_TYPES_UINT16]);
    UA_StatusCode status = UA_Server_writeValue(
        server->library, UA_NODEID_NUMERIC(0, UA_NS0ID_SERVER_SERVERCAPABILITIES_MAXBROWSECONTINUATIONPOINTS), value);
    for (size_t i = 0; status == UA_STATUSCODE_GOOD && i < sizeof all / sizeof *all; i++) {
        status = capability_add(server->library, all[i].id, all[i].name, all[i].value);
    }
    return status;
}
