/* Sends one payload, which it reads from stdin, to UDP ports at a steady rate: flood RATE SECONDS PORT ADDRESS... */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TARGETS 8
#define NONCE 4 /* where a control message has its nonce: another one in each */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    static uint8_t payload[65000];
    struct sockaddr_in to[TARGETS];
    int targets = argc - 4, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    size_t length = fread(payload, 1, sizeof payload, stdin);
    if (targets < 1 || targets > TARGETS || fd < 0 || length < NONCE + 8)
        return 2;
    double rate = strtod(argv[1], NULL), ends_at = now() + strtod(argv[2], NULL), begun_at = now();
    for (int i = 0; i < targets; i++) {
        to[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(argv[3], NULL, 10))};
        if (inet_pton(AF_INET, argv[4 + i], &to[i].sin_addr) != 1)
            return 2;
    }
    uint64_t sent = 0, nonce = 0x9e3779b97f4a7c15u;
    for (double at; (at = now()) < ends_at; usleep(500))
        for (; (double)sent < (at - begun_at) * rate; sent++) {
            nonce = nonce * 6364136223846793005u + 1442695040888963407u;
            memcpy(payload + NONCE, &nonce, sizeof nonce);
            (void)sendto(fd, payload, length, MSG_DONTWAIT, (struct sockaddr *)&to[sent % (uint64_t)targets],
                         sizeof to[0]);
        }
    printf("%llu\n", (unsigned long long)sent);
    return 0;
}
