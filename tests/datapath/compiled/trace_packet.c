/*
 * Sends one packet through an engine, and prints the addresses of the functions that it passes, in the order in which
 * they are entered. Built with -finstrument-functions. A socket pair is the TUN device, loopback the uplink, a socket the
 * peer. Only functions of the thread that sends are printed.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/engine.h"

#define PACKET 100u
#define WARM_UP 20u
#define FUNCTIONS_MOST 512u

#define UNSEEN __attribute__((no_instrument_function))

static atomic_bool is_tracing;
static _Thread_local bool is_sender;
static void *entered[FUNCTIONS_MOST];
static atomic_uint count;

void __cyg_profile_func_enter(void *function, void *from) UNSEEN;
void __cyg_profile_func_exit(void *function, void *from) UNSEEN;

void __cyg_profile_func_enter(void *function, void *from)
{
    (void)from;
    if (function == (void *)lm_outbound_run)
        is_sender = true;
    if (!is_sender || !atomic_load(&is_tracing))
        return;
    unsigned known = atomic_load(&count);
    for (unsigned i = 0; i < known; i++)
        if (entered[i] == function)
            return;
    if (known < FUNCTIONS_MOST) {
        entered[known] = function;
        atomic_store(&count, known + 1);
    }
}

void __cyg_profile_func_exit(void *function, void *from)
{
    (void)function;
    (void)from;
}

static UNSEEN struct lm_addr v4(uint32_t address)
{
    struct lm_addr made = {.family = 4};
    lm_put32(made.octets, address);
    return made;
}

/* False: nothing came within a second. */
static UNSEEN bool pass(int host_side, int peer, uint32_t n)
{
    uint8_t packet[PACKET] = {0x45, 0, 0, PACKET, 0, 0, 0x40, 0, 64, 17}, arrived[2048];
    lm_put16(packet + 24, PACKET - 20);
    lm_put32(packet + 12, 0x0a010001u);
    lm_put32(packet + 16, 0x0a020001u);
    lm_put16(packet + 20, 1000);
    lm_put16(packet + 28, n);
    lm_packet_write_ipv4_checksum(packet);
    lm_vnet vnet = {0};
    struct iovec parts[] = {{&vnet, sizeof vnet}, {packet, sizeof packet}};
    return writev(host_side, parts, 2) > 0 && recv(peer, arrived, sizeof arrived, 0) > 0;
}

UNSEEN int main(void)
{
    struct lm_config config = {.key0 = 1,
                               .key1 = 2,
                               .copy_dscp = true,
                               .source_check = LM_CHECK_LOOSE,
                               .data_port = LM_PORT_DATA,
                               .source_port_pool = 8,
                               .pending_per_entry = 4,
                               .pending_total = 32,
                               .pending_age_ns = 50000000u};
    struct lm_prefix own = {.length = 32, .address = v4(0x0a010001u)}, far = {.length = 8, .address = v4(0x0a000000u)};
    struct lm_uplink_spec up = {
        .ifindex = 1, .interface = "lo", .address = v4(0x7f000001u), .priority = 1, .weight = 100, .is_sender = true};
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002u)};
    socklen_t size = sizeof name;
    struct timeval wait = {.tv_sec = 1};
    int pair[2], peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct lm_engine *e = lm_engine_new(&config);
    if (!e || peer < 0 || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) ||
        fcntl(pair[1], F_SETFL, O_NONBLOCK) || setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) ||
        bind(peer, (struct sockaddr *)&name, sizeof name) || getsockname(peer, (struct sockaddr *)&name, &size))
        return 2;
    struct lm_locator_spec to = {
        .address = v4(0x7f000002u), .port = ntohs(name.sin_port), .priority = 1, .weight = 100, .fd = -1};
    lm_engine_offload(e, true, true);
    if (lm_engine_open(e, pair[1]) || lm_engine_start(e) || lm_engine_set_uplinks(e, &up, 1) || up.error ||
        lm_engine_set_eids(e, &own, 1) || lm_engine_install(e, &far, LM_ENCAPSULATE, &to, 1))
        return 3;
    for (uint32_t n = 0; n < WARM_UP; n++)
        if (!pass(pair[0], peer, n))
            return 4;
    usleep(20000); /* until the thread waits for the next one */
    atomic_store(&is_tracing, true);
    bool is_through = pass(pair[0], peer, WARM_UP);
    usleep(20000); /* until it waits again */
    atomic_store(&is_tracing, false);
    lm_engine_stop(e);
    for (unsigned i = 0; i < atomic_load(&count); i++)
        printf("%p\n", entered[i]);
    lm_engine_free(e);
    return is_through ? 0 : 5;
}
