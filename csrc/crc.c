/* crc.c: CRC-16/MODBUS and CRC-32, sixteen bytes a step.
 *
 * The idea: the CRC is linear, so what a byte does to it does not depend on the other bytes. table[k][b] is what byte b does when k bytes follow
 * it; sixteen bytes are sixteen look-ups and their exclusive or. Entry b itself is the sum of the entries of b's bits, so eight numbers make a table.
 */
#include <assert.h>

#include "bifrost.h"

#define STEP 16

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
static const uint32_t MODBUS[STEP][256] = {
    {ENTRIES(0xC0C1, 0xC181, 0xC301, 0xC601, 0xCC01, 0xD801, 0xF001, 0xA001)},
    {ENTRIES(0x9001, 0x6001, 0xC002, 0xC007, 0xC00D, 0xC019, 0xC031, 0xC061)},
    {ENTRIES(0xC051, 0xC0A1, 0xC141, 0xC281, 0xC501, 0xCA01, 0xD401, 0xE801)},
    {ENTRIES(0xFC01, 0xB801, 0x3001, 0x6002, 0xC004, 0xC00B, 0xC015, 0xC029)},
    {ENTRIES(0xC03D, 0xC079, 0xC0F1, 0xC1E1, 0xC3C1, 0xC781, 0xCF01, 0xDE01)},
    {ENTRIES(0xD101, 0xE201, 0x8401, 0x4801, 0x9002, 0x6007, 0xC00E, 0xC01F)},
    {ENTRIES(0xC010, 0xC023, 0xC045, 0xC089, 0xC111, 0xC221, 0xC441, 0xC881)},
    {ENTRIES(0xCCC1, 0xD981, 0xF301, 0xA601, 0x0C01, 0x1802, 0x3004, 0x6008)},
    {ENTRIES(0x900D, 0x6019, 0xC032, 0xC067, 0xC0CD, 0xC199, 0xC331, 0xC661)},
    {ENTRIES(0xC551, 0xCAA1, 0xD541, 0xEA81, 0x9501, 0x6A01, 0xD402, 0xE807)},
    {ENTRIES(0xFC04, 0xB80B, 0x3015, 0x602A, 0xC054, 0xC0AB, 0xC155, 0xC2A9)},
    {ENTRIES(0xC3FD, 0xC7F9, 0xCFF1, 0xDFE1, 0xFFC1, 0xBF81, 0x3F01, 0x7E02)},
    {ENTRIES(0x8102, 0x4207, 0x840E, 0x481F, 0x903E, 0x607F, 0xC0FE, 0xC1FF)},
    {ENTRIES(0xC100, 0xC203, 0xC405, 0xC809, 0xD011, 0xE021, 0x8041, 0x4081)},
    {ENTRIES(0x00C1, 0x0182, 0x0304, 0x0608, 0x0C10, 0x1820, 0x3040, 0x6080)},
    {ENTRIES(0x90C1, 0x6181, 0xC302, 0xC607, 0xCC0D, 0xD819, 0xF031, 0xA061)},
};

static const uint32_t ZLIB[STEP][256] = {
    {ENTRIES(0x77073096, 0xEE0E612C, 0x076DC419, 0x0EDB8832, 0x1DB71064, 0x3B6E20C8, 0x76DC4190, 0xEDB88320)},
    {ENTRIES(0x191B3141, 0x32366282, 0x646CC504, 0xC8D98A08, 0x4AC21251, 0x958424A2, 0xF0794F05, 0x3B83984B)},
    {ENTRIES(0x01C26A37, 0x0384D46E, 0x0709A8DC, 0x0E1351B8, 0x1C26A370, 0x384D46E0, 0x709A8DC0, 0xE1351B80)},
    {ENTRIES(0xB8BC6765, 0xAA09C88B, 0x8F629757, 0xC5B428EF, 0x5019579F, 0xA032AF3E, 0x9B14583D, 0xED59B63B)},
    {ENTRIES(0x3D6029B0, 0x7AC05360, 0xF580A6C0, 0x30704BC1, 0x60E09782, 0xC1C12F04, 0x58F35849, 0xB1E6B092)},
    {ENTRIES(0xCB5CD3A5, 0x4DC8A10B, 0x9B914216, 0xEC53826D, 0x03D6029B, 0x07AC0536, 0x0F580A6C, 0x1EB014D8)},
    {ENTRIES(0xA6770BB4, 0x979F1129, 0xF44F2413, 0x33EF4E67, 0x67DE9CCE, 0xCFBD399C, 0x440B7579, 0x8816EAF2)},
    {ENTRIES(0xCCAA009E, 0x4225077D, 0x844A0EFA, 0xD3E51BB5, 0x7CBB312B, 0xF9766256, 0x299DC2ED, 0x533B85DA)},
    {ENTRIES(0x177B1443, 0x2EF62886, 0x5DEC510C, 0xBBD8A218, 0xACC04271, 0x82F182A3, 0xDE920307, 0x6655004F)},
    {ENTRIES(0xEFC26B3E, 0x04F5D03D, 0x09EBA07A, 0x13D740F4, 0x27AE81E8, 0x4F5D03D0, 0x9EBA07A0, 0xE6050901)},
    {ENTRIES(0xC18EDFC0, 0x586CB9C1, 0xB0D97382, 0xBAC3E145, 0xAEF6C4CB, 0x869C8FD7, 0xD64819EF, 0x77E1359F)},
    {ENTRIES(0x9BA54C6F, 0xEC3B9E9F, 0x03063B7F, 0x060C76FE, 0x0C18EDFC, 0x1831DBF8, 0x3063B7F0, 0x60C76FE0)},
    {ENTRIES(0xDD96D985, 0x605CB54B, 0xC0B96A96, 0x5A03D36D, 0xB407A6DA, 0xB37E4BF5, 0xBD8D91AB, 0xA06A2517)},
    {ENTRIES(0x9D0FE176, 0xE16EC4AD, 0x19AC8F1B, 0x33591E36, 0x66B23C6C, 0xCD6478D8, 0x41B9F7F1, 0x8373EFE2)},
    {ENTRIES(0xB9FBDBE8, 0xA886B191, 0x8A7C6563, 0xCF89CC87, 0x44629F4F, 0x88C53E9E, 0xCAFB7B7D, 0x4E87F0BB)},
    {ENTRIES(0xAE689191, 0x87A02563, 0xD4314C87, 0x73139F4F, 0xE6273E9E, 0x173F7B7D, 0x2E7EF6FA, 0x5CFDEDF4)},
};

/* Goes on with a register of up to 32 bits, lowest bit first. */
static inline uint32_t crc_update(const uint32_t table[STEP][256], uint32_t crc, const uint8_t *data, size_t length)
{
    assert(data != NULL || length == 0);
    while (length >= STEP) {
        crc ^= (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
        crc = table[15][crc & 0xFF] ^ table[14][crc >> 8 & 0xFF] ^ table[13][crc >> 16 & 0xFF] ^ table[12][crc >> 24];
        crc ^= table[11][data[4]] ^ table[10][data[5]] ^ table[9][data[6]] ^ table[8][data[7]];
        crc ^= table[7][data[8]] ^ table[6][data[9]] ^ table[5][data[10]] ^ table[4][data[11]];
        crc ^= table[3][data[12]] ^ table[2][data[13]] ^ table[1][data[14]] ^ table[0][data[15]];
        data += STEP;
        length -= STEP;
    }
    for (size_t i = 0; i < length; i++) {
        crc = crc >> 8 ^ table[0][(crc ^ data[i]) & 0xFF];
    }
    return crc;
}

uint16_t bf_crc16(const uint8_t *data, size_t length)
{
    uint32_t crc = crc_update(MODBUS, 0xFFFF, data, length); /* Modbus over Serial Line V1.02, 6.2.2 */
    assert(crc <= 0xFFFF);
    return (uint16_t)crc;
}

uint32_t bf_crc32(uint32_t crc, const uint8_t *data, size_t length)
{
    return ~crc_update(ZLIB, ~crc, data, length); /* ISO 3309, 8.1.1.6.2: start and end are inverted */
}
