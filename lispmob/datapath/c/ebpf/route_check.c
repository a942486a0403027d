#include "ebpf/route_check.h"

#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/engine.h"

struct request {
    struct nlmsghdr header;
    struct rtmsg route;
    uint8_t attributes[128];
};

static void add(struct request *r, unsigned short type, const void *value, size_t size)
{
    struct rtattr *at = (struct rtattr *)(void *)((uint8_t *)r + NLMSG_ALIGN(r->header.nlmsg_len));
    *at = (struct rtattr){.rta_len = (unsigned short)RTA_LENGTH(size), .rta_type = type};
    memcpy(RTA_DATA(at), value, size);
    r->header.nlmsg_len = NLMSG_ALIGN(r->header.nlmsg_len) + (uint32_t)RTA_SPACE(size);
}

static struct request request_about(const struct lm_route_question *about)
{
    uint8_t protocol = IPPROTO_UDP;
    uint16_t ports[2] = {htons(about->source_port), htons(about->destination_port)};
    struct request r = {
        .header = {.nlmsg_len = NLMSG_LENGTH(sizeof r.route), .nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST},
        .route = {.rtm_family = AF_INET6, .rtm_dst_len = 128, .rtm_src_len = 128}};
    add(&r, RTA_DST, about->destination.octets, 16);
    add(&r, RTA_SRC, about->source.octets, 16);
    add(&r, RTA_OIF, &about->ifindex, sizeof about->ifindex);
    add(&r, RTA_MARK, &about->mark, sizeof about->mark);
    add(&r, RTA_IP_PROTO, &protocol, sizeof protocol);
    add(&r, RTA_SPORT, &ports[0], sizeof ports[0]);
    add(&r, RTA_DPORT, &ports[1], sizeof ports[1]);
    return r;
}

/* Returns the outgoing interface of a route; 0: packets cannot leave by it. */
static int interface_of(const struct nlmsghdr *answer)
{
    const struct rtmsg *route = NLMSG_DATA(answer);
    int ifindex = 0;
    if (answer->nlmsg_type != RTM_NEWROUTE || route->rtm_type != RTN_UNICAST)
        return 0;
    size_t left = RTM_PAYLOAD(answer);
    for (const struct rtattr *at = RTM_RTA(route); RTA_OK(at, left); at = RTA_NEXT(at, left))
        if (at->rta_type == RTA_OIF)
            memcpy(&ifindex, RTA_DATA(at), sizeof ifindex);
    return ifindex;
}

bool lm_route_check_is_taken(const struct lm_route_question *about)
{
    struct request request = request_about(about);
    union {
        struct nlmsghdr header;
        uint8_t room[2048];
    } answer;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return true;
    ssize_t n = -1;
    if (send(fd, &request, request.header.nlmsg_len, 0) >= 0)
        n = recv(fd, &answer, sizeof answer, MSG_DONTWAIT); /* the kernel answers synchronously */
    close(fd);
    return n <= 0 || !NLMSG_OK(&answer.header, (size_t)n) || interface_of(&answer.header) != about->ifindex;
}

void lm_route_check_tell(struct lm_engine *e, const struct lm_path *path, const struct lm_remote *remote)
{
    if (!e->mirror || remote->address.family != 6 || remote->number == LM_NO_REMOTE || path->data_port != LM_PORT_POOL)
        return;
    uint32_t routes = atomic_load(&e->shared->routes); /* read first, so that a change meanwhile voids the answer */
    uint64_t words[] = {(uint64_t)(uint32_t)path->ifindex << 32 | routes, lm_get64(remote->address.octets),
                        lm_get64(remote->address.octets + 8)};
    uint64_t key = lm_hash(&e->key, words, 3);
    atomic_uint_fast64_t *place = &e->reported_routes[key % LM_ROUTES_REPORTED_MAX];
    if (atomic_load_explicit(place, memory_order_relaxed) == key)
        return;
    struct lm_route_question question = {.ifindex = path->ifindex,
                                         .mark = e->config.mark,
                                         .source = path->address,
                                         .destination = remote->address,
                                         .source_port = lm_uplink_port_of(path->sockets[0]),
                                         .destination_port = remote->port};
    bool is_watched = atomic_load(&e->watch) >= 0; /* otherwise a changed route would not be noticed */
    bool is_straight = is_watched && !lm_route_check_is_taken(&question);
    if (lm_mirror_way(e->mirror, path->ifindex, routes, &remote->address, is_straight))
        atomic_store_explicit(place, key, memory_order_relaxed);
    else
        lm_route_check_forget(e);
}

void lm_route_check_forget(struct lm_engine *e)
{
    atomic_fetch_add(&e->shared->routes, 1);
    if (e->mirror)
        lm_mirror_changed(e->mirror);
}
