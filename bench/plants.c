/* plants.c: many small plants in one process, cheap enough not to be what is measured: `plants PORT COUNT`.
 *
 * Each serves holding registers (function 3) on 127.0.0.1, ports PORT and up, until the standard input ends. Requests are taken as a polling
 * client sends them: one at a time, whole.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_BYTES 12
#define READY_COUNT_MAX 64

static void require(int good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1);
    }
}

static void watch(int epoll, int fd, uint32_t is_listener)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)is_listener << 32 | (uint32_t)fd};
    require(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static void serve(int fd)
{
    static uint8_t answer[9 + 250];
    uint8_t request[REQUEST_BYTES];
    if (recv(fd, request, sizeof request, MSG_DONTWAIT) != REQUEST_BYTES) {
        close(fd);
        return;
    }
    const uint8_t bytes = (uint8_t)(request[11] * 2);
    memcpy(answer, request, 8);
    answer[5] = (uint8_t)(bytes + 3);
    answer[8] = bytes;
    answer[9]++; /* something changes */
    require(send(fd, answer, 9u + bytes, MSG_NOSIGNAL) > 0, "send");
}

int main(int argc, char **argv)
{
    const int epoll = epoll_create1(0);
    require(argc == 3 && epoll >= 0, "plants PORT COUNT");
    watch(epoll, STDIN_FILENO, 0);
    for (int i = 0; i < atoi(argv[2]); i++) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        const int on = 1;
        const struct sockaddr_in address = {.sin_family = AF_INET,
                                            .sin_port = htons((uint16_t)(atoi(argv[1]) + i)),
                                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        require(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0, "socket");
        require(bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 8) == 0, "bind");
        watch(epoll, fd, 1);
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event ready[READY_COUNT_MAX];
        const int count = epoll_wait(epoll, ready, READY_COUNT_MAX, -1);
        for (int i = 0; i < count; i++) {
            const int fd = (int)(uint32_t)ready[i].data.u64;
            if (fd == STDIN_FILENO) {
                return 0;
            }
            if (ready[i].data.u64 >> 32 == 0) {
                serve(fd);
                continue;
            }
            const int client = accept(fd, NULL, NULL);
            const int on = 1;
            require(client >= 0 && setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0, "accept");
            watch(epoll, client, 0);
        }
    }
}
