#include "liveness/peer_check.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/cmsg.h"
#include "engine/outer.h"

#define EPOCH_NS UINT64_C(16000000000)
#define AGAIN_NS UINT64_C(30000000000) /* ours: after an answer, so that the next one comes before it expires */
#define FIRST_WAIT_NS UINT64_C(1000000000)
#define DOUBLINGS 6u /* up to 64 seconds between unanswered requests */
#define ANSWERS_PER_SECOND 100
#define ANSWER_BURST 100
#define IS_ANSWER 0x8000u
#define TO_DATA_PORT 0x4000u
#define PURPOSE UINT64_C(0x70656572) /* separates this hash from that of flows, which the nonce must not reveal */
#define PACKET_MAX (LM_DATA_HEADER + 40u + 8u + LM_PEER_CHECK_OCTETS)
#define HOP_LIMIT 64

uint64_t lm_peer_check_nonce(const struct lm_key *key, const struct lm_addr *address, uint16_t port, uint64_t now)
{
    uint64_t words[4] = {PURPOSE << 32 | (uint64_t)address->family << 16 | port, lm_get64(address->octets),
                         lm_get64(address->octets + 8), now / EPOCH_NS};
    return lm_hash(key, words, 4);
}

/* Writes a data packet with one message, from one outer address to another; returns its length in octets. */
static size_t build(uint8_t *out, const struct lm_addr *from, const struct lm_addr *to, uint64_t nonce, uint16_t port,
                    uint16_t flags)
{
    size_t header = from->family == 4 ? 20 : 40, length = 8 + LM_PEER_CHECK_OCTETS;
    uint8_t *inner = out + LM_DATA_HEADER, *udp = inner + header, *message = udp + 8;
    memset(out, 0, PACKET_MAX);
    lm_lisp_header_write(out, LM_CONTROL_IID);
    if (from->family == 4) {
        inner[0] = 0x45;
        lm_put16(inner + 2, (uint32_t)(header + length));
        inner[8] = HOP_LIMIT;
        inner[9] = IPPROTO_UDP;
        memcpy(inner + 12, from->octets, 4);
        memcpy(inner + 16, to->octets, 4);
        lm_packet_write_ipv4_checksum(inner);
    } else {
        inner[0] = 0x60;
        lm_put16(inner + 4, (uint32_t)length);
        inner[6] = IPPROTO_UDP;
        inner[7] = HOP_LIMIT;
        memcpy(inner + 8, from->octets, 16);
        memcpy(inner + 24, to->octets, 16);
    }
    lm_put16(udp, LM_PORT_CONTROL);
    lm_put16(udp + 2, LM_PORT_CONTROL);
    lm_put16(udp + 4, (uint32_t)length);
    lm_put16(message, LM_PEER_CHECK_TYPE);
    lm_put16(message + 2, flags);
    lm_put32(message + 4, (uint32_t)(nonce >> 32));
    lm_put32(message + 8, (uint32_t)nonce);
    lm_put16(message + 12, port);
    uint16_t sum = lm_packet_checksum(udp, length, lm_packet_pseudo_sum(from, to, IPPROTO_UDP, length));
    lm_put16(udp + 6, sum ? sum : 0xffff);
    return LM_DATA_HEADER + header + length;
}

static void send_one(int fd, const struct lm_addr *from, int ifindex, const struct lm_addr *to, uint16_t port,
                     const uint8_t *packet, size_t length)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&v4.sin_addr, to->octets, 4);
    memcpy(&v6.sin6_addr, to->octets, 16);
    union {
        struct cmsghdr align;
        uint8_t room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    } control;
    struct iovec io = {(void *)(uintptr_t)packet, length};
    bool is_v4 = to->family == 4;
    struct msghdr m = {.msg_name = is_v4 ? (void *)&v4 : (void *)&v6,
                       .msg_namelen = is_v4 ? sizeof v4 : sizeof v6,
                       .msg_iov = &io,
                       .msg_iovlen = 1,
                       .msg_control = control.room};
    LM_SET(m.msg_controllen, lm_data_port_put_pktinfo(control.room, from, ifindex));
    for (int tries = 0; fd >= 0 && tries < 2; tries++) /* the first refusal may be about an earlier packet */
        if (sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return;
}

static void ask(struct lm_engine *e, const struct lm_job *job)
{
    const struct lm_remote *remote = job->remote;
    const struct lm_path *path = job->path;
    struct lm_remote_state *state = remote->state;
    uint8_t packet[PACKET_MAX];
    bool has_source = remote->source.family && remote->fd >= 0; /* a NAT lets answers to this port in */
    const struct lm_addr *from = has_source ? &remote->source : &path->address;
    int fd = lm_send_socket(job);
    bool hears_there = has_source || path->data_fd >= 0;
    uint32_t unanswered = atomic_fetch_add_explicit(&state->unanswered_checks, 1, memory_order_relaxed);
    uint64_t wait = FIRST_WAIT_NS << (unanswered < DOUBLINGS ? unanswered : DOUBLINGS);
    atomic_store_explicit(&state->check_at, job->now + wait, memory_order_relaxed);
    uint64_t nonce = lm_peer_check_nonce(&e->key, &remote->address, remote->port, job->now);
    size_t length = build(packet, from, &remote->address, nonce, remote->port, hears_there ? 0 : TO_DATA_PORT);
    lm_send_unsum_outer(e, job, fd);
    send_one(fd, from, has_source ? 0 : path->ifindex, &remote->address, remote->port, packet, length);
    lm_count(&e->counters, LM_peer_asked);
}

void lm_peer_check_on_sent(struct lm_engine *e, const struct lm_job *job)
{
    if (!job->path || job->path->is_whole || !job->remote)
        return;
    uint64_t at = atomic_load_explicit(&job->remote->state->check_at, memory_order_relaxed);
    if (job->now >= at)
        ask(e, job);
}

/* Answers by the same path. An RTR sends from its control port, but receives data at the data port. */
static void answer(struct lm_engine *e, uint64_t nonce, uint16_t port, bool is_to_data, const struct lm_outer *outer)
{
    if (!outer->destination.family ||
        !lm_token_bucket_take(&e->check_bucket, outer->now, ANSWERS_PER_SECOND, ANSWER_BURST))
        return;
    int fd = e->receive[outer->destination.family == 6];
    for (size_t i = 0; outer->is_ephemeral && i < e->uplinks->path_count; i++)
        if (lm_addr_equal(&e->uplinks->paths[i].address, &outer->destination))
            fd = e->uplinks->paths[i].data_fd;
    uint8_t packet[PACKET_MAX];
    size_t length = build(packet, &outer->destination, &outer->source, nonce, port, IS_ANSWER);
    uint16_t to = is_to_data || outer->source_port == LM_PORT_CONTROL ? LM_PORT_DATA : outer->source_port;
    send_one(fd, &outer->destination, outer->ifindex, &outer->source, to, packet, length);
    lm_count(&e->counters, LM_peer_answered);
}

bool lm_peer_check_take(struct lm_engine *e, const uint8_t *message, size_t length, const struct lm_outer *outer)
{
    if (length < LM_PEER_CHECK_OCTETS || lm_get16(message) != LM_PEER_CHECK_TYPE)
        return false;
    uint64_t nonce = lm_get64(message + 4);
    uint16_t port = lm_get16(message + 12);
    uint16_t flags = lm_get16(message + 2);
    if (!(flags & IS_ANSWER)) {
        answer(e, nonce, port, flags & TO_DATA_PORT, outer);
        return true;
    }
    bool is_right = nonce == lm_peer_check_nonce(&e->key, &outer->source, port, outer->now) ||
                    nonce == lm_peer_check_nonce(&e->key, &outer->source, port, outer->now - EPOCH_NS);
    struct lm_remote *remote = is_right ? lm_locator_find_remote(e->locators, &outer->source, port) : NULL;
    if (!remote) {
        lm_count(&e->counters, LM_peer_refused);
        return true;
    }
    atomic_store_explicit(&remote->state->unanswered_checks, 0, memory_order_relaxed);
    atomic_store_explicit(&remote->state->check_at, outer->now + AGAIN_NS, memory_order_relaxed);
    atomic_store_explicit(&remote->state->coped_at, outer->now, memory_order_relaxed);
    lm_count(&e->counters, LM_peer_proven);
    return true;
}
