/* ua_nodestore.c: nodes on demand: the library asks for a node, gets a pooled one filled from the space, and gives it back.
 *
 * Part of ua_unit.c. What is not in our namespace is in the library's own store, which lies behind this one. A pool that is used up answers as
 * an unknown id does: the library has a status for that at every call. Nodes have no writable attribute but Value, which never comes here. */

/* ---- values of properties ------------------------------------------------------------------------------------------------------ */

static UA_StatusCode read_range(UA_Server *library, const UA_NodeId *session, void *session_context, const UA_NodeId *id, void *context,
                                UA_Boolean with_source_time, const UA_NumericRange *range, UA_DataValue *out) {
    (void)session, (void)session_context, (void)id, (void)with_source_time;
    if (range != NULL) {
        return UA_STATUSCODE_BADINDEXRANGENODATA;
    }
    const bf_ua_detail *detail = node_detail(&server_of(library)->space, (uint32_t)(uintptr_t)context);
    UA_Range value = {.low = detail->low, .high = detail->high};
    UA_StatusCode status = UA_Variant_setScalarCopy(&out->value, &value, &UA_TYPES[UA_TYPES_RANGE]);
    out->hasValue = status == UA_STATUSCODE_GOOD;
    return status;
}

static UA_StatusCode read_units(UA_Server *library, const UA_NodeId *session, void *session_context, const UA_NodeId *id, void *context,
                                UA_Boolean with_source_time, const UA_NumericRange *range, UA_DataValue *out) {
    (void)session, (void)session_context, (void)id, (void)with_source_time;
    if (range != NULL) {
        return UA_STATUSCODE_BADINDEXRANGENODATA;
    }
    const ua_space *space = &server_of(library)->space;
    const bf_ua_detail *detail = node_detail(space, (uint32_t)(uintptr_t)context);
    UA_String text = {detail->unit_length, (UA_Byte *)space->texts + detail->unit_offset};
    UA_EUInformation value = {
        .namespaceUri = UA_STRING_STATIC("http://www.opcfoundation.org/UA/units/un/cefact"), /* OPC 10000-8, 5.6.3.3 */
        .unitId = detail->unit_id,
        .displayName = {UA_STRING_NULL, text},
        .description = {UA_STRING_NULL, text},
    };
    UA_StatusCode status = UA_Variant_setScalarCopy(&out->value, &value, &UA_TYPES[UA_TYPES_EUINFORMATION]);
    out->hasValue = status == UA_STATUSCODE_GOOD;
    return status;
}

/* ---- filling a node ------------------------------------------------------------------------------------------------------------- */

static void add_references(ua_pooled *pooled, UA_Byte type, bool inverse, UA_ReferenceTarget *targets, size_t count) {
    UA_NodeHead *head = &pooled->node.head;
    assert(head->referencesSize < sizeof pooled->kinds / sizeof *pooled->kinds);
    pooled->kinds[head->referencesSize++] = (UA_NodeReferenceKind){
        .targets.array = targets, .targetsSize = count, .hasRefTree = false, .referenceTypeIndex = type, .isInverse = inverse};
}

static void add_type_definition(ua_pooled *pooled, UA_UInt32 type) {
    UA_NodeId id = UA_NODEID_NUMERIC(0, type);
    pooled->targets[0].targetId = UA_NodePointer_fromNodeId(&id); /* numeric: the pointer holds it all */
    pooled->targets[0].targetNameHash = 0;
    add_references(pooled, UA_REFERENCETYPEINDEX_HASTYPEDEFINITION, false, &pooled->targets[0], 1);
}

static void add_parent(ua_pooled *pooled, ua_space *space, uint32_t index) {
    if (index != 0) {
        add_references(pooled, UA_REFERENCETYPEINDEX_ORGANIZES, true, &space->targets[space->nodes[index].parent], 1);
        return;
    }
    UA_NodeId objects = UA_NODEID_NUMERIC(0, UA_NS0ID_OBJECTSFOLDER);
    pooled->targets[1].targetId = UA_NodePointer_fromNodeId(&objects);
    pooled->targets[1].targetNameHash = 0;
    add_references(pooled, UA_REFERENCETYPEINDEX_ORGANIZES, true, &pooled->targets[1], 1);
}

/* Id of a property of node `index`, in the pooled node's own text number `slot`. */
static void property_id(ua_pooled *pooled, const ua_space *space, uint32_t index, const UA_String *suffix, size_t slot) {
    UA_String id = node_id_text(space, index);
    char *text = pooled->property_texts[slot];
    assert(id.length + suffix->length <= sizeof pooled->property_texts[slot]);
    memcpy(text, id.data, id.length);
    memcpy(text + id.length, suffix->data, suffix->length);
    pooled->property_ids[slot] = (UA_NodeId){
        TAGS_NAMESPACE, UA_NODEIDTYPE_STRING, {.string = {id.length + suffix->length, (UA_Byte *)text}}};
}

static void add_properties(bf_ua_server *server, ua_pooled *pooled, uint32_t index) {
    size_t count = 0;
    UA_ReferenceTarget *targets = &pooled->targets[2];
    if (node_has_range(&server->space, index)) {
        property_id(pooled, &server->space, index, &range_suffix, count);
        targets[count].targetId = UA_NodePointer_fromNodeId(&pooled->property_ids[count]);
        targets[count++].targetNameHash = server->range_hash;
    }
    if (node_has_units(&server->space, index)) {
        property_id(pooled, &server->space, index, &units_suffix, count);
        targets[count].targetId = UA_NodePointer_fromNodeId(&pooled->property_ids[count]);
        targets[count++].targetNameHash = server->units_hash;
    }
    if (count > 0) {
        add_references(pooled, UA_REFERENCETYPEINDEX_HASPROPERTY, false, targets, count);
    }
}

static void set_names(ua_pooled *pooled, UA_UInt16 name_space, UA_String name) {
    UA_NodeHead *head = &pooled->node.head;
    head->browseName = (UA_QualifiedName){name_space, name};
    pooled->name = (UA_LocalizedTextListEntry){NULL, {UA_STRING_NULL, name}};
    head->displayName = &pooled->name;
}

static void fill_folder(bf_ua_server *server, ua_pooled *pooled, uint32_t index) {
    ua_space *space = &server->space;
    const bf_ua_node *node = &space->nodes[index];
    pooled->node.head.nodeClass = UA_NODECLASS_OBJECT;
    add_type_definition(pooled, UA_NS0ID_FOLDERTYPE);
    add_parent(pooled, space, index);
    if (node->child_count > 0) {
        add_references(pooled, UA_REFERENCETYPEINDEX_ORGANIZES, false, &space->targets[node->first_child], node->child_count);
    }
}

static void fill_variable(bf_ua_server *server, ua_pooled *pooled, uint32_t index) {
    ua_space *space = &server->space;
    const bf_ua_node *node = &space->nodes[index];
    UA_VariableNode *variable = &pooled->node.variableNode;
    variable->head.nodeClass = UA_NODECLASS_VARIABLE;
    if (node->description_length > 0) {
        UA_String text = {node->description_length, (UA_Byte *)space->texts + node->description_offset};
        pooled->description = (UA_LocalizedTextListEntry){NULL, {UA_STRING_NULL, text}};
        variable->head.description = &pooled->description;
    }
    variable->dataType = value_type(node->type)->typeId;
    variable->valueRank = UA_VALUERANK_SCALAR;
    if ((node->flags & BF_UA_FLAG_ARRAY) != 0) {
        pooled->dimension = node->array_length;
        variable->valueRank = UA_VALUERANK_ONE_DIMENSION;
        variable->arrayDimensions = &pooled->dimension;
        variable->arrayDimensionsSize = 1;
    }
    variable->accessLevel = UA_ACCESSLEVELMASK_READ;
    if (node->kind == BF_UA_TAG && (node->flags & BF_UA_FLAG_WRITABLE) != 0) {
        /* Common clients send a time or a status along; without the last two bits that would have to be refused. */
        variable->accessLevel |= UA_ACCESSLEVELMASK_WRITE | UA_ACCESSLEVELMASK_STATUSWRITE | UA_ACCESSLEVELMASK_TIMESTAMPWRITE;
    }
    variable->minimumSamplingInterval = node->period_ms;
    variable->isDynamic = true;
    variable->valueSource = UA_VALUESOURCE_DATASOURCE;
    variable->value.dataSource.read = read_tag;
    /* OPC 10000-8, 5.3.2.3: AnalogItemType has an EURange always, and EngineeringUnits perhaps. */
    add_type_definition(pooled, node_has_range(space, index) ? UA_NS0ID_ANALOGITEMTYPE : UA_NS0ID_BASEDATAVARIABLETYPE);
    add_parent(pooled, space, index);
    add_properties(server, pooled, index);
}

static void fill_node(bf_ua_server *server, ua_pooled *pooled, uint32_t index) {
    ua_space *space = &server->space;
    UA_NodeHead *head = &pooled->node.head;
    head->nodeId = space->ids[index];
    set_names(pooled, TAGS_NAMESPACE, node_name_text(space, index));
    if (space->nodes[index].kind == BF_UA_FOLDER) {
        fill_folder(server, pooled, index);
    } else {
        fill_variable(server, pooled, index);
    }
}

static void fill_property(bf_ua_server *server, ua_pooled *pooled, ua_found found) {
    bool is_range = found.kind == FOUND_RANGE;
    UA_VariableNode *variable = &pooled->node.variableNode;
    property_id(pooled, &server->space, found.node, is_range ? &range_suffix : &units_suffix, 0);
    variable->head.nodeId = pooled->property_ids[0];
    variable->head.nodeClass = UA_NODECLASS_VARIABLE;
    set_names(pooled, 0, UA_STRING(is_range ? "EURange" : "EngineeringUnits"));
    variable->dataType = UA_TYPES[is_range ? UA_TYPES_RANGE : UA_TYPES_EUINFORMATION].typeId;
    variable->valueRank = UA_VALUERANK_SCALAR;
    variable->accessLevel = UA_ACCESSLEVELMASK_READ;
    variable->valueSource = UA_VALUESOURCE_DATASOURCE;
    variable->value.dataSource.read = is_range ? read_range : read_units;
    add_type_definition(pooled, UA_NS0ID_PROPERTYTYPE);
    add_references(pooled, UA_REFERENCETYPEINDEX_HASPROPERTY, true, &server->space.targets[found.node], 1);
}

/* ---- the store as the library sees it ------------------------------------------------------------------------------------------- */

static const UA_Node *pooled_get(bf_ua_server *server, ua_found found) {
    ua_pooled *pooled = server->pool_free;
    if (pooled == NULL) {
        server->counts.nodes_exhausted++;
        return NULL;
    }
    server->pool_free = pooled->next;
    memset(&pooled->node, 0, sizeof pooled->node);
    UA_NodeHead *head = &pooled->node.head;
    head->constructed = true;
    head->references = pooled->kinds;
    head->context = (void *)(uintptr_t)found.node;
    if (found.kind == FOUND_NODE) {
        fill_node(server, pooled, found.node);
    } else {
        fill_property(server, pooled, found);
    }
    return &pooled->node;
}

static const UA_Node *store_get(void *context, const UA_NodeId *id, UA_UInt32 attributes, UA_ReferenceTypeSet references,
                                UA_BrowseDirection directions) {
    bf_ua_server *server = context;
    ua_found found = space_find(&server->space, id);
    if (found.kind == FOUND_NOTHING) {
        return server->base.getNode(server->base.context, id, attributes, references, directions);
    }
    return pooled_get(server, found);
}

static const UA_Node *store_get_by_pointer(void *context, UA_NodePointer pointer, UA_UInt32 attributes, UA_ReferenceTypeSet references,
                                           UA_BrowseDirection directions) {
    if (!UA_NodePointer_isLocal(pointer)) {
        return NULL;
    }
    bf_ua_server *server = context;
    if ((pointer.immediate & UA_NODEPOINTER_MASK) == UA_NODEPOINTER_TAG_NODEID) {
        pointer.immediate &= ~(uintptr_t)UA_NODEPOINTER_MASK; /* the id itself, so that one of ours is known by its address */
        return store_get(context, pointer.id, attributes, references, directions);
    }
    return server->base.getNodeFromPtr(server->base.context, pointer, attributes, references, directions);
}

static void store_release(void *context, const UA_Node *node) {
    bf_ua_server *server = context;
    uintptr_t address = (uintptr_t)node;
    if (address >= (uintptr_t)server->pool && address < (uintptr_t)(server->pool + POOL_NODES)) {
        ua_pooled *pooled = (ua_pooled *)address;
        pooled->next = server->pool_free;
        server->pool_free = pooled;
    } else if (node != NULL) {
        server->base.releaseNode(server->base.context, node);
    }
}

static void store_clear(void *context) {
    bf_ua_server *server = context;
    server->base.clear(server->base.context);
}

static UA_Node *store_new(void *context, UA_NodeClass node_class) {
    bf_ua_server *server = context;
    return server->base.newNode(server->base.context, node_class);
}

static void store_delete(void *context, UA_Node *node) {
    bf_ua_server *server = context;
    server->base.deleteNode(server->base.context, node);
}

static UA_StatusCode store_copy(void *context, const UA_NodeId *id, UA_Node **out) {
    bf_ua_server *server = context;
    return server->base.getNodeCopy(server->base.context, id, out);
}

static UA_StatusCode store_insert(void *context, UA_Node *node, UA_NodeId *added) {
    bf_ua_server *server = context;
    return server->base.insertNode(server->base.context, node, added);
}

static UA_StatusCode store_replace(void *context, UA_Node *node) {
    bf_ua_server *server = context;
    return server->base.replaceNode(server->base.context, node);
}

static UA_StatusCode store_remove(void *context, const UA_NodeId *id) {
    bf_ua_server *server = context;
    return server->base.removeNode(server->base.context, id);
}

static const UA_NodeId *store_reference_type(void *context, UA_Byte index) {
    bf_ua_server *server = context;
    return server->base.getReferenceTypeId(server->base.context, index);
}

static void store_iterate(void *context, UA_NodestoreVisitor visitor, void *visitor_context) {
    bf_ua_server *server = context;
    server->base.iterate(server->base.context, visitor, visitor_context);
}

/* Makes the library's own store and puts ours before it. Before UA_ServerConfig_setBasics, which would use its own unchecked if it failed. */
static UA_StatusCode store_install(bf_ua_server *server, UA_ServerConfig *config) {
    UA_StatusCode status = UA_Nodestore_HashMap(&server->base);
    if (status != UA_STATUSCODE_GOOD) {
        return status;
    }
    for (size_t i = 0; i < POOL_NODES; i++) {
        server->pool[i].next = server->pool_free;
        server->pool_free = &server->pool[i];
    }
    UA_QualifiedName range = UA_QUALIFIEDNAME(0, "EURange");
    UA_QualifiedName units = UA_QUALIFIEDNAME(0, "EngineeringUnits");
    server->range_hash = UA_QualifiedName_hash(&range);
    server->units_hash = UA_QualifiedName_hash(&units);
    config->nodestore = (UA_Nodestore){
        .context = server,
        .clear = store_clear,
        .newNode = store_new,
        .deleteNode = store_delete,
        .getNode = store_get,
        .getNodeFromPtr = store_get_by_pointer,
        .releaseNode = store_release,
        .getNodeCopy = store_copy,
        .insertNode = store_insert,
        .replaceNode = store_replace,
        .removeNode = store_remove,
        .getReferenceTypeId = store_reference_type,
        .iterate = store_iterate,
    };
    return UA_STATUSCODE_GOOD;
}

/* Hangs the folder Bifrost under Objects. */
static UA_StatusCode store_hang_in(bf_ua_server *server) {
    UA_NodeId objects = UA_NODEID_NUMERIC(0, UA_NS0ID_OBJECTSFOLDER);
    const UA_Node *node = server->base.getNode(server->base.context, &objects, UA_NODEATTRIBUTESMASK_ALL, UA_REFERENCETYPESET_ALL,
                                               UA_BROWSEDIRECTION_BOTH);
    if (node == NULL) {
        return UA_STATUSCODE_BADINTERNALERROR;
    }
    UA_ExpandedNodeId bifrost = {.nodeId = server->space.ids[0]};
    UA_StatusCode status = UA_Node_addReference((UA_Node *)(uintptr_t)node, UA_REFERENCETYPEINDEX_ORGANIZES, true, &bifrost,
                                                server->space.targets[0].targetNameHash);
    server->base.releaseNode(server->base.context, node);
    return status;
}
