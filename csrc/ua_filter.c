/* ua_filter.c: what the library does not ask of a data change filter, nor takes over when an item is modified.
 *
 * Part of ua_unit.c. An item cannot be refused from outside while its request is served. A filter that is to be refused therefore gets, before, a
 * type of deadband that the standard does not have; the library refuses it for that, and its result is then replaced by ours. */

#define DEADBAND_REFUSED 0xFFFFFFFFu
#define TRIGGER_REFUSED 0xFFFFFFFEu

static UA_DataChangeFilter *change_filter(const UA_MonitoringParameters *parameters) {
    const UA_ExtensionObject *filter = &parameters->filter;
    bool is_decoded = filter->encoding == UA_EXTENSIONOBJECT_DECODED || filter->encoding == UA_EXTENSIONOBJECT_DECODED_NODELETE;
    return is_decoded && filter->content.decoded.type == &UA_TYPES[UA_TYPES_DATACHANGEFILTER] ? filter->content.decoded.data : NULL;
}

/* OPC 10000-8, 7.2: 0 to 100 percent. Of an absolute one OPC 10000-4, 7.22.2 says nothing; below 0, or no number, it would let everything or
 * nothing pass. */
static bool deadband_is_valid(const UA_DataChangeFilter *filter) {
    switch (filter->deadbandType) {
    case UA_DEADBANDTYPE_ABSOLUTE: return filter->deadbandValue >= 0.0;
    case UA_DEADBANDTYPE_PERCENT: return filter->deadbandValue >= 0.0 && filter->deadbandValue <= 100.0;
    default: return true;
    }
}

/* Marks a filter that is to be refused. */
static void filter_check(UA_MonitoringParameters *wanted) {
    UA_DataChangeFilter *filter = change_filter(wanted);
    if (filter == NULL) {
        return;
    }
    if ((UA_UInt32)filter->trigger > UA_DATACHANGETRIGGER_STATUSVALUETIMESTAMP) {
        filter->deadbandType = TRIGGER_REFUSED;
    } else if (!deadband_is_valid(filter)) {
        filter->deadbandType = DEADBAND_REFUSED;
    }
}

/* The result of an item, whose filter may have been marked. */
static UA_StatusCode filter_result(const UA_MonitoringParameters *wanted, UA_StatusCode status) {
    const UA_DataChangeFilter *filter = change_filter(wanted);
    if (filter == NULL || status != UA_STATUSCODE_BADMONITOREDITEMFILTERUNSUPPORTED) {
        return status;
    }
    switch (filter->deadbandType) {
    case TRIGGER_REFUSED: return UA_STATUSCODE_BADMONITOREDITEMFILTERINVALID;
    case DEADBAND_REFUSED: return UA_STATUSCODE_BADDEADBANDFILTERINVALID;
    default: return status;
    }
}

/* Whether a newer source time alone is a change: OPC 10000-4, 7.22.2. */
static bool item_compares_times(const UA_MonitoredItem *item) {
    const UA_DataChangeFilter *filter = change_filter(&item->parameters);
    return filter != NULL && filter->trigger == UA_DATACHANGETRIGGER_STATUSVALUETIMESTAMP;
}

static bool times_have_source(UA_TimestampsToReturn wanted) {
    return wanted == UA_TIMESTAMPSTORETURN_SOURCE || wanted == UA_TIMESTAMPSTORETURN_BOTH;
}
