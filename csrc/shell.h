/* shell.h: what the two parts of the shell share.
 *
 * The idea: one thread runs the scan engine, everybody else hands it commands and takes its notices through two bounded rings. shell.c is what
 * the others call, shell_thread.c what the thread does.
 */
#ifndef BIFROST_SHELL_H
#define BIFROST_SHELL_H

#include <pthread.h>
#include <sys/types.h>

#include "scan.h"

#define READY_COUNT_MAX 32u /* descriptors looked at in one step */
#define COMMANDS_TAKEN_MAX 16u
#define NOTICES_PER_COMMAND 4u /* LINK on a link that is up: DOWN, PLANNED, CONNECT later, and one to spare */

/* Entries are in arrays beside it. */
typedef struct {
    pthread_mutex_t lock;
    uint32_t size;
    uint32_t first;
    uint32_t count;
} bf_shell_ring;

typedef struct {
    const uint8_t *unsent; /* rest of a SEND; stays valid, since the engine sends nothing while it is BLOCKED */
    size_t unsent_length;
    int fd; /* -1: none */
} bf_shell_socket;

struct bf_shell {
    bf_shell_limits limits;
    bf_scan *scan;
    bf_event *commands;
    uint8_t *command_bytes; /* command_size for each */
    bf_action *notices;
    uint8_t *notice_bytes; /* limits.notice_bytes_max for each */
    bf_action *actions;
    bf_event *events;
    bf_event *news; /* made by carrying out actions: the first events of the next step */
    bf_shell_socket *sockets;
    uint8_t *received; /* received_size for each of READY_COUNT_MAX */
    size_t command_size;
    size_t received_size;
    size_t actions_size;
    uint32_t links_count;
    uint32_t news_count;
    uint32_t tokens_out; /* one-shots and POLLs taken and not DONE yet */
    bf_shell_ring commands_ring;
    bf_shell_ring notices_ring;
    bool is_paused; /* commands wait until notices are taken; under the lock of notices_ring */
    bool has_pwait2;
    bool is_running; /* of the owner; the others are the thread's */
    pthread_t thread;
    pid_t process; /* a child after fork has no such thread */
    int epoll;
    int wake_fd;   /* eventfd, edge-triggered and never read: each write wakes the thread */
    int notice_fd; /* eventfd, readable while there are notices */
    _Atomic bool is_stopping;
    _Atomic uint64_t dropped;
    _Atomic uint64_t cpu_ns; /* when the thread ended */
};

static inline uint32_t bf_shell_ring_at(const bf_shell_ring *ring, uint32_t offset)
{
    return (ring->first + offset) % ring->size;
}

/* Wakes a thread that sleeps on `fd`, an eventfd that does not block: when it is full, it is awake. */
void bf_shell_wake(int fd);
int64_t bf_shell_clock_ns(clockid_t clock);
void *bf_shell_run(void *shell);

#endif
