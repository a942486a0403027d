/*
 * Defines the values of the maps that the BPF programs and the C side share. The layout is the same on both sides.
 *
 * The C side writes all fields. The fields marked LM_SHARED are written by both sides, and their maps are mapped into
 * the process. Addresses are in network byte order, 16 octets with zeros after an IPv4 address. Everything else is in
 * the byte order of the host.
 */
#ifndef LM_SHARED_H
#define LM_SHARED_H

#include <linux/types.h>

#ifdef __bpf__
typedef __u64 uint64_t;
typedef __u32 uint32_t;
typedef __u16 uint16_t;
#define LM_SHARED(type) volatile type
#else
#include <stdint.h>
#define LM_SHARED(type) _Atomic type
#endif

#define LM_SHARED_PATHS 32
#define LM_SHARED_LOCATORS 32
#define LM_SHARED_POOL 64
#define LM_SHARED_LANES 64
#define LM_SHARED_REMOTES 16384
#define LM_SHARED_USED_PAGE 4096
#define LM_SHARED_USED_PAGES 256
#define LM_SHARED_ENTRIES (LM_SHARED_USED_PAGE * LM_SHARED_USED_PAGES) /* of the table */
#define LM_SHARED_SPARE 4096 /* for our own prefixes and addresses in addition */
#define LM_SHARED_SETS (1 << 17)
#define LM_NO_REMOTE 0xffffffffu

/* One trie holds several tables, distinguished by the first octet of the key: space + 0 for IPv4, + 1 for IPv6. */
enum lm_space {
    LM_SPACE_TABLE = 2,
    LM_SPACE_EIDS = 4,
    LM_SPACE_GUARD = 6,
    LM_SPACE_RLOCS = 8,
    LM_SPACE_NEAR = 10,
    LM_SPACE_REFUSED = 12
};

struct lm_trie_key {
    __u32 bits; /* of the rest; space and Instance-ID always count */
    __u8 space, instance_id[3];
    __u8 address[16];
};
#define LM_TRIE_HEAD_BITS 32

struct lm_trie_value {
    __u32 number; /* of a table's entry: its place in `used` */
    __u32 value;  /* table: locator set; EIDs: Instance-ID; RLOCs: place of the path, LM_SHARED_PATHS when none sends;
                     near: enum lm_near */
    __u32 kind;   /* table: enum lm_disposition */
};

#define LM_STATUS_SENT (1ull << 32)

/* The fields that table/rendezvous.h needs of a contender. */
struct lm_shared_contender {
    __u64 identity;
    __u8 family, priority, weight, spare[5];
};

struct lm_shared_locator {
    struct lm_shared_contender contender;
    __u8 address[16];
    __u32 remote; /* place in the array of remotes; LM_NO_REMOTE: only the tun tier can send there */
    __u16 port;
    __u16 source_port; /* if not 0, data leaves from `source` and this port: a NAT on the path lets answers to it in */
    __u8 source[16];
};

struct lm_shared_set {
    __u32 count;
    __u32 is_translated; /* one of them is behind a NAT: the source port of data matters too */
    struct lm_shared_locator locators[LM_SHARED_LOCATORS];
};

struct lm_shared_path {
    struct lm_shared_contender contender;
    __u8 address[16];
    __u32 ifindex, mtu;
    __u32 relays;    /* a locator set; 0: none */
    __u16 data_port; /* another port that sends and receives; 0: none */
    __u8 is_ready;   /* 0: only the tun tier can send by it */
    __u8 pool;
    __u8 is_whole, spare[7]; /* 0: a partial checksum reaches the peer as it is (peer_check.h) */
    __u16 ports[LM_SHARED_POOL];
};

/* A snapshot of the uplinks. A new set gets a new key, so a reader never sees a mixture. */
struct lm_shared_uplinks {
    __u32 families, count; /* families of the paths that may be used, as bits: 1 is IPv4, 2 is IPv6 */
    struct lm_shared_path paths[LM_SHARED_PATHS];
};

#define LM_SHARED_WAYS 16384

/* A path out of an interface to an IPv6 locator. */
struct lm_shared_way {
    __u32 ifindex, routes; /* `routes`: valid for that count in the state */
    __u8 address[16];
};

struct lm_shared_lane {
    __u32 mark;
    __s32 ifindex; /* -1: unusable */
    __u32 queue;
    __u32 spare;
};

/* Data to relays is reported when it stays unanswered for this long. Most round trips to an RTR are shorter. */
#define LM_STALL_NS 60000000u
#define LM_STALL_REPORTED 1u /* not a time: no clock shows it */

/*
 * A path whose address, route or link changed is suspect: only the tun tier uses it, until a packet has left through
 * its socket. A packet within LM_SUSPECT_NS of the kernel's message proves nothing, because the kernel reports a
 * removal before it removes.
 */
#define LM_SUSPECT_NS 20000000u
#define LM_SUSPECT_AT_FIRST 1u /* not a time: the path is new, and its first packet proves it */

/* When packets last moved in one direction, and whether the tun tier must report the next one. */
struct lm_traffic {
    LM_SHARED(uint64_t) last; /* CLOCK_MONOTONIC, nanoseconds; 0: never */
    LM_SHARED(uint32_t) is_watched;
    __u32 spare[13]; /* a cache line for each direction */
};

struct lm_shared_state {
    LM_SHARED(uint32_t) generation; /* decisions under another generation are made again */
    LM_SHARED(uint32_t) is_on;      /* 0: everything falls through */
    LM_SHARED(uint32_t) uplinks;    /* key of the uplinks in use */
    __u32 device;                   /* ifindex of the TUN */
    __u64 key0, key1;
    __u32 mark, mark_mask, lane_count;
    __u16 data_port;
    __u8 copy_dscp, source_check; /* enum lm_source_check */
    __u32 relayed_instance_id;    /* of an RTR: the Instance-ID in which it forwards */
    __u32 spare;
    struct lm_shared_lane lanes[LM_SHARED_LANES];
    __u64 gap[4];
    struct lm_traffic traffic[2];
    LM_SHARED(uint64_t)
    unanswered[LM_SHARED_PATHS]; /* since when data waits for an answer, by path; 0: answered; or LM_STALL_REPORTED */
    LM_SHARED(uint64_t) suspect[LM_SHARED_PATHS]; /* since when the kernel may have lost the path; 0: it has not */
    LM_SHARED(uint32_t) routes;        /* counts changes of IPv6 routes: results under another count are void */
    LM_SHARED(uint32_t) reports_large; /* large packets are reported (liveness/path_mtu.c) */
    LM_SHARED(uint64_t) status;        /* the Locator-Status-Bits in our data headers, and LM_STATUS_SENT */
    LM_SHARED(uint64_t) silence_at;    /* when to check the watched locators; 0: no need */
};

/* Whether packets to a locator are answered (silence.h). All times in nanoseconds of one clock that never shows 0. */
struct lm_silence {
    LM_SHARED(uint64_t) quick, slow;  /* timeouts; 0: not watched */
    LM_SHARED(uint64_t) since, heard; /* the first unanswered packet, and the last arrival; 0: none */
    LM_SHARED(uint32_t) octets;       /* octets that wait for an answer */
    LM_SHARED(uint32_t) is_reported;
    LM_SHARED(uint64_t) asked_at; /* when the programs last passed a packet to the tun tier for a report */
};

/* The nonces in data to a locator (liveness/echo_nonce.c); while there is one, the tun tier sends the data. */
struct lm_echo {
    LM_SHARED(uint64_t) until;  /* until when an answer is due, nanoseconds, CLOCK_MONOTONIC */
    LM_SHARED(uint32_t) owed;   /* a nonce */
    LM_SHARED(uint32_t) copies; /* how many more packets may carry it */
    LM_SHARED(uint32_t) asked;  /* a nonce, with one more bit set; 0: none */
    __u32 spare;
};

#define LM_COPES_NS 90000000000ull /* how long the answer to a peer check is valid */

/*
 * Outer packets of at least this size test the path MTU, so their locators are reported from time to time. Smaller ones
 * are acknowledgements, queries and the like. On a path with a smaller MTU, packets close to it count as large.
 */
#define LM_LARGE 1100u
#define LM_LARGE_BELOW 64u
#define LM_LARGE_ASK_NS 1000000u /* the programs pass at most one packet in this time to the tun tier for it */
/*
 * If the thread of the tun tier wakes within this time anyway, it reports what the programs have seen. A packet that
 * took the way through the thread would be overtaken by later ones, which TCP takes for a loss.
 */
#define LM_LARGE_LOOK_NS 200000000u
static inline __u32 lm_large_from(__u32 mtu)
{
    return mtu < LM_LARGE + LM_LARGE_BELOW ? mtu - LM_LARGE_BELOW : LM_LARGE;
}

/* The state of a locator. */
struct lm_remote_state {
    LM_SHARED(uint64_t) coped_at; /* when it showed that it accepts partial checksums and runs; nanoseconds; 0: never */
    LM_SHARED(uint64_t) check_at; /* the next packet at or after this time asks it again */
    LM_SHARED(uint32_t) unanswered_checks;
    LM_SHARED(uint32_t) summed;               /* packets with a UDP checksum from it since `unsummed_at` */
    LM_SHARED(uint16_t) mtu[LM_SHARED_PATHS]; /* octets of the outer packet, by path; 0: the uplink's MTU applies */
    LM_SHARED(uint64_t) large_at;    /* when large packets must be reported again: nanoseconds, CLOCK_MONOTONIC */
    LM_SHARED(uint64_t) large_seen;  /* when a program left the report of a large packet to the threads; 0: never */
    LM_SHARED(uint32_t) large_paths; /* the paths of large packets since the last report, as bits */
    LM_SHARED(uint32_t) head;  /* the group leader, whose `group` counts for it, by its place; LM_NO_REMOTE: none */
    struct lm_silence silence; /* of the locator itself */
    struct lm_silence group;   /* of all locators of a peer together, which may answer from another one */
    struct lm_echo echo;
    LM_SHARED(uint64_t) sent, sent_octets; /* inner packets sent to it, and their octets */
    /* Inner packets from it that were delivered here, and their octets. */
    LM_SHARED(uint64_t) received, received_octets;
    LM_SHARED(uint64_t) unsummed_at; /* when data without a UDP checksum last came from it; nanoseconds; 0: never */
};

/*
 * After data without a UDP checksum has come from the locator, NATs on its path are assumed to pass such data in the
 * other direction, for this long. The assumption ends early after LM_SUMMED_MOST packets with a checksum: a node behind
 * a NAT that drops zero checksums sends only those, and any host may forge data.
 */
#define LM_UNSUMMED_NS 90000000000ull
#define LM_UNSUMMED_NOTE_NS 1000000000ull /* such data is recorded at most once in this time */
#define LM_SUMMED_MOST 16u

struct lm_shared_counts {
    __u64 out_packets, out_octets, data_packets, data_octets, lost, spare[3];
};

struct lm_shared_address {
    __u32 family;
    __u8 octets[16];
};

/* The start of the last TCP packet of a flow, and the way that it took (liveness/last_packet.h). */
#define LM_LAST_PACKETS 64u       /* flows; a power of two */
#define LM_LAST_OCTETS 1536u      /* of each */
#define LM_LAST_EVERY_NS 1000000u /* a packet of a flow is kept at most once in this time: the first of a burst */
struct lm_last_packet {
    LM_SHARED(uint32_t) turn; /* odd: it is being written */
    __u32 flow;               /* the lower half of its hash */
    __u64 at;                 /* when it left; 0: none */
    __s32 lane;
    __u32 length;                      /* of what is kept */
    struct lm_shared_address from, to; /* outer addresses, and the port that it went to */
    __u32 port, spare;
    __u8 packet[LM_LAST_OCTETS];
};
static inline __u32 lm_last_packet_place(__u32 flow)
{
    return flow % LM_LAST_PACKETS;
}

struct lm_shared_heard {
    struct lm_shared_address source, local;
};

#define LM_SHARED_ORIGINS 16384

/* An inner source behind a NAT, with the outer source of its data. The RTR's thread has seen both in one packet. */
struct lm_shared_origin {
    struct lm_shared_address inner, outer;
    __u32 port;
};

#endif
