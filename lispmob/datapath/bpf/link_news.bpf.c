/*
 * What the kernel tells the socket of ebpf/link_watch.c, read while it is told (socket filter). The kernel tells of an
 * address, a default route or a link before its routes go, so no packet is redirected to what is gone, however late the
 * thread that reads the socket comes to run.
 */
#include <linux/rtnetlink.h>

#include "lib/maps.h"

#define AF_INET 2 /* <sys/socket.h> is not for programs of the kernel */
#define KEPT (-1) /* all of it */
#define NOT_FOR_US 0

union news {
    struct ifinfomsg link;
    struct ifaddrmsg address;
    struct rtmsg route;
};

struct lost {
    struct lm_shared_state *state;
    struct lm_shared_uplinks *all;
    __u32 ifindex; /* 0: of any */
};

static long suspect_path(__u32 i, struct lost *lost)
{
    if (i >= LM_SHARED_PATHS)
        return 1;
    if (!lost->ifindex || lost->all->paths[i].ifindex == lost->ifindex)
        lost->state->suspect[i] = bpf_ktime_get_ns();
    return 0;
}

static __always_inline void suspect(__u32 ifindex)
{
    __u32 zero = 0;
    struct lost lost = {.state = bpf_map_lookup_elem(&state, &zero), .ifindex = ifindex};
    if (!lost.state)
        return;
    __u32 key = lost.state->uplinks;
    lost.all = bpf_map_lookup_elem(&uplinks, &key);
    if (lost.all)
        bpf_loop(lost.all->count, suspect_path, &lost, 0);
}

/*
 * Addresses that come, and those whose lifetime a router renews every few seconds, need no wake-up. Nor do routes
 * of IPv4, of which a router has tens of thousands, but for a default route that goes.
 */
SEC("socket")
int lm_link_news(struct __sk_buff *skb)
{
    struct nlmsghdr head;
    union news news = {};
    if (bpf_skb_load_bytes(skb, 0, &head, sizeof head) ||
        bpf_skb_load_bytes(skb, NLMSG_HDRLEN, &news, sizeof news.address))
        return KEPT;
    switch (head.nlmsg_type) {
    case RTM_NEWADDR:
        return NOT_FOR_US;
    case RTM_NEWROUTE:
        return news.route.rtm_family == AF_INET ? NOT_FOR_US : KEPT;
    case RTM_DELROUTE:
        if (news.route.rtm_dst_len == 0)
            suspect(0); /* which of them it led out of is a longer story, and one packet each shows it */
        else if (news.route.rtm_family == AF_INET)
            return NOT_FOR_US;
        break;
    case RTM_DELADDR:
        suspect(news.address.ifa_index);
        break;
    case RTM_NEWLINK:
    case RTM_DELLINK:
        suspect((__u32)news.link.ifi_index);
        break;
    default:
        break;
    }
    return KEPT;
}
