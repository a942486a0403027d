/*
 * Reads "too big" errors about our outer packets (RFC 9300 section 7.2), and decides which of them to accept.
 *
 * Such an error can be forged from anywhere, and the kernel only checks that the quoted packet matches a socket. So the
 * quote is checked here: it must be a data packet that this socket would have sent, from one of our EIDs, to a
 * destination that this locator serves, and larger than the reported MTU. Then a size that every path should allow is
 * applied at once, and the control plane verifies it by probes. All other errors cause only a probe, or nothing.
 */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/errqueue.h> /* needs struct timespec of time.h */

#include "base/cmsg.h"
#include "engine/engine.h"

#define ERRORS_AT_ONCE 64   /* the rest is read at the next wake-up */
#define BELIEVED_FROM 1280u /* octets; a smaller size needs a probe first */
#define QUESTIONS_PER_SECOND 5
#define QUESTION_BURST 5
#define QUOTE_MAX 128u

static struct lm_addr from_sockaddr(const struct sockaddr_storage *name, uint16_t *port)
{
    struct lm_addr address = {0};
    if (name->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)name;
        address = lm_addr_make(4, (const uint8_t *)&v4->sin_addr);
        *port = ntohs(v4->sin_port);
    } else if (name->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)name;
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
            address = lm_addr_make(4, v6->sin6_addr.s6_addr + 12);
        else
            address = lm_addr_make(6, v6->sin6_addr.s6_addr);
        *port = ntohs(v6->sin6_port);
    }
    return address;
}

/* Returns the destination of the error, which is the source of the packet. */
static struct lm_addr arrived_at(const struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = lm_control_next(message, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            return lm_addr_make(4, (const uint8_t *)&info.ipi_addr);
        }
        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            return lm_addr_make(6, info.ipi6_addr.s6_addr);
        }
    }
    return (struct lm_addr){0};
}

/* Returns the path that sends from this socket. Several paths share the common data port, and differ by address. */
static const struct lm_path *path_of(const struct lm_uplinks *u, int fd, const struct lm_addr *local)
{
    for (size_t i = 0; i < u->path_count; i++) {
        const struct lm_path *path = &u->paths[i];
        if (path->data_fd == fd && (path->data_port == LM_PORT_EPHEMERAL || lm_addr_equal(&path->address, local)))
            return path;
        for (size_t s = 0; path->data_fd < 0 && s < path->pool; s++)
            if (path->sockets[s] == fd)
                return path;
    }
    return NULL;
}

/* Parses the quoted part of an inner packet, usually not all of it. False: too little, or invalid. */
static bool read_quote(const uint8_t *packet, size_t length, struct lm_inner *out)
{
    *out = (struct lm_inner){0};
    uint8_t version = length ? packet[0] >> 4 : 0;
    if ((version != 4 || length < 20) && (version != 6 || length < 40))
        return false;
    out->version = version;
    if (version == 4) {
        out->header = (size_t)(packet[0] & 15) * 4;
        out->length = lm_get16(packet + 2);
        out->protocol = packet[9];
        out->source = lm_addr_make(4, packet + 12);
        out->destination = lm_addr_make(4, packet + 16);
        out->is_fragment = (lm_get16(packet + 6) & 0x3fff) != 0;
        if (out->header < 20)
            return false;
    } else {
        out->header = 40;
        out->length = lm_get16(packet + 4) + 40u;
        out->protocol = packet[6];
        out->source = lm_addr_make(6, packet + 8);
        out->destination = lm_addr_make(6, packet + 24);
    }
    bool has_transport = out->protocol == IPPROTO_TCP || out->protocol == IPPROTO_UDP;
    out->has_ports = has_transport && !out->is_fragment && length >= out->header + 4;
    if (out->has_ports) {
        out->source_port = lm_get16(packet + out->header);
        out->destination_port = lm_get16(packet + out->header + 2);
    }
    return true;
}

/*
 * Returns the sealed datagram in a quote, which may be the inner packet of one for a relay. NULL: there is none, or
 * less of it than its index and counter.
 */
static const uint8_t *sealed_in(const uint8_t *quote, size_t length, const struct lm_inner *inner)
{
    if (length >= LM_SEAL_HEAD && (quote[0] & LM_FLAG_KK) == LM_SEAL_KK)
        return quote;
    size_t at = LM_DATA_HEADER + inner->header + 8;
    bool is_nested = inner->protocol == IPPROTO_UDP && inner->has_ports && inner->source_port == LM_PORT_DATA &&
                     inner->destination_port == LM_PORT_DATA;
    if (is_nested && length >= at + LM_SEAL_HEAD && (quote[at] & LM_FLAG_KK) == LM_SEAL_KK)
        return quote + at;
    return NULL;
}

/* True when the quote may be of a packet that we sent to this remote by this path and socket. */
static bool is_of_ours(const struct lm_engine *e, const struct lm_path *path, int fd, const struct lm_remote *remote,
                       const uint8_t *quote, const struct lm_inner *inner, uint32_t mtu)
{
    uint32_t second = lm_get32(quote + 4), instance_id = quote[0] & LM_FLAG_I ? second >> 8 : 0;
    if (quote[0] & (LM_FLAG_KK | LM_FLAG_V) || inner->length + lm_send_overhead(remote) <= mtu)
        return false;
    const struct lm_entry *own = lm_table_lookup(e->eids, 0, &inner->source);
    bool is_proxied = e->config.is_proxy && instance_id == e->config.proxy_instance_id;
    if (own ? (uint32_t)(uintptr_t)own->value != instance_id : !is_proxied)
        return false;
    const struct lm_entry *entry = lm_table_lookup(e->table, instance_id, &inner->destination);
    if (!entry || (entry->kind != LM_ENCAPSULATE && entry->kind != LM_ENCAPSULATE_AND_REPORT))
        return false;
    if (!lm_locator_set_holds(path->relays, &remote->address) && !lm_locator_set_holds(entry->value, &remote->address))
        return false;
    /*
     * The flow selects the socket by a secret key, so an attacker that guesses ports hits the right one in few cases.
     */
    bool is_pooled = path->data_fd < 0 && inner->has_ports;
    return !is_pooled || lm_path_socket(path, lm_packet_flow_hash(&e->key, inner)) == fd;
}

static void ask(struct lm_engine *e, const struct lm_path *path, const struct lm_remote *remote, uint32_t mtu)
{
    if (!lm_token_bucket_take(&e->mtu_bucket, lm_clock_now(), QUESTIONS_PER_SECOND, QUESTION_BURST)) {
        lm_count(&e->counters, LM_mtu_ignored);
        return;
    }
    lm_count(&e->counters, LM_mtu_unproven);
    struct lm_punt report = {.kind = LM_PUNT_MTU,
                             .source = path->address,
                             .destination = remote->address,
                             .destination_port = remote->port,
                             .mtu = mtu,
                             .mtu_source = LM_MTU_UNPROVEN};
    (void)lm_punt_put(&e->punts, &report, NULL, 0);
}

static void judge(struct lm_engine *e, int fd, const struct msghdr *message, uint32_t mtu, const uint8_t *quote,
                  size_t length)
{
    uint16_t port = 0;
    struct lm_addr address = from_sockaddr(message->msg_name, &port), local = arrived_at(message);
    const struct lm_path *path = path_of(e->uplinks, fd, &local);
    const struct lm_remote *remote = address.family ? lm_locator_find_remote(e->locators, &address, port) : NULL;
    struct lm_inner inner;
    if (!path || !remote || mtu >= lm_path_mtu(path, remote)) {
        lm_count(&e->counters, LM_mtu_ignored);
        return;
    }
    /* Old routers quote 8 octets after the IP header (RFC 792): that may be genuine, and proves nothing. */
    bool has_quote = length > LM_DATA_HEADER && read_quote(quote + LM_DATA_HEADER, length - LM_DATA_HEADER, &inner);
    const uint8_t *sealed = length > LM_DATA_HEADER ? sealed_in(quote, length, &inner) : NULL;
    if (sealed)
        has_quote = true;
    if (sealed && !lm_peers_has_sent(e->peers, lm_session_index(sealed), lm_session_counter(sealed)))
        lm_count(&e->counters, LM_mtu_ignored);
    else if (!sealed && length > LM_DATA_HEADER && (!has_quote || !is_of_ours(e, path, fd, remote, quote, &inner, mtu)))
        lm_count(&e->counters, LM_mtu_ignored);
    else if (has_quote && mtu >= BELIEVED_FROM)
        lm_path_mtu_store(e, path, &address, port, mtu, LM_MTU_ICMP);
    else
        ask(e, path, remote, mtu);
}

static void read_one(struct lm_engine *e, int fd, const struct msghdr *message, const uint8_t *quote, size_t length)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = lm_control_next(message, c)) {
        bool is_v4 = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR;
        bool is_v6 = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR;
        if (!is_v4 && !is_v6)
            continue;
        struct sock_extended_err what;
        memcpy(&what, CMSG_DATA(c), sizeof what);
        /*
         * An error of the kernel was already returned to the sender (liveness/path_mtu.c). Unreachable hosts are found
         * by probing.
         */
        bool is_icmp = what.ee_origin == SO_EE_ORIGIN_ICMP || what.ee_origin == SO_EE_ORIGIN_ICMP6;
        if (what.ee_errno == EMSGSIZE && is_icmp)
            judge(e, fd, message, what.ee_info, quote, length);
    }
}

void lm_too_big_read(struct lm_engine *e, int fd)
{
    for (int i = 0; i < ERRORS_AT_ONCE; i++) {
        struct sockaddr_storage name = {0};
        union {
            struct cmsghdr align;
            uint8_t room[512];
        } control;
        uint8_t quote[QUOTE_MAX];
        struct iovec io = {quote, sizeof quote};
        struct msghdr message = {.msg_name = &name,
                                 .msg_namelen = sizeof name,
                                 .msg_iov = &io,
                                 .msg_iovlen = 1,
                                 .msg_control = control.room,
                                 .msg_controllen = sizeof control.room};
        ssize_t length = recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
        if (length < 0)
            break;
        read_one(e, fd, &message, quote, (size_t)length);
    }
    int pending; /* the socket also keeps the last error: reading clears it, and the wake-up with it */
    socklen_t size = sizeof pending;
    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &pending, &size);
}

void lm_too_big_listen(struct lm_engine *e, const struct lm_uplinks *uplinks)
{
    for (int i = 0; i < 2; i++) {
        int wanted = lm_uplinks_send_fixed(uplinks, i == 0 ? 4 : 6);
        if (e->receive[i] >= 0)
            (void)setsockopt(e->receive[i], i == 0 ? IPPROTO_IP : IPPROTO_IPV6, i == 0 ? IP_RECVERR : IPV6_RECVERR,
                             &wanted, sizeof wanted);
    }
}
