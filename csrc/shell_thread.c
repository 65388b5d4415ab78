/* shell_thread.c: the thread that carries out what the scan engine says. It knows descriptors and no protocol.
 *
 * The idea: wait in epoll until a descriptor, a command or the engine's own time; make of it events for one step; carry out its actions. A request
 * costs one send, one recv and one wait. A notice that somebody counts on always has its place: one is kept free for every one-shot and POLL
 * that is out, and two for every link, which may go down and want to connect again; a command, which may need more, is taken only while
 * there is more. EXCHANGE and UNIT, which tell what the table shows too, give way and are counted.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shell.h"

#define INTERRUPTIONS_MAX 8
#define TIMER_GRID_NS INT64_C(1000000) /* what is due within a millisecond shares a wake: at 2,500 requests a second half the CPU of each */
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441 /* the same number on every architecture */
#endif

/* ---- notices ---------------------------------------------------------------------------------------------------------------------- */

/* Notices that may be needed at any time for what was already taken, and for one more batch of commands. */
static uint32_t notices_reserved(const bf_shell *shell)
{
    return 2 * shell->links_count + shell->tokens_out + NOTICES_PER_COMMAND * COMMANDS_TAKEN_MAX;
}

static void tell(bf_shell *shell, const bf_action *action)
{
    bf_shell_ring *ring = &shell->notices_ring;
    const bool may_drop = action->kind == BF_ACTION_EXCHANGE || action->kind == BF_ACTION_UNIT;
    pthread_mutex_lock(&ring->lock);
    if (ring->size - ring->count > (may_drop ? notices_reserved(shell) : 0)) {
        const uint32_t index = bf_shell_ring_at(ring, ring->count++);
        bf_action *notice = &shell->notices[index];
        *notice = *action;
        notice->data = shell->notice_bytes + (size_t)index * shell->limits.notice_bytes_max;
        if (notice->length > shell->limits.notice_bytes_max) {
            notice->length = shell->limits.notice_bytes_max;
        }
        if (notice->length > 0) {
            memcpy(shell->notice_bytes + (size_t)index * shell->limits.notice_bytes_max, action->data, notice->length);
        }
        if (ring->count == 1) {
            bf_shell_wake(shell->notice_fd); /* the reader may sleep only while there is nothing */
        }
    } else {
        assert(may_drop);
        atomic_fetch_add_explicit(&shell->dropped, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&ring->lock);
    shell->tokens_out -= action->kind == BF_ACTION_DONE && shell->tokens_out > 0;
}

/* Whether there is room for what commands may make; if not, taking a notice wakes the thread. */
static bool may_take_commands(bf_shell *shell)
{
    bf_shell_ring *ring = &shell->notices_ring;
    pthread_mutex_lock(&ring->lock);
    const bool may = ring->size - ring->count >= notices_reserved(shell);
    shell->is_paused = !may;
    pthread_mutex_unlock(&ring->lock);
    return may;
}

/* ---- descriptors ------------------------------------------------------------------------------------------------------------------ */

static void watch(const bf_shell *shell, uint32_t link, int operation, uint32_t wanted)
{
    struct epoll_event event = {.events = wanted, .data.u32 = link};
    if (epoll_ctl(shell->epoll, operation, shell->sockets[link].fd, &event) != 0) {
        assert(errno == ENOMEM || errno == ENOSPC || errno == EBADF || errno == EPERM); /* its time-outs will close the link */
    }
}

static void close_socket(bf_shell *shell, uint32_t link)
{
    bf_shell_socket *socket = &shell->sockets[link];
    if (socket->fd >= 0) {
        watch(shell, link, EPOLL_CTL_DEL, 0); /* a duplicate in a child would keep it watched */
        close(socket->fd);
    }
    *socket = (bf_shell_socket){.fd = -1};
}

static void add_news(bf_shell *shell, uint32_t link, uint32_t kind, int error)
{
    assert(shell->news_count < shell->links_count); /* one SEND per link in a step */
    shell->news[shell->news_count++] = (bf_event){.kind = kind, .link = link, .value = error};
}

/* Sends what is unsent; 0 when all went out, EAGAIN when some is left, else what went wrong. */
static int flush(bf_shell_socket *socket)
{
    for (int i = 0; i < INTERRUPTIONS_MAX; i++) {
        const ssize_t sent = send(socket->fd, socket->unsent, socket->unsent_length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            socket->unsent += sent;
            socket->unsent_length -= (size_t)sent;
            return socket->unsent_length > 0 ? EAGAIN : 0;
        }
        if (errno != EINTR) {
            return errno == EWOULDBLOCK ? EAGAIN : errno;
        }
    }
    return EAGAIN;
}

static void carry_out(bf_shell *shell, const bf_action *action)
{
    assert(action->link < shell->links_count);
    bf_shell_socket *socket = &shell->sockets[action->link];
    if (action->kind == BF_ACTION_CLOSE) {
        close_socket(shell, action->link);
    } else if (action->kind == BF_ACTION_SEND) {
        socket->unsent = action->data;
        socket->unsent_length = action->length;
        const int error = flush(socket);
        if (error == EAGAIN) {
            watch(shell, action->link, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            add_news(shell, action->link, BF_EVENT_BLOCKED, 0);
        } else if (error != 0) {
            add_news(shell, action->link, BF_EVENT_CLOSED, error);
        }
    } else {
        tell(shell, action);
    }
}

/* Makes events of what epoll says of one link, the `turn`th of this batch; returns how many, up to 2. */
static size_t look_at(bf_shell *shell, const struct epoll_event *ready, size_t turn, bf_event *events)
{
    const uint32_t link = ready->data.u32;
    bf_shell_socket *socket = &shell->sockets[link];
    size_t made = 0;
    int error = 0;
    if ((ready->events & EPOLLOUT) != 0 && socket->unsent_length > 0) {
        error = flush(socket);
        if (error == 0) {
            watch(shell, link, EPOLL_CTL_MOD, EPOLLIN);
            events[made++] = (bf_event){.kind = BF_EVENT_DRAINED, .link = link};
        }
    }
    if ((ready->events & ~(uint32_t)EPOLLOUT) != 0 && (error == 0 || error == EAGAIN)) {
        uint8_t *received = shell->received + turn * shell->received_size;
        const ssize_t length = recv(socket->fd, received, shell->received_size, MSG_DONTWAIT);
        error = length < 0 && errno != EINTR && errno != EWOULDBLOCK ? errno : 0;
        if (length > 0) {
            events[made++] = (bf_event){.kind = BF_EVENT_BYTES, .link = link, .length = (uint32_t)length, .data = received};
        } else if (length == 0) {
            events[made++] = (bf_event){.kind = BF_EVENT_CLOSED, .link = link};
        }
    }
    if (error != 0 && error != EAGAIN) {
        events[made++] = (bf_event){.kind = BF_EVENT_CLOSED, .link = link, .value = error};
    }
    return made;
}

/* ---- the thread ------------------------------------------------------------------------------------------------------------------- */

int64_t bf_shell_clock_ns(clockid_t clock)
{
    struct timespec time = {0};
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Waits until something is ready or the first point of the timer grid after `wake_ns` has come: never early, and to the nanosecond where the
 * kernel can (5.11), else to the millisecond. */
static size_t wait_ready(bf_shell *shell, struct epoll_event *ready, int64_t wake_ns)
{
    int64_t rest = BF_NEVER;
    if (wake_ns != BF_NEVER) {
        rest = (wake_ns + TIMER_GRID_NS - 1) / TIMER_GRID_NS * TIMER_GRID_NS - bf_shell_clock_ns(CLOCK_MONOTONIC);
        rest = rest > 0 ? rest : 0;
    }
    if (shell->has_pwait2) {
        const struct {
            int64_t seconds;
            int64_t ns;
        } limit = {rest / 1000000000, rest % 1000000000};
        const long count = syscall(SYS_epoll_pwait2, shell->epoll, ready, READY_COUNT_MAX, rest == BF_NEVER ? NULL : &limit, NULL, 0);
        if (count >= 0 || errno != ENOSYS) {
            return count > 0 ? (size_t)count : 0;
        }
        shell->has_pwait2 = false;
    }
    const int64_t rest_ms = rest / 1000000 + (rest % 1000000 != 0);
    const int limit_ms = rest == BF_NEVER ? -1 : rest_ms < 60000 ? (int)rest_ms : 60000;
    const int count = epoll_wait(shell->epoll, ready, READY_COUNT_MAX, limit_ms);
    return count > 0 ? (size_t)count : 0;
}

/* OPEN: the descriptor becomes ours. The event becomes FAILED when it is none. False: the link has one already, and the new one is closed. */
static bool accept_socket(bf_shell *shell, bf_event *event)
{
    bf_shell_socket *socket = &shell->sockets[event->link];
    const int fd = (int)event->value;
    if (socket->fd >= 0) {
        close(fd);
        return false;
    }
    struct epoll_event wanted = {.events = EPOLLIN, .data.u32 = event->link};
    if (epoll_ctl(shell->epoll, EPOLL_CTL_ADD, fd, &wanted) != 0) {
        event->kind = BF_EVENT_FAILED;
        close(fd);
        return true;
    }
    socket->fd = fd;
    return true;
}

/* Makes events of commands; *taken entries are to be removed after the step, which still reads their bytes. */
static size_t take_commands(bf_shell *shell, bf_event *events, uint32_t *taken)
{
    bf_shell_ring *ring = &shell->commands_ring;
    size_t made = 0;
    pthread_mutex_lock(&ring->lock);
    *taken = ring->count < COMMANDS_TAKEN_MAX ? ring->count : COMMANDS_TAKEN_MAX;
    pthread_mutex_unlock(&ring->lock);
    if (*taken > 0 && !may_take_commands(shell)) {
        *taken = 0;
    }
    for (uint32_t i = 0; i < *taken; i++) { /* entries that are in the ring are touched by nobody else */
        events[made] = shell->commands[bf_shell_ring_at(ring, i)];
        shell->tokens_out += events[made].kind == BF_EVENT_ONESHOT || events[made].kind == BF_EVENT_POLL;
        made += events[made].kind != BF_EVENT_OPEN || accept_socket(shell, &events[made]);
    }
    return made;
}

/* Removes commands; true when more can be taken at once. */
static bool remove_commands(bf_shell *shell, uint32_t taken)
{
    bf_shell_ring *ring = &shell->commands_ring;
    if (taken == 0) {
        return false; /* none, or paused: a post or a take wakes the thread */
    }
    pthread_mutex_lock(&ring->lock);
    ring->first = bf_shell_ring_at(ring, taken);
    ring->count -= taken;
    const bool has_more = ring->count > 0;
    pthread_mutex_unlock(&ring->lock);
    return has_more;
}

/* One step with all its calls; returns when the engine wants the next one. */
static int64_t step(bf_shell *shell, int64_t now_ns, size_t events_count)
{
    int64_t wake_ns = now_ns;
    size_t at = 0;
    int32_t status = BF_PARTIAL;
    while (status != BF_OK) {
        size_t taken = 0;
        size_t made = 0;
        status = bf_scan_step(shell->scan, now_ns, shell->events + at, events_count - at, &taken, shell->actions, shell->actions_size,
                              &made, &wake_ns);
        assert(status == BF_OK || taken > 0 || made > 0); /* so this ends */
        for (size_t i = 0; i < made; i++) {
            carry_out(shell, &shell->actions[i]);
        }
        at += taken;
    }
    return wake_ns;
}

void *bf_shell_run(void *argument)
{
    bf_shell *shell = argument;
    struct epoll_event ready[READY_COUNT_MAX];
    int64_t wake_ns = 0;
    while (!atomic_load(&shell->is_stopping)) {
        uint32_t commands_taken;
        const size_t ready_count = wait_ready(shell, ready, wake_ns);
        size_t count = shell->news_count;
        memcpy(shell->events, shell->news, count * sizeof *shell->news);
        shell->news_count = 0;
        for (size_t i = 0; i < ready_count; i++) {
            if (ready[i].data.u32 != BF_NONE) {
                count += look_at(shell, &ready[i], i, shell->events + count);
            }
        }
        count += take_commands(shell, shell->events + count, &commands_taken);
        wake_ns = step(shell, bf_shell_clock_ns(CLOCK_MONOTONIC), count);
        if (remove_commands(shell, commands_taken) || shell->news_count > 0) {
            wake_ns = 0;
        }
    }
    atomic_store(&shell->cpu_ns, (uint64_t)bf_shell_clock_ns(CLOCK_THREAD_CPUTIME_ID));
    return NULL;
}
