/* shell.c: what the others call of the shell: its memory, its two rings, its start and its end.
 *
 * The idea: a command is checked and copied when it is posted, so that the thread never finds one that cannot be; a full ring says so at once. A
 * mutex is held for a copy and never for a wait. bf_shell_stop gives every descriptor back, however far things had come.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "shell.h"

#define STACK_BYTES (256u * 1024u)
#define QUEUED_COUNT_MAX (1u << 20)
#define BYTES_MAX (1u << 24)

/* Where the regions of one shell begin. */
typedef struct {
    uint64_t commands, notices, actions, events, news, sockets, command_bytes, notice_bytes, received, end;
    uint64_t command_size, actions_size, notices_size;
} layout;

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + 7) & ~(uint64_t)7;
}

/* False when the limits are impossible. */
static bool lay_out(const bf_shell_limits *limits, const bf_scan_limits *scan, layout *out)
{
    if (limits == NULL || scan == NULL || bf_scan_bytes(scan) == 0 || limits->commands_count_max < 1 ||
        limits->commands_count_max > QUEUED_COUNT_MAX || limits->notices_count_max < 1 ||
        limits->notices_count_max > QUEUED_COUNT_MAX || limits->notice_bytes_max > BYTES_MAX ||
        limits->request_bytes_max > BYTES_MAX || limits->read_bytes < READY_COUNT_MAX || limits->read_bytes > BYTES_MAX) {
        return false;
    }
    const uint64_t links = scan->links_count_max;
    const uint64_t oneshot = sizeof(bf_oneshot) + (uint64_t)limits->request_bytes_max;
    out->command_size = round_up(oneshot > sizeof(bf_link_options) ? oneshot : sizeof(bf_link_options));
    out->actions_size = bf_scan_actions_min(scan) + READY_COUNT_MAX;
    out->notices_size = limits->notices_count_max + 2 * links + NOTICES_PER_COMMAND * COMMANDS_TAKEN_MAX;
    out->commands = round_up(sizeof(bf_shell));
    out->notices = out->commands + limits->commands_count_max * sizeof(bf_event);
    out->actions = out->notices + out->notices_size * sizeof(bf_action);
    out->events = out->actions + out->actions_size * sizeof(bf_action);
    out->news = out->events + (links + 2 * READY_COUNT_MAX + COMMANDS_TAKEN_MAX) * sizeof(bf_event);
    out->sockets = out->news + links * sizeof(bf_event);
    out->command_bytes = round_up(out->sockets + links * sizeof(bf_shell_socket));
    out->notice_bytes = out->command_bytes + limits->commands_count_max * out->command_size;
    out->received = out->notice_bytes + out->notices_size * limits->notice_bytes_max;
    out->end = round_up(out->received + limits->read_bytes);
    return out->end <= SIZE_MAX / 2;
}

size_t bf_shell_bytes(const bf_shell_limits *limits, const bf_scan_limits *scan_limits)
{
    layout at;
    return lay_out(limits, scan_limits, &at) ? (size_t)at.end : 0;
}

/* Opens the descriptors that live as long as the shell; false: errno says why, and none is open. */
static bool open_descriptors(bf_shell *shell)
{
    struct epoll_event wanted = {.events = EPOLLIN | EPOLLET, .data.u32 = BF_NONE};
    shell->epoll = epoll_create1(EPOLL_CLOEXEC);
    shell->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    shell->notice_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (shell->epoll >= 0 && shell->wake_fd >= 0 && shell->notice_fd >= 0 &&
        epoll_ctl(shell->epoll, EPOLL_CTL_ADD, shell->wake_fd, &wanted) == 0) {
        return true;
    }
    const int reason = errno;
    bf_shell_stop(shell);
    errno = reason;
    return false;
}

int32_t bf_shell_init(void *memory, size_t bytes, const bf_shell_limits *limits, const bf_scan_limits *scan_limits, bf_scan *scan,
                      bf_shell **shell)
{
    layout at;
    if (memory == NULL || (uintptr_t)memory % 8 != 0 || scan == NULL || shell == NULL || !lay_out(limits, scan_limits, &at)) {
        return BF_E_ARGUMENT;
    }
    if (bytes < at.end) {
        return BF_E_SPACE;
    }
    uint8_t *base = memory;
    bf_shell *made = memory;
    memset(made, 0, sizeof *made);
    made->limits = *limits;
    made->scan = scan;
    made->commands = (bf_event *)(void *)(base + at.commands);
    made->notices = (bf_action *)(void *)(base + at.notices);
    made->actions = (bf_action *)(void *)(base + at.actions);
    made->events = (bf_event *)(void *)(base + at.events);
    made->news = (bf_event *)(void *)(base + at.news);
    made->sockets = (bf_shell_socket *)(void *)(base + at.sockets);
    made->command_bytes = base + at.command_bytes;
    made->notice_bytes = base + at.notice_bytes;
    made->received = base + at.received;
    made->command_size = (size_t)at.command_size;
    made->received_size = limits->read_bytes / READY_COUNT_MAX;
    made->actions_size = (size_t)at.actions_size;
    made->links_count = scan_limits->links_count_max;
    made->commands_ring.size = limits->commands_count_max;
    made->notices_ring.size = (uint32_t)at.notices_size;
    made->has_pwait2 = true;
    for (uint32_t i = 0; i < made->links_count; i++) {
        made->sockets[i] = (bf_shell_socket){.fd = -1};
    }
    if (pthread_mutex_init(&made->commands_ring.lock, NULL) != 0 || pthread_mutex_init(&made->notices_ring.lock, NULL) != 0 ||
        !open_descriptors(made)) {
        return BF_E_SYSTEM;
    }
    *shell = made;
    return BF_OK;
}

int32_t bf_shell_start(bf_shell *shell)
{
    if (shell == NULL || shell->is_running || atomic_load(&shell->is_stopping)) {
        return BF_E_ARGUMENT;
    }
    sigset_t all;
    sigset_t before;
    pthread_attr_t attributes;
    sigfillset(&all);
    int error = pthread_attr_init(&attributes);
    if (error == 0) {
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for Python's threads */
        error = pthread_create(&shell->thread, &attributes, bf_shell_run, shell);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }
    if (error != 0) {
        errno = error;
        return BF_E_SYSTEM;
    }
    pthread_setname_np(shell->thread, "bf-scan");
    shell->process = getpid();
    shell->is_running = true;
    return BF_OK;
}

void bf_shell_wake(int fd)
{
    const uint64_t one = 1;
    const ssize_t written = write(fd, &one, sizeof one);
    assert(written == (ssize_t)sizeof one || errno == EAGAIN);
    (void)written;
}

int32_t bf_shell_post(bf_shell *shell, const bf_event *event)
{
    if (shell == NULL || event == NULL || atomic_load(&shell->is_stopping) || event->kind == BF_EVENT_BYTES ||
        event->kind == BF_EVENT_CLOSED || event->kind == BF_EVENT_BLOCKED || event->kind == BF_EVENT_DRAINED ||
        bf_event_check(shell->scan, event) != BF_OK) {
        return BF_E_ARGUMENT;
    }
    const size_t length = event->kind == BF_EVENT_LINK      ? sizeof(bf_link_options)
                          : event->kind == BF_EVENT_ONESHOT ? event->length
                                                            : 0; /* a plan stays where it is */
    if (length > shell->command_size) {
        return BF_E_ARGUMENT;
    }
    bf_shell_ring *ring = &shell->commands_ring;
    pthread_mutex_lock(&ring->lock);
    const bool is_full = ring->count == ring->size;
    if (!is_full) {
        const uint32_t index = bf_shell_ring_at(ring, ring->count++);
        uint8_t *bytes = shell->command_bytes + (size_t)index * shell->command_size;
        shell->commands[index] = *event;
        if (length > 0) {
            memcpy(bytes, event->data, length);
            shell->commands[index].data = bytes;
        }
        if (ring->count == 1) {
            bf_shell_wake(shell->wake_fd);
        }
    }
    pthread_mutex_unlock(&ring->lock);
    return is_full ? BF_E_FULL : BF_OK;
}

int32_t bf_shell_take(bf_shell *shell, bf_action *notice, uint8_t *bytes, size_t size)
{
    if (shell == NULL || notice == NULL || (bytes == NULL && size > 0)) {
        return BF_E_ARGUMENT;
    }
    bf_shell_ring *ring = &shell->notices_ring;
    uint64_t seen;
    pthread_mutex_lock(&ring->lock);
    const bool is_empty = ring->count == 0;
    if (!is_empty) {
        *notice = shell->notices[ring->first];
        notice->length = notice->length < size ? notice->length : size;
        if (notice->length > 0) {
            memcpy(bytes, notice->data, notice->length);
        }
        notice->data = bytes;
        ring->first = bf_shell_ring_at(ring, 1);
        ring->count--;
        if (ring->count == 0 && shell->notice_fd >= 0 && read(shell->notice_fd, &seen, sizeof seen) < 0) {
            assert(errno == EAGAIN);
        }
        if (shell->is_paused) {
            shell->is_paused = false;
            bf_shell_wake(shell->wake_fd);
        }
    }
    pthread_mutex_unlock(&ring->lock);
    return is_empty ? BF_PARTIAL : BF_OK;
}

int bf_shell_fd(const bf_shell *shell)
{
    return shell == NULL ? -1 : shell->notice_fd;
}

uint64_t bf_shell_dropped(const bf_shell *shell)
{
    return shell == NULL ? 0 : atomic_load_explicit(&shell->dropped, memory_order_relaxed);
}

uint64_t bf_shell_cpu_ns(const bf_shell *shell)
{
    clockid_t clock;
    if (shell == NULL || !shell->is_running) {
        return shell == NULL ? 0 : atomic_load(&shell->cpu_ns);
    }
    return pthread_getcpuclockid(shell->thread, &clock) == 0 ? (uint64_t)bf_shell_clock_ns(clock) : 0;
}

static void close_descriptor(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

int32_t bf_shell_stop(bf_shell *shell)
{
    if (shell == NULL) {
        return BF_E_ARGUMENT;
    }
    atomic_store(&shell->is_stopping, true);
    if (shell->is_running && shell->process == getpid()) {
        bf_shell_wake(shell->wake_fd);
        pthread_join(shell->thread, NULL);
    }
    shell->is_running = false;
    for (uint32_t i = 0; i < shell->links_count; i++) {
        close_descriptor(&shell->sockets[i].fd);
    }
    for (; shell->commands_ring.count > 0; shell->commands_ring.count--) { /* nobody else looks at it now */
        const bf_event *command = &shell->commands[bf_shell_ring_at(&shell->commands_ring, shell->commands_ring.count - 1)];
        if (command->kind == BF_EVENT_OPEN && command->value >= 0) {
            close((int)command->value);
        }
    }
    close_descriptor(&shell->wake_fd);
    close_descriptor(&shell->notice_fd);
    close_descriptor(&shell->epoll);
    return BF_OK;
}
