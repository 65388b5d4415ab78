/* ua_space.c: the address space as packed columns: checked and copied once, then only looked up.
 *
 * Part of ua_unit.c. A space that was taken holds its promises (see space_check), so that nobody after it asks again. */

#define HASH_BASIS 2166136261u /* FNV-1a, 32 bits */
#define HASH_PRIME 16777619u

static uint32_t text_hash(const UA_Byte *text, size_t length) {
    uint32_t hash = HASH_BASIS;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ text[i]) * HASH_PRIME;
    }
    return hash;
}

static void space_clear(ua_space *space) {
    free(space->nodes);
    free(space->details);
    free(space->texts);
    free(space->ids);
    free(space->targets);
    free(space->hash);
    memset(space, 0, sizeof *space);
}

/* ---- what is promised ----------------------------------------------------------------------------------------------------------- */

static bool text_is_inside(const bf_ua_space *given, uint32_t offset, uint32_t length) {
    return offset <= given->texts_bytes && length <= given->texts_bytes - offset;
}

/* Kind of the row that a variable needs; 0 for a type that is none. */
static uint8_t row_kind(const bf_ua_node *node) {
    if (node->type < BF_TYPE_BOOL || node->type > BF_TYPE_BCD32) {
        return 0;
    }
    if ((node->flags & BF_UA_FLAG_ARRAY) != 0) {
        return node->type == BF_TYPE_STRING ? 0 : BF_KIND_ARRAY;
    }
    static const uint8_t kinds[] = {
        [BF_TYPE_BOOL] = BF_KIND_BOOL,    [BF_TYPE_INT8] = BF_KIND_INT,      [BF_TYPE_UINT8] = BF_KIND_UINT,
        [BF_TYPE_INT16] = BF_KIND_INT,    [BF_TYPE_UINT16] = BF_KIND_UINT,   [BF_TYPE_INT32] = BF_KIND_INT,
        [BF_TYPE_UINT32] = BF_KIND_UINT,  [BF_TYPE_INT64] = BF_KIND_INT,     [BF_TYPE_UINT64] = BF_KIND_UINT,
        [BF_TYPE_FLOAT32] = BF_KIND_FLOAT, [BF_TYPE_FLOAT64] = BF_KIND_FLOAT, [BF_TYPE_STRING] = BF_KIND_TEXT,
        [BF_TYPE_BCD16] = BF_KIND_UINT,   [BF_TYPE_BCD32] = BF_KIND_UINT,
    };
    return kinds[node->type];
}

static bool variable_is_valid(const bf_ua_server *server, const bf_ua_space *given, const bf_ua_node *node) {
    uint8_t kind = 0;
    uint32_t cell_bytes = 0;
    bool is_array = (node->flags & BF_UA_FLAG_ARRAY) != 0;
    if (node->row >= given->rows_count || server->api->row(server->table, node->row, &kind, &cell_bytes) != BF_OK) {
        return false;
    }
    return kind != 0 && kind == row_kind(node) && is_array == (node->array_length != 0) &&
           text_is_inside(given, node->description_offset, node->description_length);
}

static bool folder_is_valid(const bf_ua_space *given, uint32_t index) {
    const bf_ua_node *node = &given->nodes[index];
    if (node->child_count == 0) {
        return true;
    }
    if (node->first_child <= index || node->first_child > given->nodes_count ||
        node->child_count > given->nodes_count - node->first_child) {
        return false;
    }
    for (uint32_t i = 0; i < node->child_count; i++) {
        if (given->nodes[node->first_child + i].parent != index) {
            return false;
        }
    }
    return true;
}

static bool node_is_valid(const bf_ua_server *server, const bf_ua_space *given, uint32_t index) {
    const bf_ua_node *node = &given->nodes[index];
    bool has_parent = index == 0 ? node->parent == BF_UA_NONE : node->parent < index;
    bool has_detail = node->detail == BF_UA_NONE || node->detail < given->details_count;
    bool has_id = text_is_inside(given, node->id_offset, node->id_length) && node->name_start < node->id_length &&
                  node->id_length <= ID_BYTES_MAX;
    if (!has_parent || !has_detail || !has_id) {
        return false;
    }
    if (index != 0) { /* a child is where its parent says */
        const bf_ua_node *parent = &given->nodes[node->parent];
        if (parent->kind != BF_UA_FOLDER || index < parent->first_child || index - parent->first_child >= parent->child_count) {
            return false;
        }
    }
    if (node->kind == BF_UA_FOLDER) {
        return folder_is_valid(given, index);
    }
    return (node->kind == BF_UA_TAG || node->kind == BF_UA_DIAGNOSTIC) && variable_is_valid(server, given, node);
}

/* Whether every offset, number and type in `given` is as bifrost_ua.h says. */
static bool space_check(const bf_ua_server *server, const bf_ua_space *given) {
    if (given == NULL || given->nodes == NULL || given->nodes_count == 0 || given->nodes_count >= NO_NODE ||
        given->nodes[0].kind != BF_UA_FOLDER) {
        return false;
    }
    for (uint32_t i = 0; i < given->details_count; i++) {
        const bf_ua_detail *detail = &given->details[i];
        if (!text_is_inside(given, detail->unit_offset, detail->unit_length)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < given->nodes_count; i++) {
        if (!node_is_valid(server, given, i)) {
            return false;
        }
    }
    return true;
}

/* ---- making --------------------------------------------------------------------------------------------------------------------- */

static UA_String node_id_text(const ua_space *space, uint32_t index) {
    const bf_ua_node *node = &space->nodes[index];
    return (UA_String){.length = node->id_length, .data = (UA_Byte *)space->texts + node->id_offset};
}

static UA_String node_name_text(const ua_space *space, uint32_t index) {
    UA_String text = node_id_text(space, index);
    uint16_t start = space->nodes[index].name_start;
    return (UA_String){.length = text.length - start, .data = text.data + start};
}

/* Place of an id in the hash: where it is, or the free place where it would be. */
static uint32_t hash_place(const ua_space *space, const UA_String *id) {
    uint32_t place = text_hash(id->data, id->length) & space->hash_mask;
    for (uint32_t step = 0; step <= space->hash_mask; step++) { /* there is always a free place */
        uint32_t entry = space->hash[place];
        UA_String other = entry == 0 ? UA_STRING_NULL : node_id_text(space, entry - 1);
        if (entry == 0 || UA_String_equal(id, &other)) {
            break;
        }
        place = (place + 1) & space->hash_mask;
    }
    return place;
}

static void *copied(const void *source, size_t count, size_t bytes) {
    void *copy = malloc(count * bytes + 1);
    if (copy != NULL && count > 0) {
        memcpy(copy, source, count * bytes);
    }
    return copy;
}

/* Fills ids, targets and hash. BadInvalidArgument: an id is there twice. */
static UA_StatusCode space_index(ua_space *space) {
    for (uint32_t i = 0; i < space->nodes_count; i++) {
        UA_String id = node_id_text(space, i);
        uint32_t place = hash_place(space, &id);
        if (space->hash[place] != 0) {
            return UA_STATUSCODE_BADINVALIDARGUMENT;
        }
        space->hash[place] = i + 1;
        space->ids[i] = (UA_NodeId){TAGS_NAMESPACE, UA_NODEIDTYPE_STRING, {.string = id}};
        UA_QualifiedName name = {TAGS_NAMESPACE, node_name_text(space, i)};
        space->targets[i].targetId = UA_NodePointer_fromNodeId(&space->ids[i]);
        space->targets[i].targetNameHash = UA_QualifiedName_hash(&name);
    }
    return UA_STATUSCODE_GOOD;
}

/* Copies `given`. On failure nothing is held. Called from the threads that start and swap too: it touches nothing but its arguments. */
static UA_StatusCode space_make(const bf_ua_server *server, const bf_ua_space *given, ua_space *out) {
    if (!space_check(server, given)) {
        return UA_STATUSCODE_BADINVALIDARGUMENT;
    }
    uint32_t places = 16;
    while (places < given->nodes_count + given->nodes_count / 2) { /* NO_NODE keeps this below 2^31 */
        places *= 2;
    }
    ua_space made = {.nodes_count = given->nodes_count,
                     .details_count = given->details_count,
                     .texts_bytes = given->texts_bytes,
                     .rows_count = given->rows_count,
                     .hash_mask = places - 1};
    made.nodes = copied(given->nodes, given->nodes_count, sizeof *given->nodes);
    made.details = copied(given->details, given->details_count, sizeof *given->details);
    made.texts = copied(given->texts, given->texts_bytes, 1);
    made.ids = calloc(given->nodes_count, sizeof *made.ids);
    made.targets = calloc(given->nodes_count, sizeof *made.targets);
    made.hash = calloc(places, sizeof *made.hash);
    UA_StatusCode status = UA_STATUSCODE_BADOUTOFMEMORY;
    if (made.nodes != NULL && made.details != NULL && made.texts != NULL && made.ids != NULL && made.targets != NULL &&
        made.hash != NULL) {
        status = space_index(&made);
    }
    if (status != UA_STATUSCODE_GOOD) {
        space_clear(&made);
        return status;
    }
    *out = made;
    return UA_STATUSCODE_GOOD;
}

/* ---- looking up ----------------------------------------------------------------------------------------------------------------- */

static const bf_ua_detail *node_detail(const ua_space *space, uint32_t index) {
    uint32_t detail = space->nodes[index].detail;
    return detail == BF_UA_NONE ? NULL : &space->details[detail];
}

static bool node_has_range(const ua_space *space, uint32_t index) {
    const bf_ua_detail *detail = node_detail(space, index);
    return detail != NULL && detail->has_range != 0 && space->nodes[index].kind == BF_UA_TAG;
}

static bool node_has_units(const ua_space *space, uint32_t index) {
    const bf_ua_detail *detail = node_detail(space, index);
    return detail != NULL && detail->unit_length != 0 && space->nodes[index].kind == BF_UA_TAG;
}

static const UA_String range_suffix = UA_STRING_STATIC("#EURange");
static const UA_String units_suffix = UA_STRING_STATIC("#EngineeringUnits");

static bool text_ends_with(const UA_String *text, const UA_String *suffix) {
    return text->length > suffix->length && memcmp(text->data + text->length - suffix->length, suffix->data, suffix->length) == 0;
}

/* What `id` names in our namespace. */
static ua_found space_find(const ua_space *space, const UA_NodeId *id) {
    ua_found found = {FOUND_NOTHING, 0};
    if (id->namespaceIndex != TAGS_NAMESPACE || id->identifierType != UA_NODEIDTYPE_STRING || id->identifier.string.length == 0) {
        return found;
    }
    if (id >= space->ids && id < space->ids + space->nodes_count) { /* out of a reference of ours: no need to search */
        return (ua_found){FOUND_NODE, (uint32_t)(id - space->ids)};
    }
    UA_String text = id->identifier.string;
    uint32_t entry = space->hash[hash_place(space, &text)];
    if (entry != 0) {
        return (ua_found){FOUND_NODE, entry - 1};
    }
    bool is_range = text_ends_with(&text, &range_suffix);
    if (!is_range && !text_ends_with(&text, &units_suffix)) {
        return found;
    }
    text.length -= is_range ? range_suffix.length : units_suffix.length;
    entry = space->hash[hash_place(space, &text)];
    if (entry != 0 && (is_range ? node_has_range(space, entry - 1) : node_has_units(space, entry - 1))) {
        found = (ua_found){is_range ? FOUND_RANGE : FOUND_UNITS, entry - 1};
    }
    return found;
}
