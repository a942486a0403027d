/* The data port of a node behind a NAT: data is sent from one port, and is accepted there only from RTRs. */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/cmsg.h"
#include "engine/engine.h"

size_t lm_data_port_put_pktinfo(uint8_t *room, const struct lm_addr *source, int ifindex)
{
    if (source->family == 4) {
        struct in_pktinfo info = {.ipi_ifindex = ifindex};
        memcpy(&info.ipi_spec_dst, source->octets, 4);
        return lm_control_put(room, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    }
    struct in6_pktinfo info = {.ipi6_ifindex = (unsigned)ifindex};
    memcpy(&info.ipi6_addr, source->octets, 16);
    return lm_control_put(room, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
}

/*
 * Returns the place of the path with this address; path_count if there is none. If several interfaces have the address,
 * the interface decides: two modems of one model are two uplinks.
 */
static size_t place_of(const struct lm_uplinks *uplinks, const struct lm_addr *address, int ifindex)
{
    size_t found = uplinks->path_count;
    for (size_t i = 0; i < uplinks->path_count; i++) {
        if (!lm_addr_equal(&uplinks->paths[i].address, address))
            continue;
        if (uplinks->paths[i].ifindex == ifindex)
            return i;
        if (found == uplinks->path_count)
            found = i;
    }
    return found;
}

bool lm_data_port_admits(const struct lm_engine *e, const struct lm_outer *outer)
{
    size_t place = place_of(e->uplinks, &outer->destination, outer->ifindex);
    const struct lm_path *path = place < e->uplinks->path_count ? &e->uplinks->paths[place] : NULL;
    return !path || !path->relays || path->admits_others || lm_locator_set_holds(path->relays, &outer->source);
}

void lm_data_port_pass_bare(struct lm_engine *e, const uint8_t *payload, size_t length, const struct lm_outer *outer)
{
    struct lm_punt report = {.kind = LM_PUNT_CONTROL,
                             .instance_id = LM_CONTROL_IID,
                             .source = outer->source,
                             .destination = outer->destination,
                             .source_port = outer->source_port,
                             .outer_source = outer->source,
                             .outer_source_port = outer->source_port,
                             .outer_destination = outer->destination,
                             .is_at_control_port = outer->is_at_control_port,
                             .ifindex = outer->ifindex};
    if (lm_punt_put(&e->punts, &report, payload, length))
        lm_count(&e->counters, LM_data_control);
}

void lm_data_port_stall_sent(struct lm_engine *e, const struct lm_path *path, uint64_t now)
{
    if (!path || !path->relays)
        return;
    _Atomic uint64_t *since = &e->shared->unanswered[path - e->uplinks->paths];
    uint64_t answered = 0;
    if (atomic_load_explicit(since, memory_order_relaxed) == 0)
        (void)atomic_compare_exchange_strong(since, &answered, now);
}

void lm_data_port_stall_heard(struct lm_engine *e, const struct lm_outer *outer)
{
    size_t place = place_of(e->uplinks, &outer->destination, outer->ifindex);
    if (place < e->uplinks->path_count && e->uplinks->paths[place].relays)
        atomic_store_explicit(&e->shared->unanswered[place], 0, memory_order_relaxed);
}

static uint64_t oldest(const struct lm_engine *e)
{
    uint64_t first = 0;
    for (size_t i = 0; i < LM_PATHS_MAX; i++) {
        uint64_t since = atomic_load_explicit(&e->shared->unanswered[i], memory_order_relaxed);
        if (since > LM_STALL_REPORTED && (first == 0 || since < first))
            first = since;
    }
    return first;
}

int lm_data_port_stall_timeout(struct lm_engine *e)
{
    lm_share(&e->lock);
    uint64_t since = oldest(e), now = lm_clock_now();
    lm_unshare(&e->lock);
    if (since == 0)
        return -1;
    return since + LM_STALL_NS <= now ? 0 : (int)((since + LM_STALL_NS - now) / 1000000u) + 1;
}

void lm_data_port_stall_check(struct lm_engine *e)
{
    lm_share(&e->lock);
    uint64_t since = oldest(e);
    uint64_t now = since ? lm_clock_now() : 0;
    bool is_due = since && now >= since + LM_STALL_NS;
    for (size_t i = 0; is_due && i < e->uplinks->path_count; i++) {
        since = atomic_load_explicit(&e->shared->unanswered[i], memory_order_relaxed);
        if (since <= LM_STALL_REPORTED || now < since + LM_STALL_NS ||
            !atomic_compare_exchange_strong(&e->shared->unanswered[i], &since, LM_STALL_REPORTED))
            continue;
        struct lm_punt report = {
            .kind = LM_PUNT_STALLED, .source = e->uplinks->paths[i].address, .ifindex = e->uplinks->paths[i].ifindex};
        (void)lm_punt_put(&e->punts, &report, NULL, 0);
    }
    lm_unshare(&e->lock);
}

int lm_data_port_socket(const struct lm_engine *e, int family)
{
    return e->receive[family == 6];
}

int lm_data_port_send_control(struct lm_engine *e, const struct lm_addr *source, int ifindex, int data_port,
                              const struct lm_addr *destination, uint16_t port, const uint8_t *payload, size_t length)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&v4.sin_addr, destination->octets, 4);
    memcpy(&v6.sin6_addr, destination->octets, 16);
    union {
        struct cmsghdr align;
        uint8_t room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    } control;
    struct iovec io = {(void *)(uintptr_t)payload, length};
    bool is_v4 = destination->family == 4;
    struct msghdr m = {.msg_name = is_v4 ? (void *)&v4 : (void *)&v6,
                       .msg_namelen = is_v4 ? sizeof v4 : sizeof v6,
                       .msg_iov = &io,
                       .msg_iovlen = 1,
                       .msg_control = control.room};
    LM_SET(m.msg_controllen, lm_data_port_put_pktinfo(control.room, source, ifindex));
    lm_share(&e->lock);
    size_t place = place_of(e->uplinks, source, ifindex);
    int fd = e->receive[!is_v4];
    if (data_port == LM_PORT_EPHEMERAL)
        fd = place < e->uplinks->path_count ? e->uplinks->paths[place].data_fd : -1;
    int error = -EADDRNOTAVAIL;
    for (int tries = 0; fd >= 0 && error && tries < 2; tries++) /* the first refusal may be about an earlier packet */
        error = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
    lm_unshare(&e->lock);
    return error;
}
