/* crc.c: CRC-16/MODBUS and CRC-32, eight bytes a step.
 *
 * The idea: the CRC is linear, so what a byte does to it does not depend on the other bytes. TABLE[k][b] is what byte b does when k bytes follow
 * it; eight bytes are eight look-ups and an exclusive or. Entry b itself is the sum of the entries of b's bits, so eight numbers make a table.
 */
#include <assert.h>

#include "bifrost.h"

#define ENTRY(b, b0, b1, b2, b3, b4, b5, b6, b7)                                                                                    \
    ((((b)&0x01) ? (b0) : 0) ^ (((b)&0x02) ? (b1) : 0) ^ (((b)&0x04) ? (b2) : 0) ^ (((b)&0x08) ? (b3) : 0) ^                        \
     (((b)&0x10) ? (b4) : 0) ^ (((b)&0x20) ? (b5) : 0) ^ (((b)&0x40) ? (b6) : 0) ^ (((b)&0x80) ? (b7) : 0))
#define ENTRIES_4(b, ...) \
    ENTRY((b), __VA_ARGS__), ENTRY((b) + 1, __VA_ARGS__), ENTRY((b) + 2, __VA_ARGS__), ENTRY((b) + 3, __VA_ARGS__)
#define ENTRIES_16(b, ...) \
    ENTRIES_4((b), __VA_ARGS__), ENTRIES_4((b) + 4, __VA_ARGS__), ENTRIES_4((b) + 8, __VA_ARGS__), ENTRIES_4((b) + 12, __VA_ARGS__)
#define ENTRIES_64(b, ...)                                                                                 \
    ENTRIES_16((b), __VA_ARGS__), ENTRIES_16((b) + 16, __VA_ARGS__), ENTRIES_16((b) + 32, __VA_ARGS__),    \
        ENTRIES_16((b) + 48, __VA_ARGS__)
#define ENTRIES(...) \
    ENTRIES_64(0, __VA_ARGS__), ENTRIES_64(64, __VA_ARGS__), ENTRIES_64(128, __VA_ARGS__), ENTRIES_64(192, __VA_ARGS__)

/* Each line: the bytes 0x01, 0x02, … 0x80 followed by k zero bytes, k from 0. */
static const uint16_t TABLE[8][256] = {
    {ENTRIES(0xC0C1, 0xC181, 0xC301, 0xC601, 0xCC01, 0xD801, 0xF001, 0xA001)},
    {ENTRIES(0x9001, 0x6001, 0xC002, 0xC007, 0xC00D, 0xC019, 0xC031, 0xC061)},
    {ENTRIES(0xC051, 0xC0A1, 0xC141, 0xC281, 0xC501, 0xCA01, 0xD401, 0xE801)},
    {ENTRIES(0xFC01, 0xB801, 0x3001, 0x6002, 0xC004, 0xC00B, 0xC015, 0xC029)},
    {ENTRIES(0xC03D, 0xC079, 0xC0F1, 0xC1E1, 0xC3C1, 0xC781, 0xCF01, 0xDE01)},
    {ENTRIES(0xD101, 0xE201, 0x8401, 0x4801, 0x9002, 0x6007, 0xC00E, 0xC01F)},
    {ENTRIES(0xC010, 0xC023, 0xC045, 0xC089, 0xC111, 0xC221, 0xC441, 0xC881)},
    {ENTRIES(0xCCC1, 0xD981, 0xF301, 0xA601, 0x0C01, 0x1802, 0x3004, 0x6008)},
};

uint16_t bf_crc16(const uint8_t *data, size_t length)
{
    assert(data != NULL || length == 0);
    uint32_t crc = 0xFFFF; /* Modbus over Serial Line V1.02, 6.2.2 */
    while (length >= 8) {
        crc ^= (uint32_t)data[0] | (uint32_t)data[1] << 8;
        crc = (uint32_t)(TABLE[7][crc & 0xFF] ^ TABLE[6][crc >> 8] ^ TABLE[5][data[2]] ^ TABLE[4][data[3]] ^ TABLE[3][data[4]] ^
                         TABLE[2][data[5]] ^ TABLE[1][data[6]] ^ TABLE[0][data[7]]);
        data += 8;
        length -= 8;
    }
    for (size_t i = 0; i < length; i++) {
        crc = crc >> 8 ^ TABLE[0][(crc ^ data[i]) & 0xFF];
    }
    assert(crc <= 0xFFFF);
    return (uint16_t)crc;
}

/* The same for CRC-32. */
static const uint32_t TABLE_32[8][256] = {
    {ENTRIES(0x77073096, 0xEE0E612C, 0x076DC419, 0x0EDB8832, 0x1DB71064, 0x3B6E20C8, 0x76DC4190, 0xEDB88320)},
    {ENTRIES(0x191B3141, 0x32366282, 0x646CC504, 0xC8D98A08, 0x4AC21251, 0x958424A2, 0xF0794F05, 0x3B83984B)},
    {ENTRIES(0x01C26A37, 0x0384D46E, 0x0709A8DC, 0x0E1351B8, 0x1C26A370, 0x384D46E0, 0x709A8DC0, 0xE1351B80)},
    {ENTRIES(0xB8BC6765, 0xAA09C88B, 0x8F629757, 0xC5B428EF, 0x5019579F, 0xA032AF3E, 0x9B14583D, 0xED59B63B)},
    {ENTRIES(0x3D6029B0, 0x7AC05360, 0xF580A6C0, 0x30704BC1, 0x60E09782, 0xC1C12F04, 0x58F35849, 0xB1E6B092)},
    {ENTRIES(0xCB5CD3A5, 0x4DC8A10B, 0x9B914216, 0xEC53826D, 0x03D6029B, 0x07AC0536, 0x0F580A6C, 0x1EB014D8)},
    {ENTRIES(0xA6770BB4, 0x979F1129, 0xF44F2413, 0x33EF4E67, 0x67DE9CCE, 0xCFBD399C, 0x440B7579, 0x8816EAF2)},
    {ENTRIES(0xCCAA009E, 0x4225077D, 0x844A0EFA, 0xD3E51BB5, 0x7CBB312B, 0xF9766256, 0x299DC2ED, 0x533B85DA)},
};

uint32_t bf_crc32(uint32_t crc, const uint8_t *data, size_t length)
{
    assert(data != NULL || length == 0);
    crc = ~crc; /* ISO 3309, 8.1.1.6.2: start and end are inverted */
    while (length >= 8) {
        crc ^= (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
        crc = TABLE_32[7][crc & 0xFF] ^ TABLE_32[6][crc >> 8 & 0xFF] ^ TABLE_32[5][crc >> 16 & 0xFF] ^ TABLE_32[4][crc >> 24] ^
              TABLE_32[3][data[4]] ^ TABLE_32[2][data[5]] ^ TABLE_32[1][data[6]] ^ TABLE_32[0][data[7]];
        data += 8;
        length -= 8;
    }
    for (size_t i = 0; i < length; i++) {
        crc = crc >> 8 ^ TABLE_32[0][(crc ^ data[i]) & 0xFF];
    }
    return ~crc;
}
