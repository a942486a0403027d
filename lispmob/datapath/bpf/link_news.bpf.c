/*
 * A socket filter on the netlink socket of ebpf/link_watch.c. It marks paths as suspect while the kernel sends the
 * message. The kernel reports an address, a default route or a link before it removes their routes. So no packet is
 * redirected to a path that is gone, even if the thread that reads the socket runs late.
 */
#include <linux/rtnetlink.h>

#include "lib/maps.h"

#define AF_INET 2 /* <sys/socket.h> cannot be included here */
#define KEPT (-1) /* the whole message */
#define NOT_FOR_US 0

union news {
    struct ifinfomsg link;
    struct ifaddrmsg address;
    struct rtmsg route;
};

struct lost {
    struct lm_shared_state *state;
    struct lm_shared_uplinks *all;
    __u32 ifindex; /* 0: every interface */
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
 * Passes on only messages that need a wake-up. New addresses need none, nor do those whose lifetime a router renews
 * every few seconds. Of IPv4 routes, which a router has by the ten thousand, only the removal of a default route does.
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
            suspect(0); /* all paths: one packet each shows which of them the route served */
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
