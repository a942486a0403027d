/* Everything that an engine seals, by every way that a packet may take: copies, repeated packets, packets that an uplink
 * refused, fragments, runs, relays, rekeys, and the keys of other dialects. nonce_watch.c is the judge. A socket pair plays
 * the TUN device, loopback the uplinks, and the engine is its own peer. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/engine.h"
#include "nonce_watch.h"
#include "seal/dialect.h"

#define HEADERS_UDP 28u
#define HEADERS_TCP 40u
#define SMALL 100u
#define LARGE 3000u
#define SEGMENTS 8u
#define IN_A_ROW 8u
#define TWICE 77 /* the lane whose packets leave by both uplinks */
#define PEERS 4u /* 10.2.0.0/16 seals, 10.3.0.0/16 and so on have a dialect */
#define ROUNDS_MIN 400u
#define SEALED_MIN 20000u
#define GIVES_UP_NS (UINT64_C(30) * 1000000000u)

static int host_side;
static atomic_bool is_over;

static struct lm_addr v4(uint32_t address)
{
    struct lm_addr made = {.family = 4};
    lm_put32(made.octets, address);
    return made;
}

static struct lm_prefix net(uint32_t address, uint8_t length)
{
    return (struct lm_prefix){.length = length, .address = v4(address)};
}

/* Packets of one kind in a row, so that some of them make a run: small ones, super-packets, and some to be fragmented. */
static void *write_packets(void *unused)
{
    (void)unused;
    for (uint32_t n = 0; !atomic_load(&is_over); n++) {
        uint32_t kind = n / IN_A_ROW;
        bool is_tcp = kind % 2, is_super = kind % 8 == 2 || kind % 8 == 3, is_whole = kind % 8 < 6;
        uint8_t packet[LARGE] = {0x45, 0, 0, 0, 0, 0, 0, 0, 64, is_tcp ? IPPROTO_TCP : IPPROTO_UDP};
        size_t headers = is_tcp ? HEADERS_TCP : HEADERS_UDP;
        size_t size = is_super ? headers + SEGMENTS * SMALL : is_whole ? SMALL : LARGE;
        lm_vnet vnet = {0};
        if (is_super)
            vnet = (lm_vnet){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                             .gso_type = is_tcp ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_UDP_L4,
                             .gso_size = SMALL,
                             .hdr_len = (uint16_t)headers,
                             .csum_start = 20,
                             .csum_offset = is_tcp ? 16 : 6};
        packet[6] = is_whole ? 0x40 : 0;
        lm_put16(packet + 2, (uint32_t)size);
        lm_put32(packet + 12, 0x0a010001u + kind % 5);
        lm_put32(packet + 16, 0x0a020001u + (kind / 8 % PEERS << 16));
        lm_put16(packet + 20, 1000 + kind % 50);
        lm_put16(packet + 22, 2000);
        if (is_tcp)
            packet[32] = 0x50;
        else
            lm_put16(packet + 24, (uint32_t)size - 20);
        lm_packet_write_ipv4_checksum(packet);
        struct iovec parts[] = {{&vnet, sizeof vnet}, {packet, size}};
        (void)!writev(host_side, parts, 2);
        if (n % 16 == 0)
            usleep(500);
    }
    return NULL;
}

static void *read_packets(void *unused)
{
    (void)unused;
    static uint8_t packet[1 << 16];
    while (!atomic_load(&is_over))
        (void)!recv(host_side, packet, sizeof packet, 0);
    return NULL;
}

static void use_key(struct lm_engine *e, uint8_t aead, uint32_t n)
{
    struct lm_prefix all = net(0x0a000000u, 8);
    struct lm_session_spec spec = {.peer = 1,
                                   .local_index = n + 1,
                                   .remote_index = n + 1,
                                   .is_confirmed = n % 3 != 0,
                                   .aead = aead,
                                   .source_count = 1,
                                   .sources = &all};
    lm_put32(spec.send_key, n + 1);
    lm_put32(spec.receive_key, n + 1);
    if (lm_engine_install_session(e, &spec))
        abort();
}

static void use_dialects(struct lm_engine *e, uint32_t n)
{
    static const uint8_t dialects[] = {LM_DIALECT_RFC8061, LM_DIALECT_LISPERS_2, LM_DIALECT_LISPERS_5};
    for (uint32_t i = 0; i < sizeof dialects; i++) {
        struct lm_dialect_spec spec = {.address = v4(0x7f000003u + i),
                                       .dialect = dialects[i],
                                       .key_id = 1,
                                       .seals = true,
                                       .start_high = UINT64_MAX,
                                       .start_low = UINT64_MAX - 100};
        lm_put32(spec.key, n + 1);
        spec.key[4] = (uint8_t)(i + 1);
        if (lm_dialect_install(e, &spec))
            abort();
    }
}

static void map(struct lm_engine *e, uint16_t port, uint32_t n)
{
    struct lm_locator_spec to[] = {
        {.address = v4(0x7f000001u), .port = port, .priority = 1, .weight = 1, .is_relay = n % 3 == 0},
        {.address = v4(0x7f000002u), .port = port, .priority = 1, .weight = (uint8_t)(n % 2), .is_relay = n % 3 == 0}};
    struct lm_prefix sealed = net(0x0a020000u, 16);
    lm_engine_install_sealed(e, &sealed, LM_ENCAPSULATE, to, 2, (struct lm_seal_wish){1, true, (uint16_t)(n % 4)});
    for (uint32_t i = 0; i < PEERS - 1; i++) {
        struct lm_prefix other = net(0x0a030000u + (i << 16), 16);
        struct lm_locator_spec at = {.address = v4(0x7f000003u + i), .port = port, .priority = 1};
        lm_engine_install(e, &other, LM_ENCAPSULATE, &at, 1);
    }
}

/* As an answered check shows (liveness/peer_check.h): from then on packets leave in runs. */
static void have_peers_cope(struct lm_engine *e, uint16_t port)
{
    lm_share(&e->lock);
    for (uint32_t i = 0; i < PEERS + 1; i++) {
        struct lm_addr address = v4(0x7f000001u + i);
        struct lm_remote *remote = lm_locator_find_remote(e->locators, &address, port);
        if (remote)
            atomic_store(&remote->state->coped_at, lm_clock_now());
    }
    lm_unshare(&e->lock);
}

static void use_uplinks(struct lm_engine *e, uint32_t n)
{
    struct lm_uplink_spec up[] = {
        {.ifindex = 1, .interface = "lo", .address = v4(0x7f000001u), .priority = 1, .is_sender = true},
        {.ifindex = 2, .interface = "lo", .address = v4(0x7f000002u), .priority = 1, .is_sender = true}};
    lm_engine_set_uplinks(e, up + n % 2, n % 5 ? 2 - n % 2 : 0);
}

/* Uplinks, lanes, mappings and keys change one after the other, as in moves that overlap. */
static void change(struct lm_engine *e, int tun, uint16_t port, uint8_t aead, uint32_t n)
{
    struct lm_lane lane = {.fd = tun, .ifindex = n / 8 % 3 ? TWICE : LM_LANE_DEFAULT, .into = tun};
    struct lm_copying copying = {TWICE, 1, 2};
    static const uint8_t word[] = {0x40, 0, 0, 0};
    nonce_watch_refuse(n % 4 == 1);
    switch (n % 8) {
    case 0:
        (void)lm_lane_set_all(e, &lane, 1, &copying, 1, n / 8 % 2);
        break;
    case 1:
        use_uplinks(e, 1); /* one of the two is gone */
        break;
    case 2:
        lm_engine_repeat_last(e);
        break;
    case 3:
        use_uplinks(e, n / 8 % 5 ? 2 : 0);
        lm_engine_repeat_last(e);
        break;
    case 4:
        use_key(e, aead, n);
        use_dialects(e, n);
        break;
    case 5:
        map(e, port, n / 8); /* repeats the last packets, too */
        have_peers_cope(e, port);
        break;
    case 6:
        use_uplinks(e, 2);
        (void)lm_engine_send_keepalive(e, 1);
        (void)lm_engine_say(e, 1, NULL, word, sizeof word);
        break;
    default:
        if (n / 8 % 11 == 0)
            lm_engine_forget_peer(e, 1); /* packets wait for the next key */
    }
}

static uint64_t value_of(struct lm_engine *e, const char *name)
{
    uint64_t counters[LM_COUNTER_COUNT];
    lm_engine_counters(e, counters);
    for (unsigned i = 0; i < LM_COUNTER_COUNT; i++)
        if (!strcmp(lm_counters_name(i), name))
            return counters[i];
    abort();
}

/* True when each way has been taken. */
static bool has_seen_all(struct lm_engine *e)
{
    static const char *const ways[] = {"out_copies",     "out_uncopied", "out_repeated",   "out_held",
                                       "out_fragmented", "out_failover", "out_obfuscated", "out_key_wait",
                                       "out_stalled",    "data_packets"};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (!value_of(e, ways[i]))
            return false;
    return nonce_watch_runs() && nonce_watch_sealed() >= SEALED_MIN;
}

int main(int argc, char **argv)
{
    uint8_t aead = argc > 1 && !strcmp(argv[1], "chacha") ? LM_AEAD_CHACHA20_POLY1305 : LM_AEAD_AES_128_GCM;
    struct lm_config config = {.key0 = 1,
                               .key1 = 2,
                               .is_proxy = true,
                               .source_port_pool = 2,
                               .pending_per_entry = 8,
                               .pending_total = 256,
                               .pending_age_ns = 500000000u};
    int pair[2];
    struct timeval wait = {.tv_usec = 20000};
    struct lm_engine *e = lm_engine_new(&config);
    if (!e || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) || fcntl(pair[1], F_SETFL, O_NONBLOCK))
        return 2;
    host_side = pair[0];
    setsockopt(host_side, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(host_side, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    lm_engine_offload(e, true, true);
    if (lm_engine_open(e, pair[1]) || lm_engine_start(e))
        return 3;
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    getsockname(e->receive[0], (struct sockaddr *)&name, &size);
    use_uplinks(e, 2);
    map(e, ntohs(name.sin_port), 1);
    pthread_t writer, reader;
    pthread_create(&writer, NULL, write_packets, NULL);
    pthread_create(&reader, NULL, read_packets, NULL);
    uint64_t latest = lm_clock_now() + GIVES_UP_NS;
    for (uint32_t n = 0; n < ROUNDS_MIN || (lm_clock_now() < latest && !has_seen_all(e)); n++) {
        change(e, pair[1], ntohs(name.sin_port), aead, n);
        usleep(2000);
    }
    atomic_store(&is_over, true);
    pthread_join(writer, NULL);
    pthread_join(reader, NULL);
    lm_engine_stop(e);
    uint64_t counters[LM_COUNTER_COUNT];
    lm_engine_counters(e, counters);
    for (unsigned i = 0; i < LM_COUNTER_COUNT; i++)
        printf("%s=%lu\n", lm_counters_name(i), counters[i]);
    printf("runs=%lu\n", nonce_watch_runs());
    printf("sealed=%lu\n", nonce_watch_sealed());
    lm_engine_free(e);
    return 0;
}
