/*
 * Watches links, addresses and routes. A change makes the paths of that uplink suspect: the BPF programs do not use a
 * suspect path until one packet has been sent through its socket, because they cannot see that the kernel drops what
 * they redirect.
 *
 * The filter of the socket marks the path first (bpf/link_news.bpf.c). The thread marks it again, after the kernel has
 * made the change that it reported. Packets that the kernel holds for a lost path are discarded (neighbours.h). After
 * any change, also of routes and rules, the kernel is asked again where routes lead.
 */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/engine.h"

#define MESSAGES_AT_ONCE 64
#define IPV6_RULE (1u << (RTNLGRP_IPV6_RULE - 1)) /* has no RTMGRP_ constant */

int lm_link_watch_open(struct lm_engine *e)
{
    struct sockaddr_nl name = {.nl_family = AF_NETLINK,
                               .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
                                            RTMGRP_IPV6_ROUTE | IPV6_RULE};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return -errno;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    int filter = lm_bpf_object_link_news(lm_mirror_tier(e->mirror));
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &filter, sizeof filter) ||
        bind(fd, (struct sockaddr *)&name, sizeof name) || epoll_ctl(e->poll_in, EPOLL_CTL_ADD, fd, &event)) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

/* Marks the paths of an interface (0: of all) as suspect. */
static void suspect(struct lm_engine *e, int ifindex)
{
    for (size_t i = 0; i < e->uplinks->path_count; i++)
        if (ifindex == 0 || e->uplinks->paths[i].ifindex == ifindex)
            atomic_store(&e->shared->suspect[i], lm_clock_now());
}

/* Handles the loss of a route out of an interface (0: any), in a family (0: both). */
static void lose(struct lm_engine *e, int ifindex, uint8_t family)
{
    suspect(e, ifindex);
    lm_neighbours_lost(e->neighbours, ifindex, family);
}

/* Returns the interface of a route; 0: it has several. */
static int interface_of(const struct nlmsghdr *message)
{
    const struct rtmsg *route = NLMSG_DATA(message);
    size_t left = RTM_PAYLOAD(message);
    int found = 0;
    for (const struct rtattr *a = RTM_RTA(route); RTA_OK(a, left); a = RTA_NEXT(a, left))
        if (a->rta_type == RTA_OIF && RTA_PAYLOAD(a) == sizeof found)
            memcpy(&found, RTA_DATA(a), sizeof found);
    return found;
}

static void judge(struct lm_engine *e, const struct nlmsghdr *message)
{
    const struct ifinfomsg *link = NLMSG_DATA(message);
    const struct ifaddrmsg *address = NLMSG_DATA(message);
    const struct rtmsg *route = NLMSG_DATA(message);
    switch (message->nlmsg_type) {
    case RTM_NEWLINK:
        if ((link->ifi_flags & IFF_UP) && (link->ifi_flags & IFF_RUNNING))
            suspect(e, link->ifi_index);
        else
            lose(e, link->ifi_index, 0);
        break;
    case RTM_DELLINK:
        lose(e, link->ifi_index, 0);
        break;
    case RTM_DELADDR:
        lose(e, (int)address->ifa_index, address->ifa_family);
        break;
    case RTM_DELROUTE:
        if (route->rtm_dst_len == 0)
            lose(e, interface_of(message), route->rtm_family);
        break;
    default:
        break;
    }
}

void lm_link_watch_read(struct lm_engine *e, int fd)
{
    union {
        struct nlmsghdr align;
        uint8_t room[8192];
    } buffer;
    bool has_news = false;
    for (int i = 0; i < MESSAGES_AT_ONCE; i++) {
        ssize_t n = recv(fd, buffer.room, sizeof buffer, MSG_DONTWAIT);
        has_news = has_news || n > 0 || errno == ENOBUFS;
        if (n < 0 && errno == ENOBUFS)
            lose(e, 0, 0);
        if (n <= 0)
            break;
        size_t left = (size_t)n;
        for (struct nlmsghdr *m = &buffer.align; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left))
            judge(e, m);
    }
    if (has_news)
        lm_route_check_forget(e);
}
