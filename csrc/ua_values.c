/* ua_values.c: values between the table (64 bits, or the bytes of a cell) and the library (variants).
 *
 * Part of ua_unit.c. A variant made here borrows: it points into the row's image or at a word of the caller's, so that nothing is allocated
 * until somebody keeps it. */

/* What a borrowed variant may point at. */
typedef union {
    UA_Boolean boolean;
    UA_SByte sbyte;
    UA_Byte byte;
    UA_Int16 int16;
    UA_UInt16 uint16;
    UA_Int32 int32;
    UA_UInt32 uint32;
    UA_Int64 int64;
    UA_UInt64 uint64;
    UA_Float float32;
    UA_Double float64;
    UA_String string;
} ua_word;

static const UA_DataType *value_type(uint8_t type) {
    static const uint16_t numbers[] = {
        [BF_TYPE_BOOL] = UA_TYPES_BOOLEAN,  [BF_TYPE_INT8] = UA_TYPES_SBYTE,     [BF_TYPE_UINT8] = UA_TYPES_BYTE,
        [BF_TYPE_INT16] = UA_TYPES_INT16,   [BF_TYPE_UINT16] = UA_TYPES_UINT16,  [BF_TYPE_INT32] = UA_TYPES_INT32,
        [BF_TYPE_UINT32] = UA_TYPES_UINT32, [BF_TYPE_INT64] = UA_TYPES_INT64,    [BF_TYPE_UINT64] = UA_TYPES_UINT64,
        [BF_TYPE_FLOAT32] = UA_TYPES_FLOAT, [BF_TYPE_FLOAT64] = UA_TYPES_DOUBLE, [BF_TYPE_STRING] = UA_TYPES_STRING,
        [BF_TYPE_BCD16] = UA_TYPES_UINT16,  [BF_TYPE_BCD32] = UA_TYPES_UINT32,
    };
    assert(type >= BF_TYPE_BOOL && type <= BF_TYPE_BCD32);
    return &UA_TYPES[numbers[type]];
}

static double bits_double(uint64_t bits) {
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static uint64_t double_bits(double number) {
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

/* Puts the 64 bits of a scalar into `word` as the library keeps its type. */
static void word_set(ua_word *word, const UA_DataType *type, uint64_t bits) {
    switch (type->typeKind) {
    case UA_DATATYPEKIND_BOOLEAN:
        word->boolean = bits != 0;
        break;
    case UA_DATATYPEKIND_FLOAT:
        word->float32 = (UA_Float)bits_double(bits);
        break;
    default: /* integers are the low bytes, a double is all of them */
        word->uint64 = bits;
        break;
    }
}

/* A variant of the row's last value; it holds as long as neither the row nor `word` changes. */
static void value_borrow(const bf_ua_node *node, const ua_row *row, ua_word *word, UA_Variant *out) {
    const UA_DataType *type = value_type(node->type);
    UA_Variant_init(out);
    out->type = type;
    out->storageType = UA_VARIANT_DATA_NODELETE;
    if ((node->flags & BF_UA_FLAG_ARRAY) != 0) {
        const ua_cell *cell = row->value.cell;
        out->arrayLength = cell->length / type->memSize;
        out->data = out->arrayLength == 0 ? UA_EMPTY_ARRAY_SENTINEL : (void *)(uintptr_t)cell->bytes;
        return;
    }
    out->data = word;
    if (node->type == BF_TYPE_STRING) {
        const ua_cell *cell = row->value.cell;
        word->string.length = cell->length;
        word->string.data = cell->length == 0 ? (UA_Byte *)UA_EMPTY_ARRAY_SENTINEL : (UA_Byte *)(uintptr_t)cell->bytes;
    } else {
        word_set(word, type, row->value.bits);
    }
}

/* ---- texts ---------------------------------------------------------------------------------------------------------------------- */

/* Bytes of the UTF-8 sequence that begins at `text`; 0 if there is none. RFC 3629, 4: neither overlong forms nor surrogates. */
static size_t utf8_sequence(const uint8_t *text, size_t left) {
    uint8_t first = text[0];
    if (first < 0x80) {
        return 1;
    }
    size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || length > left) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (first == 0xE0 && text[1] < 0xA0) || (first == 0xF0 && text[1] < 0x90);
    bool beyond = (first == 0xED && text[1] > 0x9F) || (first == 0xF4 && text[1] > 0x8F);
    return overlong || beyond ? 0 : length;
}

static bool text_is_utf8(const uint8_t *text, size_t length) {
    for (size_t i = 0; i < length;) {
        size_t sequence = utf8_sequence(text + i, length - i);
        if (sequence == 0) {
            return false;
        }
        i += sequence;
    }
    return true;
}

/* Puts the bytes of a text or array into the cell. A text that is not UTF-8 is taken for Latin-1, so that clients always get a text. */
static void cell_set(ua_cell *cell, bool is_text, const uint8_t *bytes, size_t length) {
    if (!is_text || text_is_utf8(bytes, length)) {
        assert(length <= cell->size);
        memcpy(cell->bytes, bytes, length);
        cell->length = (uint32_t)length;
        return;
    }
    uint32_t at = 0;
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] < 0x80) {
            cell->bytes[at++] = bytes[i];
        } else { /* U+0080 to U+00FF: two bytes; cells of texts have room for them */
            cell->bytes[at++] = (uint8_t)(0xC0 | bytes[i] >> 6);
            cell->bytes[at++] = (uint8_t)(0x80 | (bytes[i] & 0x3F));
        }
    }
    assert(at <= cell->size);
    cell->length = at;
}

/* ---- what clients write --------------------------------------------------------------------------------------------------------- */

/* A number without a type of its own: exactly one of the three, by `kind` (BF_KIND_…). */
typedef struct {
    uint8_t kind;
    int64_t integer;
    uint64_t natural;
    double real;
} ua_number;

/* Reads one element of a numeric type of the library; false if it is none. */
static bool number_read(const UA_DataType *type, const void *data, ua_number *out) {
    ua_word word;
    if (!UA_DataType_isNumeric(type) || type->memSize > sizeof word) {
        return false;
    }
    memcpy(&word, data, type->memSize);
    *out = (ua_number){.kind = BF_KIND_INT};
    switch (type->typeKind) {
    case UA_DATATYPEKIND_SBYTE: out->integer = word.sbyte; break;
    case UA_DATATYPEKIND_INT16: out->integer = word.int16; break;
    case UA_DATATYPEKIND_INT32: out->integer = word.int32; break;
    case UA_DATATYPEKIND_INT64: out->integer = word.int64; break;
    case UA_DATATYPEKIND_BYTE: *out = (ua_number){.kind = BF_KIND_UINT, .natural = word.byte}; break;
    case UA_DATATYPEKIND_UINT16: *out = (ua_number){.kind = BF_KIND_UINT, .natural = word.uint16}; break;
    case UA_DATATYPEKIND_UINT32: *out = (ua_number){.kind = BF_KIND_UINT, .natural = word.uint32}; break;
    case UA_DATATYPEKIND_UINT64: *out = (ua_number){.kind = BF_KIND_UINT, .natural = word.uint64}; break;
    case UA_DATATYPEKIND_FLOAT: *out = (ua_number){.kind = BF_KIND_FLOAT, .real = (double)word.float32}; break;
    case UA_DATATYPEKIND_DOUBLE: *out = (ua_number){.kind = BF_KIND_FLOAT, .real = word.float64}; break;
    default: return false;
    }
    return true;
}

/* Makes an integer of any number whose value is one; false if it is outside 64 bits or has a fraction. */
static bool number_to_integer(const ua_number *number, bool *negative, uint64_t *magnitude) {
    if (number->kind == BF_KIND_UINT) {
        *negative = false;
        *magnitude = number->natural;
        return true;
    }
    if (number->kind == BF_KIND_INT) {
        *negative = number->integer < 0;
        *magnitude = *negative ? 0 - (uint64_t)number->integer : (uint64_t)number->integer;
        return true;
    }
    double size = number->real < 0 ? -number->real : number->real;
    if (!(size < 18446744073709551616.0) || (double)(uint64_t)size != size) { /* 2^64; NaN is not below it */
        return false;
    }
    *negative = number->real < 0;
    *magnitude = (uint64_t)size;
    return true;
}

/* The double that is exactly this number; false if there is none. */
static bool number_to_double(const ua_number *number, double *out) {
    if (number->kind == BF_KIND_FLOAT) {
        *out = number->real;
        return true;
    }
    bool negative;
    uint64_t magnitude;
    (void)number_to_integer(number, &negative, &magnitude);
    double size = (double)magnitude;
    if (!(size < 18446744073709551616.0) || (uint64_t)size != magnitude) {
        return false;
    }
    *out = negative ? -size : size;
    return true;
}

/* Whether a Float can hold `real`. A client's Double is rounded, since 0.1 has no other form; all else has to be the same number after it. */
static bool float_holds(double real, const UA_DataType *given) {
    double rounded = (double)(float)real;
    if (real != real || rounded == real) {
        return true;
    }
    bool overflowed = rounded - rounded != 0; /* infinite */
    return given == &UA_TYPES[UA_TYPES_DOUBLE] && !overflowed;
}

static UA_StatusCode real_take(uint8_t type, const UA_DataType *given, const ua_number *number, uint64_t *bits) {
    double real;
    if (!number_to_double(number, &real) || (type == BF_TYPE_FLOAT32 && !float_holds(real, given))) {
        return UA_STATUSCODE_BADTYPEMISMATCH;
    }
    *bits = double_bits(type == BF_TYPE_FLOAT32 ? (double)(float)real : real);
    return UA_STATUSCODE_GOOD;
}

static UA_StatusCode integer_take(const UA_DataType *wanted, const ua_number *number, uint64_t *bits) {
    bool negative;
    uint64_t magnitude;
    if (!number_to_integer(number, &negative, &magnitude)) {
        return UA_STATUSCODE_BADTYPEMISMATCH;
    }
    unsigned width = wanted->memSize * 8u;
    bool is_signed = wanted->typeKind == UA_DATATYPEKIND_SBYTE || wanted->typeKind == UA_DATATYPEKIND_INT16 ||
                     wanted->typeKind == UA_DATATYPEKIND_INT32 || wanted->typeKind == UA_DATATYPEKIND_INT64;
    uint64_t most = is_signed ? (UINT64_C(1) << (width - 1)) - 1 : UINT64_MAX >> (64 - width);
    uint64_t least = is_signed ? UINT64_C(1) << (width - 1) : 0;
    if (magnitude > (negative ? least : most)) {
        return UA_STATUSCODE_BADTYPEMISMATCH;
    }
    *bits = negative ? 0 - magnitude : magnitude;
    return UA_STATUSCODE_GOOD;
}

/* The 64 bits of one element of `type` (BF_TYPE_…) that `data` (of the library's type `given`) is: the same type, or another numeric type
 * that holds this very value. OPC 10000-4, 5.11.4 would have any other type refused; common clients send Int64 and Double for whatever they are
 * told to write, and nothing is changed by taking those that fit. BadTypeMismatch: it does not fit. */
static UA_StatusCode element_take(uint8_t type, const UA_DataType *given, const void *data, uint64_t *bits) {
    const UA_DataType *wanted = value_type(type);
    if (type == BF_TYPE_BOOL && given == wanted) {
        *bits = *(const UA_Boolean *)data ? 1 : 0;
        return UA_STATUSCODE_GOOD;
    }
    ua_number number;
    if (type == BF_TYPE_BOOL || type == BF_TYPE_STRING || !number_read(given, data, &number)) {
        return UA_STATUSCODE_BADTYPEMISMATCH;
    }
    bool is_real = type == BF_TYPE_FLOAT32 || type == BF_TYPE_FLOAT64;
    return is_real ? real_take(type, given, &number, bits) : integer_take(wanted, &number, bits);
}

/* Writes the 64 bits of one element as it lies in a cell: little-endian, as wide as its type. */
static void element_put(uint8_t type, uint64_t bits, uint8_t *target) {
    ua_word word;
    word_set(&word, value_type(type), bits);
    memcpy(target, &word, value_type(type)->memSize);
}

/* Takes a scalar or text that a client wrote to `node`. A text is handed back as it is, not copied. */
static UA_StatusCode scalar_take(const bf_ua_node *node, const UA_Variant *value, uint64_t *bits, UA_String *text) {
    if (!UA_Variant_isScalar(value)) {
        return UA_STATUSCODE_BADTYPEMISMATCH;
    }
    if (node->type != BF_TYPE_STRING) {
        return element_take(node->type, value->type, value->data, bits);
    }
    if (value->type != &UA_TYPES[UA_TYPES_STRING]) {
        return UA_STATUSCODE_BADTYPEMISMATCH;
    }
    *text = *(const UA_String *)value->data;
    return text_is_utf8(text->data, text->length) ? UA_STATUSCODE_GOOD : UA_STATUSCODE_BADTYPEMISMATCH;
}

/* Takes an array that a client wrote to `node`; `bytes` has room for all its elements. */
static UA_StatusCode array_take(const bf_ua_node *node, const UA_Variant *value, uint8_t *bytes) {
    if (UA_Variant_isScalar(value) || value->arrayLength != node->array_length || value->arrayDimensionsSize > 1) {
        return UA_STATUSCODE_BADTYPEMISMATCH;
    }
    size_t width = value_type(node->type)->memSize;
    for (size_t i = 0; i < value->arrayLength; i++) {
        uint64_t bits;
        const uint8_t *element = (const uint8_t *)value->data + i * value->type->memSize;
        UA_StatusCode status = element_take(node->type, value->type, element, &bits);
        if (status != UA_STATUSCODE_GOOD) {
            return status;
        }
        element_put(node->type, bits, bytes + i * width);
    }
    return UA_STATUSCODE_GOOD;
}
