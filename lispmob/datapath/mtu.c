/* Path MTU: what the network tells about our outer packets, and what we make of it. */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/errqueue.h> /* needs struct timespec of time.h */

#include "engine.h"
#include "message.h"

#define SECOND UINT64_C(1000000000)
#define FORGET (600 * SECOND) /* RFC 1191 section 6.3 */
#define ERRORS_AT_ONCE 64     /* the rest waits for the next wake-up */

uint64_t lm_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

uint32_t lm_path_mtu(const struct lm_path *path, const struct lm_remote *remote, uint64_t now)
{
    uint32_t learned = atomic_load_explicit(&remote->state->path_mtu, memory_order_relaxed);
    if (learned == 0 || learned >= path->mtu)
        return path->mtu;
    uint64_t at = atomic_load_explicit(&remote->state->learned_at, memory_order_relaxed);
    return now > at && now - at > FORGET ? path->mtu : learned;
}

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

/*
 * The kernel has matched the quoted source address and port with the socket. Left to check: the destination is a
 * locator in use, the value is in range and smaller than now, at most one change per locator and second.
 */
static void learn(struct lm_engine *e, const struct lm_addr *address, uint16_t port, uint32_t mtu, bool is_local)
{
    struct lm_remote *remote = lm_remote_find(e->locators, address, port);
    uint32_t least = address->family == 4 ? 576 : 1280;
    uint64_t now = lm_now();
    bool is_ours = remote && mtu >= least && mtu < LM_PACKET_MAX;
    if (is_ours) {
        uint32_t old = atomic_load(&remote->state->path_mtu);
        uint64_t at = atomic_load(&remote->state->learned_at);
        uint64_t age = now > at ? now - at : 0;
        bool is_fresh = old != 0 && age <= FORGET;
        if (is_fresh && old == mtu)
            return;
        is_ours = !is_fresh || (mtu < old && (is_local || age > SECOND));
    }
    if (!is_ours) {
        lm_count(&e->counters, LM_mtu_ignored);
        return;
    }
    atomic_store(&remote->state->learned_at, now);
    atomic_store(&remote->state->path_mtu, mtu);
    lm_count(&e->counters, LM_mtu_learned);
    if (e->mirror)
        lm_mirror_changed(e->mirror);
    struct lm_punt report = {.kind = LM_PUNT_MTU, .destination = *address, .destination_port = port, .mtu = mtu};
    lm_punt_put(&e->punts, &report, NULL, 0);
}

static void judge(struct lm_engine *e, const struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = lm_control_next(message, c)) {
        bool is_v4 = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR;
        bool is_v6 = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR;
        if (!is_v4 && !is_v6)
            continue;
        struct sock_extended_err what;
        memcpy(&what, CMSG_DATA(c), sizeof what);
        if (what.ee_errno != EMSGSIZE)
            continue; /* unreachable ports and hosts are the control plane's to find out, by probing */
        uint16_t port = 0;
        struct lm_addr address = from_sockaddr(message->msg_name, &port);
        if (address.family)
            learn(e, &address, port, what.ee_info, what.ee_origin == SO_EE_ORIGIN_LOCAL);
    }
}

void lm_errors_read(struct lm_engine *e, int fd)
{
    for (int i = 0; i < ERRORS_AT_ONCE; i++) {
        struct sockaddr_storage name = {0};
        union {
            struct cmsghdr align;
            uint8_t room[512];
        } control;
        uint8_t quoted[64];
        struct iovec io = {quoted, sizeof quoted};
        struct msghdr message = {.msg_name = &name,
                                 .msg_namelen = sizeof name,
                                 .msg_iov = &io,
                                 .msg_iovlen = 1,
                                 .msg_control = control.room,
                                 .msg_controllen = sizeof control.room};
        if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            break;
        judge(e, &message);
    }
    int pending; /* the socket also remembers the last error: asking clears it, and with it the wake-up */
    socklen_t size = sizeof pending;
    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &pending, &size);
}
