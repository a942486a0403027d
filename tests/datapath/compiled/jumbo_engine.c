/*
 * An engine whose uplink has the largest MTU of IP gets super-packets with segments of nearly that size. A socket pair is
 * the TUN device, loopback the uplink, and the engine is its own peer. All packets have to come back, and the control
 * side has to get the lock meanwhile.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/engine.h"

static struct lm_addr v4(uint32_t address)
{
    struct lm_addr made = {.family = 4};
    lm_put32(made.octets, address);
    return made;
}

static int listening_port(const struct lm_engine *e)
{
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    getsockname(e->receive[0], (struct sockaddr *)&name, &size);
    return ntohs(name.sin_port);
}

/* A UDP super-packet of `length` octets, in segments of `size`. */
static bool write_super(int fd, size_t length, size_t size)
{
    static uint8_t packet[65536];
    lm_vnet vnet = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                    .gso_type = VIRTIO_NET_HDR_GSO_UDP_L4,
                    .gso_size = (uint16_t)size,
                    .csum_start = 20,
                    .csum_offset = 6};
    memset(packet, 'x', sizeof packet);
    memcpy(packet, (uint8_t[20]){0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17}, 20);
    lm_put16(packet + 2, (uint32_t)length);
    lm_put32(packet + 12, 0x0a010001u);
    lm_put32(packet + 16, 0x0a020001u);
    lm_put16(packet + 20, 5000);
    lm_put16(packet + 22, 5000);
    lm_put16(packet + 24, (uint32_t)length - 20);
    lm_put16(packet + 26, 0);
    lm_packet_write_ipv4_checksum(packet);
    struct iovec parts[] = {{&vnet, sizeof vnet}, {packet, length}};
    return writev(fd, parts, 2) > 0;
}

int main(int argc, char **argv)
{
    struct lm_config config = {.key0 = 1,
                               .key1 = 2,
                               .is_proxy = true,
                               .source_port_pool = 2,
                               .pending_per_entry = 4,
                               .pending_total = 32,
                               .pending_age_ns = 50000000u};
    struct lm_engine *e = lm_engine_new(&config);
    int pair[2], buffer = 4 << 20;
    if (argc < 3 || !e || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair))
        return 2;
    for (int i = 0; i < 2; i++)
        setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
    if (fcntl(pair[1], F_SETFL, O_NONBLOCK))
        return 2;
    lm_engine_offload(e, true, true);
    if (lm_engine_open(e, pair[1]) || lm_engine_start(e))
        return 3;
    struct lm_uplink_spec up = {
        .ifindex = 1, .interface = "lo", .address = v4(0x7f000001u), .priority = 1, .is_sender = true, .mtu = 65536};
    struct lm_prefix all = {.length = 8, .address = v4(0x0a000000u)};
    struct lm_locator_spec to = {.address = v4(0x7f000001u), .port = (uint16_t)listening_port(e), .priority = 1};
    if (lm_engine_set_uplinks(e, &up, 1) || lm_engine_install(e, &all, LM_ENCAPSULATE, &to, 1))
        return 4;
    if (!write_super(pair[0], (size_t)strtoul(argv[1], NULL, 10), (size_t)strtoul(argv[2], NULL, 10)))
        return 5;
    usleep(300000);
    struct lm_prefix one = {.length = 32, .address = v4(0x0a020009u)};
    (void)lm_engine_install(e, &one, LM_DROP, NULL, 0); /* needs the lock that the thread has for a batch */
    uint64_t counters[LM_COUNTER_COUNT];
    lm_engine_counters(e, counters);
    printf("out_packets=%lu\nout_octets=%lu\n", (unsigned long)counters[LM_out_packets],
           (unsigned long)counters[LM_out_octets]);
    lm_engine_free(e);
    return 0;
}
