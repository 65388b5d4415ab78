/* codec.c: nanoseconds of one answer of 125 registers in C, without a call from Python for each. Prints one number. */
#include <stdio.h>
#include <time.h>

#include "bifrost.h"

#define CALLS 50000

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

int main(void)
{
    uint8_t frame[259] = {0, 1, 0, 0, 0, 253, 1, 3, 250};
    uint16_t registers[125];
    const bf_modbus_question question = {1, 3, BF_TYPE_UINT16, 0, 125, 0, registers, sizeof registers};
    int good = 0;
    for (size_t i = 9; i < sizeof frame; i++) {
        frame[i] = (uint8_t)i;
    }
    double start = now_ns();
    for (int i = 0; i < CALLS; i++) {
        frame[10] = (uint8_t)i;
        good += bf_modbus_answer_decode(&question, 1, frame, sizeof frame) == BF_OK && registers[0] != 0;
    }
    printf("%f\n", (now_ns() - start) / CALLS);
    return good == CALLS ? 0 : 1;
}
