/* modbus.c: from a whole Modbus TCP answer to values in one pass.
 *
 * The idea: what was asked says what every byte of the answer before the body must be, so nothing in a frame is believed. The checks follow the
 * order of the bytes; a frame that is torn anywhere is PARTIAL as long as the bytes so far are right.
 */
#include <assert.h>
#include <string.h>

#include "table.h"

#define MBAP_LENGTH_END 6u     /* the length field counts from here. Messaging on TCP/IP V1.0b, 3.1.3 */
#define HEADER_BYTES 9u        /* MBAP, function, byte count */
#define LENGTH_EXCEPTION 3u    /* unit, function, exception code */
#define LENGTH_MAX 254u        /* unit + PDU; PDU 253. Application Protocol V1.1b3, 4.1 */
#define BITS_COUNT_MAX 2000u   /* V1.1b3, 6.1 and 6.2 */
#define REGISTERS_COUNT_MAX 125u /* V1.1b3, 6.3 and 6.4 */
#define EXCEPTION_FLAG 0x80u   /* V1.1b3, 7 */

typedef struct {
    uint16_t transaction;
    uint8_t unit;
    uint8_t function;
    size_t body_bytes;
} expected_answer;

static uint16_t load_big_16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

/* Everything up to the function code. */
static int32_t header_check(const uint8_t *frame, size_t length, const expected_answer *expected)
{
    assert(frame != NULL);
    if (length < 2) {
        return BF_PARTIAL;
    }
    if (load_big_16(frame) != expected->transaction) {
        return BF_E_TRANSACTION;
    }
    if (length < 4) {
        return BF_PARTIAL;
    }
    if (load_big_16(frame + 2) != 0) {
        return BF_E_PROTOCOL;
    }
    if (length < MBAP_LENGTH_END) {
        return BF_PARTIAL;
    }
    uint16_t announced = load_big_16(frame + 4);
    if (announced < LENGTH_EXCEPTION || announced > LENGTH_MAX) {
        return BF_E_LENGTH;
    }
    if (length < 7) {
        return BF_PARTIAL;
    }
    if (frame[6] != expected->unit) {
        return BF_E_UNIT;
    }
    if (length < 8) {
        return BF_PARTIAL;
    }
    if ((frame[7] & ~EXCEPTION_FLAG) != expected->function) {
        return BF_E_FUNCTION;
    }
    return BF_OK;
}

static int32_t frame_check(const uint8_t *frame, size_t length, const expected_answer *expected)
{
    int32_t status = header_check(frame, length, expected);
    if (status != BF_OK) {
        return status;
    }
    uint16_t announced = load_big_16(frame + 4);
    bool is_exception = frame[7] != expected->function;
    if (is_exception && announced != LENGTH_EXCEPTION) {
        return BF_E_LENGTH;
    }
    if (length < HEADER_BYTES) {
        return BF_PARTIAL;
    }
    if (!is_exception && frame[8] != expected->body_bytes) {
        return BF_E_COUNT;
    }
    if (!is_exception && announced != LENGTH_EXCEPTION + expected->body_bytes) {
        return BF_E_LENGTH;
    }
    size_t whole = MBAP_LENGTH_END + announced;
    if (length < whole) {
        return BF_PARTIAL;
    }
    if (length > whole) {
        return BF_E_LENGTH;
    }
    return is_exception ? BF_E_EXCEPTION : BF_OK;
}

static void bits_unpack(const uint8_t *body, size_t count, uint8_t *out)
{
    assert(count <= BITS_COUNT_MAX);
    for (size_t i = 0; i < count; i++) {
        out[i] = body[i / 8] >> i % 8 & 1; /* the first bit is the least significant. V1.1b3, 6.1 */
    }
}

int32_t bf_modbus_answer_decode(const bf_modbus_question *question, uint16_t transaction, const uint8_t *frame, size_t length)
{
    assert(question != NULL && question->out != NULL);
    assert(frame != NULL || length == 0);
    const uint8_t function = question->function;
    const uint8_t type = question->type;
    const uint16_t count = question->count;
    if (function < 1 || function > 4 || question->order > (BF_ORDER_SWAP_BYTES | BF_ORDER_SWAP_WORDS)) {
        return BF_E_ARGUMENT;
    }
    const bool bits = function <= 2;
    if (count < 1 || count > (bits ? BITS_COUNT_MAX : REGISTERS_COUNT_MAX)) {
        return BF_E_ARGUMENT;
    }
    if (bits ? type != BF_TYPE_BOOL : (type < BF_TYPE_INT16 || type > BF_TYPE_FLOAT64)) {
        return BF_E_ARGUMENT;
    }
    const size_t width = bits ? 1 : bf_type_bytes(type);
    const size_t elements = bits ? count : (size_t)count * 2 / width;
    if (question->out_bytes < elements * width) {
        return BF_E_SPACE;
    }
    const expected_answer expected = {transaction, question->unit, function, bits ? (count + 7u) / 8u : count * 2u};
    static const uint8_t nothing[1] = {0};
    int32_t status = frame_check(length > 0 ? frame : nothing, length, &expected);
    if (status != BF_OK) {
        return status;
    }
    if (bits) {
        bits_unpack(frame + HEADER_BYTES, count, question->out);
    } else {
        bf_reorder(question->out, frame + HEADER_BYTES, elements * width, width, question->order);
    }
    return BF_OK;
}
