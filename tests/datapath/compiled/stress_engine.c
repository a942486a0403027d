/*
 * A whole engine under load while everything in it changes. A socket pair is the TUN device, loopback the uplink, and the
 * engine is its own peer, so both directions run. The thread sanitizer finds the faults, and so do the sums at the end.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/engine.h"

#define PACKET 100u
#define LONG_PACKET 4116u
#define ENOUGH 100u

static int host_side;
static bool has_vnet; /* then every fourth packet is a super-packet of eight */
static bool is_rtr;   /* then these are two that fit no path; other packets come from elsewhere, to be forwarded */
static atomic_bool is_over;
static atomic_ulong written, returned;

static struct lm_addr v4(uint32_t address)
{
    struct lm_addr made = {.family = 4};
    lm_put32(made.octets, address);
    return made;
}

static void *write_packets(void *unused)
{
    (void)unused;
    for (uint32_t n = 0; !atomic_load(&is_over); n++) {
        uint8_t packet[LONG_PACKET] = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17};
        bool is_super = has_vnet && n % 4 == 0;
        size_t size = is_super && is_rtr ? LONG_PACKET : PACKET;
        lm_vnet vnet = {0};
        if (is_super)
            vnet = (lm_vnet){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                             .gso_type = VIRTIO_NET_HDR_GSO_UDP_L4,
                             .gso_size = (uint16_t)((size - 28) / (is_rtr ? 2 : 8)),
                             .csum_start = 20,
                             .csum_offset = 6};
        lm_put16(packet + 2, (uint32_t)size);
        lm_put16(packet + 24, (uint32_t)size - 20);
        lm_put32(packet + 12, 0x0a010001u + n % 50);
        lm_put32(packet + 16, 0x0a020001u + n % 300);
        lm_put16(packet + 20, n);
        lm_packet_write_ipv4_checksum(packet);
        struct iovec parts[] = {{&vnet, sizeof vnet}, {packet, size}};
        if (writev(host_side, parts + !has_vnet, 1 + has_vnet) > 0)
            atomic_fetch_add(&written, is_super ? 8 : 1);
    }
    return NULL;
}

static void *read_packets(void *unused)
{
    (void)unused;
    uint8_t packet[2048];
    while (!atomic_load(&is_over))
        if (recv(host_side, packet, sizeof packet, 0) > 0)
            atomic_fetch_add(&returned, 1);
    return NULL;
}

/* From elsewhere, for an RTR to forward: TCP packets with a partial checksum, longer than the path MTU. */
static void *send_foreign(void *data_port)
{
    static uint8_t datagram[8 + 4000];
    uint8_t *packet = datagram + 8;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)(uintptr_t)data_port),
                             .sin_addr.s_addr = htonl(0x7f000001u)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (uint32_t n = 0; fd >= 0 && !atomic_load(&is_over); n++) {
        const uint8_t head[20] = {0x45, 0, 4000 >> 8, 4000 & 255, 0, 0, 0x40, 0, 64, 6};
        memset(packet, 0xee, 4000);
        memcpy(packet, head, sizeof head);
        lm_put32(packet + 12, 0x0a090001u + n % 300);
        lm_put32(packet + 16, 0x0a030001u + n % 300);
        lm_packet_write_ipv4_checksum(packet);
        packet[32] = 0x50;
        struct lm_inner inner;
        if (lm_packet_parse(packet, 4000, &inner))
            lm_put16(packet + 36, ~(uint32_t)lm_packet_checksum(
                                      NULL, 0, lm_packet_pseudo_sum(&inner.source, &inner.destination, 6, 3980)) &
                                      0xffff);
        (void)sendto(fd, datagram, sizeof datagram, 0, (struct sockaddr *)&to, sizeof to);
        usleep(5);
    }
    close(fd);
    return NULL;
}

/* Keys for the engine as its own peer. Only packets that are on their way are lost with a forgotten key. */
static void change_keys(struct lm_engine *e, uint32_t n)
{
    uint32_t turn = n / 12;
    struct lm_prefix from = {.length = 8, .address = v4(0x0a000000u)},
                     never = {.length = 8, .address = v4(0x0c000000u)};
    struct lm_session_spec spec = {.peer = 1,
                                   .local_index = n + 1,
                                   .remote_index = n + 1,
                                   .is_confirmed = turn % 3 != 0,
                                   .aead = turn % 4 ? LM_AEAD_AES_128_GCM : LM_AEAD_CHACHA20_POLY1305,
                                   .source_count = turn % 5 != 0,
                                   .sources = &from};
    struct lm_session_use uses[4];
    lm_put32(spec.send_key, n);
    lm_put32(spec.receive_key, n);
    int error = lm_engine_install_session(e, &spec);
    if (error && lm_aead_is_built())
        abort();
    (void)lm_engine_send_keepalive(e, 1);
    (void)lm_engine_sessions(e, uses, 4);
    (void)lm_engine_set_clear_refused(e, &never, 1);
    if (turn % 7 == 0)
        lm_engine_forget_session(e, n + 1);
    if (turn % 19 == 0)
        lm_engine_forget_peer(e, 1);
}

static void change_something(struct lm_engine *e, uint16_t port, uint32_t n)
{
    struct lm_prefix all = {.length = 8, .address = v4(0x0a000000u)};
    struct lm_prefix one = {.length = 32, .address = v4(0x0a020001u + n % 300)};
    struct lm_locator_spec to[2] = {
        {.address = v4(0x7f000001u), .port = port, .priority = 1, .weight = 100},
        {.address = v4(0x7f000002u), .port = n % 2 ? port : LM_PORT_DATA, .priority = 1, .weight = (uint8_t)(n % 7)}};
    struct lm_prefix third = {.length = 16, .address = v4(0x0a030000u)};
    struct lm_prefix far = {.length = 8, .address = v4(0x0b000000u)};
    struct lm_locator_spec other = {.address = v4(0x7f000003u), .port = LM_PORT_DATA, .priority = 1};
    to[1].is_relay = n / 12 % 4 == 0;
    struct lm_uplink_spec up[2] = {
        {.ifindex = 1, .interface = "lo", .address = v4(0x7f000001u), .priority = 1, .weight = 9, .is_sender = true},
        {.ifindex = 1, .interface = "lo", .address = v4(0x7f000002u + n % 3), .priority = 1, .is_sender = true}};
    up[1].data_port = (uint8_t)(n % 3); /* and with a NAT on the path */
    up[1].relays[0] = to[0];
    up[1].relay_count = n % 2;
    static struct lm_punt punts[64];
    static struct lm_heard heard[LM_HEARD_MAX];
    struct lm_prefix used[16];
    struct lm_mtu mtus[4];
    uint64_t counters[LM_COUNTER_COUNT];
    uint32_t cursor = 0;
    switch (n % 12) {
    case 0:
    case 1:
        lm_engine_set_uplinks(e, up, n % 17 == 0 ? 0 : 1 + n % 2);
        break;
    case 2:
        lm_engine_install_sealed(e, &all, LM_ENCAPSULATE, to, 2,
                                 (struct lm_seal_wish){n / 12 % 5 != 0, n / 12 % 3 == 0, (uint16_t)(n % 4)});
        change_keys(e, n);
        break;
    case 3:
        if (!is_rtr || n % 5 == 0) /* an RTR accepts data only from locators of an entry */
            lm_engine_remove(e, &all);
        break;
    case 4:
    case 5:
        lm_engine_install(e, &one, n % 3 ? LM_ENCAPSULATE : LM_MISS, to, 1 + n % 2);
        break;
    case 6:
        lm_engine_remove(e, &one);
        break;
    case 7:
        lm_engine_drop_pending(e, &one);
        break;
    case 8:
        lm_engine_set_guard(e, &one, n % 2);
        if (is_rtr)
            lm_engine_install_sealed(e, &third, n % 2 ? LM_MISS : LM_ENCAPSULATE, to, 1,
                                     (struct lm_seal_wish){1, n / 12 % 4 == 0, (uint16_t)(n % 3)});
        break;
    case 9:
        lm_engine_mark_move(e);
        lm_engine_heard(e, heard);
        if (n % 2)
            lm_engine_install(e, &far, LM_ENCAPSULATE, &other, 1);
        else
            lm_engine_remove(e, &far);
        /* those on the data port can be watched */
        lm_silence_set_patience(e, &to[1].address, n % 3 * 1000u, 5000u, n % 4 ? &other.address : &to[1].address);
        lm_silence_set_patience(e, &other.address, n % 5 * 1000u, 5000u, &to[1].address);
        lm_engine_mtus(e, mtus, 4);
        lm_path_mtu_report_large(e, n % 3);
        lm_path_mtu_set(e, &up[0].address, &to[1].address, LM_PORT_DATA, n % 2 ? 1300 : 0);
        break;
    case 10:
        change_keys(e, n);
        break;
    default:
        lm_status_bits_use(e, n % 2, n % 3, n);
        lm_echo_nonce_use(e, n % 5);
        (void)lm_echo_nonce_ask(e, &to[1].address, n % 2, n & 0xffffff);
        lm_engine_drain(e, punts, 64);
        lm_engine_used(e, &cursor, used, 16);
        lm_engine_counters(e, counters);
    }
}

static uint64_t sum(const uint64_t *counters, const char *const *names)
{
    uint64_t total = 0;
    for (; *names; names++)
        for (unsigned i = 0; i < LM_COUNTER_COUNT; i++)
            total += strcmp(lm_counters_name(i), *names) ? 0 : counters[i];
    return total;
}

static int listening_port(const struct lm_engine *e)
{
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    getsockname(e->receive[0], (struct sockaddr *)&name, &size);
    return ntohs(name.sin_port);
}

/* True once there was much traffic in both directions, which takes longer on a slow machine. */
static bool has_moved(struct lm_engine *e)
{
    uint64_t counters[LM_COUNTER_COUNT];
    lm_engine_counters(e, counters);
    const char *const out[] = {"out_packets", NULL}, *const in[] = {"data_packets", NULL};
    return sum(counters, out) > ENOUGH && sum(counters, in) > ENOUGH;
}

int main(int argc, char **argv)
{
    uint64_t end = lm_clock_now() + (uint64_t)(argc > 1 ? strtol(argv[1], NULL, 10) : 1000) * 1000000u;
    struct lm_config config = {.key0 = 1,
                               .key1 = 2,
                               .is_proxy = true,
                               .source_port_pool = 2,
                               .pending_per_entry = 4,
                               .pending_total = 32,
                               .pending_age_ns = 50000000u};
    int pair[2];
    has_vnet = argc > 2 && strcmp(argv[2], "plain");
    config.is_rtr = is_rtr = argc > 3;
    struct lm_engine *e = lm_engine_new(&config);
    if (!e || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair))
        return 2;
    struct timeval wait = {.tv_usec = 20000};
    host_side = pair[0];
    setsockopt(host_side, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(host_side, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (fcntl(pair[1], F_SETFL, O_NONBLOCK))
        return 2;
    lm_engine_offload(e, has_vnet, has_vnet);
    if (lm_engine_open(e, pair[1]) || lm_engine_start(e))
        return 3;
    uint16_t port = (uint16_t)listening_port(e);
    pthread_t writer, reader, foreigner;
    pthread_create(&writer, NULL, write_packets, NULL);
    pthread_create(&reader, NULL, read_packets, NULL);
    if (is_rtr)
        pthread_create(&foreigner, NULL, send_foreign, (void *)(uintptr_t)port);
    uint32_t n = 0;
    uint64_t latest = end + 30u * 1000000000u;
    for (; lm_clock_now() < end || (lm_clock_now() < latest && !has_moved(e)); n++) {
        change_something(e, port, n);
        if (is_rtr)
            usleep(1000); /* lets the two threads meet each other, and not only the control side */
    }
    atomic_store(&is_over, true);
    pthread_join(writer, NULL);
    pthread_join(reader, NULL);
    if (is_rtr)
        pthread_join(foreigner, NULL);
    lm_engine_stop(e);
    uint64_t counters[LM_COUNTER_COUNT];
    lm_engine_counters(e, counters);
    const char *const out[] = {"out_packets", NULL}, *const in[] = {"data_packets", NULL};
    printf("%lu written, %u changes, %lu out, %lu in, %lu returned\n", written, n, sum(counters, out),
           sum(counters, in), returned);
    for (unsigned i = 0; i < LM_COUNTER_COUNT; i++)
        printf("%s=%lu\n", lm_counters_name(i), counters[i]);
    lm_engine_free(e);
    return 0;
}
