/* Parses a packet in place: the inner IP header, the outer one with UDP, the LISP header. False: the tun tier parses it. */
#ifndef LM_PARSE_H
#define LM_PARSE_H

#include <linux/if_ether.h>

#include "lib/maps.h"

static __always_inline bool is_lisp_port(__u16 port)
{
    return port == LM_PORT_DATA || port == LM_PORT_CONTROL;
}

static __always_inline __u32 fold(__u64 sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (__u32)((sum & 0xffff) + (sum >> 16));
}

struct inner {
    __u32 is_v4, header;
    __u8 protocol, tos, ttl;
};

static __always_inline __u16 get16(const void *at)
{
    __u16 value;
    __builtin_memcpy(&value, at, sizeof value);
    return bpf_ntohs(value);
}

static __always_inline __u32 get32(const void *at)
{
    __u32 value;
    __builtin_memcpy(&value, at, sizeof value);
    return bpf_ntohl(value);
}

static __always_inline __u64 get64(const void *at)
{
    return (__u64)get32(at) << 32 | get32(at + 4);
}

/* Parses a whole packet at `data`; false: it has unusual parts. */
static __always_inline bool read_inner(const __u8 *data, const __u8 *end, __u32 length, struct inner *inner,
                                       __u64 words[5])
{
    __u32 ports = 0;
    if (data + 28 > end)
        return false;
    inner->is_v4 = data[0] == 0x45;
    if (inner->is_v4) {
        __u64 sum = 0;
        for (int i = 0; i < 20; i += 2)
            sum += *(const __u16 *)(data + i);
        if (get16(data + 2) != length || (get16(data + 6) & 0x3fff) || fold(sum) != 0xffff)
            return false;
        inner->header = 20;
        inner->tos = data[1];
        inner->ttl = data[8];
        inner->protocol = data[9];
        if (lm_rules_has_ports(inner->protocol))
            ports = get32(data + 20);
        words[1] = get64(data + 12);
        words[2] = words[3] = words[4] = 0;
    } else {
        if (data[0] >> 4 != 6 || data + 48 > end || get16(data + 4) + 40u != length)
            return false;
        inner->header = 40;
        inner->tos = (__u8)(data[0] << 4 | data[1] >> 4);
        inner->ttl = data[7];
        inner->protocol = data[6];
        if (lm_rules_is_extension(inner->protocol))
            return false;
        if (lm_rules_has_ports(inner->protocol))
            ports = get32(data + 40);
        words[1] = get64(data + 8);
        words[2] = get64(data + 16);
        words[3] = get64(data + 24);
        words[4] = get64(data + 32);
    }
    words[0] = lm_rules_flow_word(inner->is_v4 ? 4 : 6, inner->protocol, (__u16)(ports >> 16), (__u16)ports);
    return true;
}

struct outer {
    __u32 is_v4, header;
    __u8 tos, ttl;
    __u16 port, source_port, sum;
    __u64 source[2], destination[2];
};

/* Parses the outer IP and UDP header with the kernel's checks; false: not data for us, or unusual. */
static __always_inline bool read_outer(struct __sk_buff *skb, const __u8 *data, const __u8 *end, struct outer *outer)
{
    __u32 length = skb->len - ETH_HLEN;
    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        if (data + ETH_HLEN + LM_OUTER_V4 + 20 > end)
            return false;
        data += ETH_HLEN;
        if (data[0] != 0x45 || get16(data + 2) != length || (get16(data + 6) & 0x3fff) || data[9] != IPPROTO_UDP)
            return false;
        __u64 sum = 0;
        for (int i = 0; i < 20; i += 2)
            sum += *(const __u16 *)(data + i);
        if (fold(sum) != 0xffff)
            return false;
        outer->is_v4 = 1;
        outer->header = 20;
        outer->tos = data[1];
        outer->ttl = data[8];
        outer->source[0] = get32(data + 12);
        outer->destination[0] = get32(data + 16);
        outer->source[1] = outer->destination[1] = 0;
    } else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
        if (data + ETH_HLEN + LM_OUTER_V6 + 20 > end)
            return false;
        data += ETH_HLEN;
        if (data[0] >> 4 != 6 || get16(data + 4) + 40u != length || data[6] != IPPROTO_UDP)
            return false;
        outer->is_v4 = 0;
        outer->header = 40;
        outer->tos = (__u8)(data[0] << 4 | data[1] >> 4);
        outer->ttl = data[7];
        outer->source[0] = get64(data + 8);
        outer->source[1] = get64(data + 16);
        outer->destination[0] = get64(data + 24);
        outer->destination[1] = get64(data + 32);
    } else {
        return false;
    }
    const __u8 *udp = data + outer->header;
    outer->source_port = get16(udp);
    outer->port = get16(udp + 2);
    outer->sum = get16(udp + 6);
    return get16(udp + 4) + outer->header == length;
}

struct arrival {
    struct outer outer;
    struct inner inner;
    __u64 words[5]; /* of the inner packet */
    __u32 instance_id, ifindex;
    __u32 offset;             /* of the inner packet, from the Ethernet header */
    __u32 segments, repeated; /* packets in a super-packet, and the octets that each repeats; 1, 0 */
    __u32 flags, second;      /* of the LISP header: its first octet, its second word */
    __u32 run;                /* octets of each datagram but the last, if there are several; 0: there is one */
};

/* Parses the LISP header. Returns the inner packet, at least 20 octets, or NULL if it is not clear text. */
static __always_inline const __u8 *read_lisp(struct __sk_buff *skb, const __u8 *data, const __u8 *end,
                                             struct arrival *a)
{
    a->offset = a->outer.is_v4 ? ETH_HLEN + LM_OUTER_V4 : ETH_HLEN + LM_OUTER_V6;
    const __u8 *header = data + (a->outer.is_v4 ? ETH_HLEN + 28 : ETH_HLEN + 48), *packet = header + 8;
    if (packet + 20 > end || (header[0] & ~(LM_FLAG_I | LM_FLAG_L)))
        return NULL;
    a->flags = header[0];
    a->second = get32(header + 4);
    a->instance_id = a->flags & LM_FLAG_I ? a->second >> 8 : 0;
    a->ifindex = skb->ifindex;
    a->segments = 1;
    a->repeated = 0;
    a->run = 0;
    return a->instance_id == LM_CONTROL_IID ? NULL : packet;
}

/* Parses one whole inner packet, which may be a super-packet; false: it is not clear text. */
static __always_inline bool read_arrival(struct __sk_buff *skb, const __u8 *data, const __u8 *end, struct arrival *a)
{
    const __u8 *packet = read_lisp(skb, data, end, a);
    /* The rest must be one packet: several datagrams in a row (UDP_GRO) are not. */
    if (!packet || !read_inner(packet, end, skb->len - a->offset, &a->inner, a->words))
        return false;
    if (skb->gso_size) {
        if (a->inner.protocol != IPPROTO_TCP || packet + a->inner.header + 20 > end)
            return false;
        a->repeated = a->inner.header + (packet[a->inner.header + 12] >> 4) * 4;
        if (skb->len - a->offset <= a->repeated)
            return false;
        a->segments = (skb->len - a->offset - a->repeated + skb->gso_size - 1) / skb->gso_size;
    }
    return true;
}

#endif
