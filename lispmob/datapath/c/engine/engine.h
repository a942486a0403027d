/* The shared state of the threads, and the functions that engine.py calls. */
#ifndef LM_ENGINE_H
#define LM_ENGINE_H

#include <pthread.h>

#include "base/clock.h"
#include "base/counters.h"
#include "base/rwlock.h"
#include "base/token_bucket.h"
#include "ebpf/attach_thread.h"
#include "ebpf/mirror.h"
#include "ebpf/neighbours.h"
#include "ebpf/route_check.h"
#include "engine/asking.h"
#include "engine/backpressure.h"
#include "engine/explain.h"
#include "engine/lane.h"
#include "engine/pending.h"
#include "engine/punt.h"
#include "engine/source.h"
#include "liveness/last_packet.h"
#include "liveness/pacing.h"
#include "liveness/peer_check.h"
#include "packet/coalesce.h"
#include "packet/icmp.h"
#include "packet/lisp_header.h"
#include "seal/dialect.h"
#include "seal/map_version.h"
#include "seal/sealed_in.h"
#include "seal/sealed_out.h"
#include "table/table.h"
#include "table/uplink.h"

#define LM_BATCH 64
#define LM_BATCH_OCTETS (256u << 10) /* of super-packets: as much as stays in the cache until it is used */
#define LM_FRAME_SIZE 69632u         /* headroom and the largest packet, in whole pages */
#define LM_HEARD_MAX 1024u
#define LM_HEARD_PROVEN 768u /* of these, places for proven senders only */
#define LM_REPORTED_MAX 256u
#define LM_FURTHER_MAX 32u /* receiving sockets beside those of the data port */
#define LM_ASKS_MAX 64u
#define LM_ROUTES_REPORTED_MAX 256u

struct lm_config {
    uint64_t key0, key1; /* random, per boot */
    bool is_rtr;         /* a proxy that forwards packets for table entries without the kernel */
    bool is_proxy;       /* accepts any inner source out and any inner destination in; the sender must be registered */
    bool copy_dscp, udp_checksum;
    uint8_t source_check; /* enum lm_source_check; changes with both locks held */
    bool pins_threads;    /* pins each thread to a processor, if there are two */
    uint16_t data_port;
    uint32_t proxy_instance_id; /* the Instance-ID that a proxy forwards for */
    uint32_t source_port_pool, mark;
    uint32_t pending_per_entry, pending_total;
    uint64_t pending_age_ns;
};

struct lm_frame {
    uint8_t *packet; /* LM_FRAME_HEADROOM octets before it are free */
    size_t length;
    lm_vnet vnet;
};

struct lm_frames {
    uint8_t *room;
    struct lm_frame frame[LM_BATCH];
};

/* The path and the remote of an outgoing packet. */
struct lm_way {
    const struct lm_path *path; /* NULL: none */
    struct lm_remote *remote;
    bool is_nested; /* sealed, through a relay that reads EIDs */
};

/* One outgoing inner packet, or super-packet. */
struct lm_job {
    uint8_t *packet;
    lm_vnet vnet;
    struct lm_segments segments; /* count 0: an ordinary packet */
    struct lm_inner inner;
    uint32_t instance_id;
    int lane;
    uint64_t flow, now, born;
    const struct lm_locator_set *set;
    struct lm_remote *remote;
    const struct lm_path *path;
    struct lm_session *seal; /* NULL: it leaves in clear */
    bool is_nested;          /* sealed, through a relay that reads EIDs */
    struct lm_way copy;      /* the second way of the same sealed octets */
    bool is_relayed;         /* from an uplink to an uplink; the inbound thread's */
    bool is_retry;           /* waited before: a second failure is not reported */
    bool is_own;             /* a message of ours: not counted as a packet, and starts no silence check */
};

static inline void lm_way_take(struct lm_job *job, const struct lm_way *way)
{
    job->path = way->path;
    job->remote = way->remote;
    job->is_nested = way->is_nested;
}

/* True when the receiver accepts partial checksums and runs (liveness/peer_check.h). */
static inline bool lm_job_copes(const struct lm_job *job)
{
    if (job->path->is_whole)
        return true;
    uint64_t coped_at = atomic_load_explicit(&job->remote->state->coped_at, memory_order_relaxed);
    return coped_at && job->now < coped_at + LM_COPES_NS;
}

/* Returns the octets that sealing adds to the inner packet. */
static inline size_t lm_job_seal_octets(const struct lm_job *job)
{
    return job->seal ? lm_sealed_out_overhead(job) : 0;
}

/* A destination that was reported to the control plane, by its hash; key 0: none. */
struct lm_reported {
    uint64_t key, until;
};

/* A locator that is asked to return a nonce; nonce 0: none. Only the control side writes it; threads may clear it. */
struct lm_ask {
    struct lm_addr remote;
    _Atomic uint32_t nonce;
};

enum lm_direction { LM_OUTBOUND = 0, LM_INBOUND = 1 };

/* The fields that are the same for all datagrams of one received message. */
struct lm_outer {
    struct lm_addr source, destination;
    uint16_t source_port;
    uint8_t ttl, tos;
    int ifindex;
    size_t run; /* octets of each datagram but the last (UDP_GRO); 0: there is only one */
    uint64_t now;
    bool is_ephemeral;                    /* it came to the data port of a single path */
    bool is_at_control_port;              /* it came to an RTR's control port (lm_engine_listen) */
    bool has_delivered;                   /* one of its packets was delivered */
    bool has_proven;                      /* and the mapping of its inner source names its outer source */
    size_t delivered, delivered_octets;   /* delivered packets, and their inner octets */
    bool has_relayed;                     /* one of its packets was forwarded to another node */
    bool has_opened;                      /* one of its sealed packets was opened */
    struct lm_session *opened_by;         /* the session of the current packet; NULL: clear text */
    struct lm_data accepted;              /* the last accepted packet: the next one rarely differs */
    const struct lm_session *accepted_by; /* the session of that packet */
};

struct lm_engine {
    struct lm_config config;
    struct lm_key key;
    struct lm_counters counters;
    struct lm_punt_ring punts;
    struct lm_asking asking;
    struct lm_shared_state own; /* the state that the BPF programs also see. */
    struct lm_shared_state
        *shared; /* `own`, or in the kernel if the programs are in use. Needs the lock, or is for the control side */
    struct lm_last_packet *own_last_packets, *last_packets; /* likewise */
    struct lm_mirror *mirror;                               /* NULL: the programs are not in use */
    struct lm_attach_thread *attacher;                      /* attaches the programs to the uplinks; NULL: no mirror */
    atomic_uint_fast64_t
        reported_routes[LM_ROUTES_REPORTED_MAX]; /* ebpf/route_check.c: what the programs know, by hash; 0: nothing */
    struct lm_neighbours *neighbours;            /* of the uplinks; NULL: there is no mirror */
    atomic_int watch;                            /* ebpf/link_watch.c; -1: not watched */
    bool is_move;                                /* the next set_uplinks starts watching for traffic; control side */

    /* Serialises the control side; the threads never take it. */
    pthread_mutex_t writer;
    /*
     * Threads hold it shared during a batch. The control side takes it exclusively for an update. It protects all
     * fields down to `stalled`.
     */
    struct lm_lock lock;
    struct lm_table *table, *eids, *guard, *instances;
    struct lm_locators *locators;
    struct lm_uplinks *uplinks;         /* never NULL */
    struct lm_addr icmp_source[2];      /* v4, v6: an EID of ours; family 0: none */
    struct lm_lane lanes[LM_LANES_MAX]; /* without lanes, the TUN is the default one */
    size_t lane_count;
    struct lm_copying copying[LM_COPYING_MAX];
    size_t copying_count;
    bool drops_unusable;    /* packets whose lane has no uplink are dropped; otherwise the default lane sends them */
    struct lm_peers *peers; /* and their sessions */
    struct lm_dialects *dialects;         /* keys by locator */
    struct lm_pending *unsealed;          /* packets that wait for a key; same rule as for `pending` */
    _Atomic uint16_t map_version;         /* of our own mappings, seal/map_version.h; 0: none */
    atomic_bool has_key;                  /* some of these have a key now: the outbound thread must look */
    uint8_t *sealed[LM_SEAL_THREADS];     /* for each thread: sealed octets that are about to be sent */
    struct lm_backpressure backpressure;  /* packets, and paused lanes; the outbound thread alone */
    struct lm_pending *pending, *stalled; /* only the outbound thread (shared) or the control side (exclusive) */
    bool has_stalled;                     /* a packet was added to `stalled`; same rule */
    struct lm_paced_flow paced_flows[LM_PACED_FLOWS]; /* same rule */

    struct lm_token_bucket icmp_bucket;           /* outbound thread, or control side with the lock exclusive */
    struct lm_reported reported[LM_REPORTED_MAX]; /* liveness/destination_report.c; same rule */
    struct lm_token_bucket reported_bucket;
    size_t refusing;                             /* negative entries of the table */
    struct lm_reported refuted[LM_REPORTED_MAX]; /* liveness/destination_report.c; the inbound thread's */
    struct lm_token_bucket refuted_bucket;
    atomic_bool accepts_status;           /* liveness/status_bits.c */
    struct lm_token_bucket status_bucket; /* inbound thread */
    struct lm_token_bucket check_bucket;  /* peer_check.c; the same */
    struct lm_token_bucket words_bucket;  /* sealed_in.c; the same */
    struct lm_token_bucket mtu_bucket;    /* too_big.c; inbound thread */
    /* Liveness/path_mtu.c; the inbound thread has its own for relayed packets. */
    struct lm_token_bucket large_bucket[2];
    atomic_bool echoes; /* liveness/echo_nonce.c */
    struct lm_ask asks[LM_ASKS_MAX];
    pthread_mutex_t heard_lock;
    struct lm_heard heard[LM_HEARD_MAX]; /* hashed, proven ones apart; family 0: free */
    struct lm_heard heard_last;          /* the most common case: the same peer again */

    struct lm_relay *relay;     /* nat/rtr.c; the inbound thread's */
    struct lm_sources *sources; /* source.c; the inbound thread's (shared), or the control side's (exclusive) */

    int tun, receive[2];         /* v4, v6; -1: the kernel has no such family */
    int further[LM_FURTHER_MAX]; /* sockets of others that receive data, too; set before the threads start */
    size_t further_count;
    bool has_vnet; /* the TUN device uses struct virtio_net_hdr */
    int stop, poll_out, poll_in;
    int key_wake; /* wakes the outbound thread for `has_key` */
    bool is_running;
    pthread_t out_thread, in_thread;
    struct lm_frames out_frames, in_frames;
    uint64_t moved_before; /* packets at the last lm_engine_rest(); control side */
    bool is_resting;
    struct lm_coalesce merge;    /* inbound thread: packets joined for the TUN device within a batch */
    int merge_into;              /* the descriptor that `merge` is written to */
    uint8_t *scratch;            /* one frame: waiting packets, and fragments; same rule as `pending` */
    uint8_t *fragment, *segment; /* one frame each; same rule */
    uint8_t *relayed_segment;    /* the same for relayed packets; the inbound thread alone */
    uint8_t *relayed_fragment;
    struct lm_token_bucket relayed_icmp_bucket;
};

/* device.c: the TUN device; `fd` is one of its lanes */
/* Reads one packet. Returns its octets; 0: no packet; -1: the device is gone. */
ssize_t lm_device_read(struct lm_engine *e, int fd, struct lm_frame *frame);
bool lm_device_write(struct lm_engine *e, int fd, const uint8_t *packet, size_t length);
/* Writes a finished super-packet in one call; false: refused, with errno. */
bool lm_device_write_merged(struct lm_engine *e, int fd, const struct lm_coalesce *merge, size_t vectors);

/* send.c: sends one packet. When an uplink refuses it, the packet takes another path, waits, or is fragmented. */
void lm_send(struct lm_engine *e, struct lm_job *job);
/* Returns segment `index` of a super-packet as a job, in the buffer of the calling thread. */
struct lm_job lm_send_segments(struct lm_engine *e, const struct lm_job *job, size_t index);
/* Sends a job without a packet, which is never kept and starts no silence check; false: it was not sent. */
bool lm_send_empty(struct lm_engine *e, struct lm_job *job);
/* Returns the size of the largest inner packet that can be sent whole, in octets. */
uint32_t lm_send_room(const struct lm_job *job);
/* Returns the octets that the outer headers to this remote add to an inner packet. */
uint32_t lm_send_overhead(const struct lm_remote *remote);
/* Sends a job by its path alone; false: it was not sent. */
bool lm_send_by_path(struct lm_engine *e, struct lm_job *job);

/* send_icmp.c: sends an ICMP error to the host, or to the source of a relayed packet. */
void lm_send_icmp(struct lm_engine *e, enum lm_icmp_kind kind, uint32_t mtu, const uint8_t *packet,
                  const struct lm_inner *inner, uint64_t now);
/* Sends an ICMP error about a job; for a super-packet, about its first segment. */
void lm_send_icmp_about(struct lm_engine *e, enum lm_icmp_kind kind, uint32_t mtu, const struct lm_job *job);

/* engine/batch.c: sends many jobs with few system calls. */
void lm_batch_send(struct lm_engine *e, struct lm_job **jobs, size_t count);

/* outbound.c: processes one packet; true when `job` is ready for lm_send, false when it is done. */
bool lm_outbound_judge(struct lm_engine *e, struct lm_job *job, const lm_vnet *vnet, uint8_t *packet, size_t length,
                       int lane, uint64_t born, uint64_t now);
/* Finds the Instance-ID of a packet for the tunnel; false: the packet does not enter it, and `why` is the counter. */
bool lm_outbound_admits(const struct lm_engine *e, struct lm_job *job, enum lm_counter *why);
/* Chooses uplink and locator of the flow by priority and weight. The job has no path if there is none. */
void lm_outbound_choose(struct lm_engine *e, struct lm_job *job);
/* Replaces the chosen locator by the relay that stands in for it on the chosen path, if there is one. */
void lm_outbound_turn(const struct lm_engine *e, struct lm_job *job);
void lm_outbound_retry(struct lm_engine *e, struct lm_pending *from);
/* Keeps a packet until its destination has an entry. The first packet is reported. */
void lm_outbound_miss(struct lm_engine *e, const struct lm_job *job);
void *lm_outbound_run(void *engine);

/* liveness/destination_report.c: reports a destination that only a default entry matches. Rate-limited. */
void lm_destination_report_sent(struct lm_engine *e, const struct lm_job *job);
/* Reports the source of an accepted packet if its entry is negative. Rate-limited. */
void lm_destination_report_heard(struct lm_engine *e, const struct lm_data *data, uint64_t now);

/* liveness/status_bits.c */
/* Reads the status of its sender's locators from an accepted packet. */
void lm_status_bits_on_data(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer);
/* `accepts`: reports changes of the bits of others. `sends`: puts these bits of ours into all data. */
void lm_status_bits_use(struct lm_engine *e, bool accepts, bool sends, uint32_t bits);

/* liveness/echo_nonce.c */
/* Handles the nonce of an accepted packet, which may ask for an echo or be one. */
void lm_echo_nonce_on_data(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer);
/* Adds to a data header the nonce that is owed to the locator, or asked of it. */
void lm_echo_nonce_put(struct lm_echo *echo, uint64_t now, uint8_t *header);
/* Answers the requests of others and accepts their answers; or ignores both. */
void lm_echo_nonce_use(struct lm_engine *e, bool echoes);
/* Asks the locator for this nonce with all data until it comes back, which is reported once; or stops asking. */
bool lm_echo_nonce_ask(struct lm_engine *e, const struct lm_addr *address, bool asks, uint32_t nonce);

/* inbound.c */
void *lm_inbound_run(void *engine);

/* too_big.c: reads the error queue of a socket, and accepts what RFC 9300 section 7.2 allows. */
void lm_too_big_read(struct lm_engine *e, int fd);
/* Reads the errors of the receiving sockets as well, if data is sent from them. */
void lm_too_big_listen(struct lm_engine *e, const struct lm_uplinks *uplinks);

/* liveness/path_mtu.c */
/* These set and report the path MTU: the largest outer packet that reaches the remote by a path, in octets. */
/* The kernel refuses a packet of this size: lowers the path MTU. */
void lm_path_mtu_refused(struct lm_engine *e, const struct lm_job *job, int fd);
/* Sets the path MTU. The next packet of any sender uses it. */
void lm_path_mtu_store(struct lm_engine *e, const struct lm_path *path, const struct lm_addr *address, uint16_t port,
                       uint32_t mtu, enum lm_mtu_source source);
/* Reports an inner packet of this size, sent or too large to be sent, if it is large. Rate-limited. */
void lm_path_mtu_note_large(struct lm_engine *e, const struct lm_job *job, size_t inner);
/* Reports a large packet that a program has seen leave for the remote, unless that was done. */
void lm_path_mtu_report_seen(struct lm_engine *e, const struct lm_remote *remote, uint64_t now);
/* Switches the reports about large packets on or off. */
void lm_path_mtu_report_large(struct lm_engine *e, bool reports);
/* Sets the path MTU from a local address to a locator, in octets; 0: the MTU of the uplink applies. */
void lm_path_mtu_set(struct lm_engine *e, const struct lm_addr *local, const struct lm_addr *address, uint16_t port,
                     uint32_t mtu);

/* silence.c: packets were sent to a locator, or came from one. The outbound thread asks when to check, and checks. */
void lm_silence_on_sent(struct lm_engine *e, const struct lm_job *job, size_t octets);
void lm_silence_on_heard(struct lm_engine *e, const struct lm_outer *outer);
int lm_silence_timeout(struct lm_engine *e);
void lm_silence_check(struct lm_engine *e);

/* nat/rtr.c: the RTR's side of a NAT. */
struct lm_relay *lm_rtr_new(void);
void lm_rtr_free(struct lm_relay *relay);
/* Checks the origin of a packet, and reports a source that is not registered there or has another port. */
void lm_rtr_note(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer, bool is_registered);
/* Takes a packet that is for a table entry; the next lm_rtr_flush sends it. False: the kernel must route it. */
bool lm_rtr_take(struct lm_engine *e, uint8_t *packet, const struct lm_data *data, const struct lm_outer *outer);
void lm_rtr_flush(struct lm_engine *e);

/* data_port.c: the node's side of a NAT. */
/* Writes one control message with the source address and interface (0: any) of a datagram; returns its length. */
size_t lm_data_port_put_pktinfo(uint8_t *room, const struct lm_addr *source, int ifindex);
/* True when the outer source may send to us: behind a NAT only the RTRs may, unless the path admits others. */
bool lm_data_port_admits(const struct lm_engine *e, const struct lm_outer *outer);
void lm_data_port_pass_bare(struct lm_engine *e, const uint8_t *payload, size_t length, const struct lm_outer *outer);
/* Data was sent by a path with relays, or came in by one. No answer within LM_STALL_NS is reported once. */
void lm_data_port_stall_sent(struct lm_engine *e, const struct lm_path *path, uint64_t now);
void lm_data_port_stall_heard(struct lm_engine *e, const struct lm_outer *outer);
int lm_data_port_stall_timeout(struct lm_engine *e);
void lm_data_port_stall_check(struct lm_engine *e);
/* Sends a control message from the data port of this address; 0 or a negative errno. */
int lm_data_port_send_control(struct lm_engine *e, const struct lm_addr *source, int ifindex, int data_port,
                              const struct lm_addr *destination, uint16_t port, const uint8_t *payload, size_t length);

/* ebpf/link_watch.c: returns a descriptor that the inbound thread reads, or a negative errno. */
int lm_link_watch_open(struct lm_engine *e);
void lm_link_watch_read(struct lm_engine *e, int fd);

/* A packet was sent by the path, which is no longer suspect: the BPF programs may use it. */
static inline void lm_path_proven(struct lm_engine *e, const struct lm_path *path)
{
    if (!path || !e->mirror)
        return;
    atomic_uint_fast64_t *since = &e->shared->suspect[path - e->uplinks->paths];
    uint64_t seen = atomic_load_explicit(since, memory_order_relaxed);
    if (seen && lm_clock_now() - seen >= LM_SUSPECT_NS)
        (void)atomic_compare_exchange_strong(since, &seen, 0); /* unless the kernel has reported a change meanwhile */
}

/* liveness/traffic_gap.c */
void lm_traffic_gap_report(struct lm_engine *e, enum lm_direction direction, uint64_t now, uint64_t before);
/* A packet moves in this direction. The first one after a change of uplinks is reported. */
static inline void lm_traffic_gap_note(struct lm_engine *e, enum lm_direction direction, uint64_t now)
{
    struct lm_traffic *traffic = &e->shared->traffic[direction];
    uint64_t before = atomic_exchange_explicit(&traffic->last, now, memory_order_relaxed);
    if (atomic_load_explicit(&traffic->is_watched, memory_order_relaxed))
        lm_traffic_gap_report(e, direction, now, before);
}
void lm_traffic_gap_watch(struct lm_engine *e);

/*
 * engine.c: the control side. It holds both locks while it changes what the threads read. `writer` alone protects what
 * only the control side uses.
 */
void lm_engine_lock(struct lm_engine *e);
void lm_engine_unlock(struct lm_engine *e);
/*
 * Replaces the table of this space by `fresh`, for threads and BPF programs, and frees the old one. 0, or -ENOMEM if
 * `fresh` is NULL.
 */
int lm_engine_replace(struct lm_engine *e, struct lm_table **table, enum lm_space space, struct lm_table *fresh);

/* engine.c: called by engine.py. Negative results are errno values. */
struct lm_engine *lm_engine_new(const struct lm_config *config);
/* The TUN device of open() has struct virtio_net_hdr, and accepts UDP super-packets; without this call neither. */
void lm_engine_offload(struct lm_engine *e, bool has_vnet, bool takes_udp);
int lm_engine_open(struct lm_engine *e, int tun);
/*
 * Receives data from this UDP socket as well, which is bound to an RTR's control port and stays the caller's: some
 * networks pass that port only. Between open and start. 0 or a negative errno.
 */
int lm_engine_listen(struct lm_engine *e, int fd);
int lm_engine_start(struct lm_engine *e);
void lm_engine_stop(struct lm_engine *e);
void lm_engine_free(struct lm_engine *e);
int lm_engine_set_uplinks(struct lm_engine *e, struct lm_uplink_spec *specs, size_t count);
/* Returns the socket on the data port, for locators that data is sent to from there; -1: no such family. */
int lm_data_port_socket(const struct lm_engine *e, int family);
/* The next set_uplinks is a move: reports the first packet of each direction after it, with the gap before it. */
void lm_engine_mark_move(struct lm_engine *e);
/* Sends last packets again whose path is another one now. Call it after the peers have been informed of a move. */
void lm_engine_repeat_last(struct lm_engine *e);
int lm_engine_set_eids(struct lm_engine *e, const struct lm_prefix *prefixes, size_t count);
int lm_engine_set_guard(struct lm_engine *e, const struct lm_prefix *prefixes, size_t count);
int lm_engine_install(struct lm_engine *e, const struct lm_prefix *prefix, int disposition,
                      const struct lm_locator_spec *locators, size_t count);
int lm_engine_install_sealed(struct lm_engine *e, const struct lm_prefix *prefix, int disposition,
                             const struct lm_locator_spec *locators, size_t count, struct lm_seal_wish wish);
/* An entry to install. Its locators are `count` from `first` on, in an array that all entries share. */
struct lm_install {
    struct lm_prefix prefix;
    uint32_t first;
    uint8_t count, disposition;
    bool must_seal;
    uint16_t map_version;
    uint32_t peer;
};
/* Installs many entries, in portions: packets move in between. Entries before an error stay installed. */
int lm_engine_install_many(struct lm_engine *e, const struct lm_install *items, size_t count,
                           const struct lm_locator_spec *locators);
/* Sets the lanes, and the marks whose packets leave twice. The caller closes removed descriptors afterwards. */
int lm_lane_set_all(struct lm_engine *e, const struct lm_lane *lanes, size_t count, const struct lm_copying *copying,
                    size_t copying_count, bool drops_unusable);
int lm_engine_remove(struct lm_engine *e, const struct lm_prefix *prefix);
int lm_engine_drop_pending(struct lm_engine *e, const struct lm_prefix *prefix);
int lm_engine_wake_fd(const struct lm_engine *e);
/* True while there is something to drain. */
bool lm_engine_has_reports(struct lm_engine *e);
size_t lm_engine_drain(struct lm_engine *e, struct lm_punt *into, size_t most);
void lm_engine_counters(struct lm_engine *e, uint64_t *into);
/*
 * Copies the prefixes that forwarded since they were last reported. Start with cursor 0; it is complete when the result
 * is less than `most`.
 */
size_t lm_engine_used(struct lm_engine *e, uint32_t *cursor, struct lm_prefix *into, size_t most);
/* Copies the RLOC pairs with deliveries since the last call; `into` has room for LM_HEARD_MAX. Returns their number. */
size_t lm_engine_heard(struct lm_engine *e, struct lm_heard *into);

/* engine/sealing.c */
/* Does what lm_peers_install() does. A confirmed session sends the packets that waited for it. */
int lm_engine_install_session(struct lm_engine *e, const struct lm_session_spec *spec);
/* Returns memory of packet buffers to the kernel if hardly a packet has moved since the last call. */
void lm_engine_rest(struct lm_engine *e);
/* Sets the inner sources that the peer of the session may send; false: no such session, or no memory. */
bool lm_engine_set_sources(struct lm_engine *e, uint32_t local_index, const struct lm_prefix *sources, size_t count);
bool lm_engine_forget_session(struct lm_engine *e, uint32_t local_index);
void lm_engine_forget_peer(struct lm_engine *e, uint32_t peer);
/* Drops clear packets with these inner sources from now on; 0 or -ENOMEM. */
int lm_engine_set_clear_refused(struct lm_engine *e, const struct lm_prefix *prefixes, size_t count);
/* Sends an empty sealed packet by the path of the peer's packets; false: no key, no path, or the uplink refused it. */
bool lm_engine_send_keepalive(struct lm_engine *e, uint32_t peer);
/*
 * Sends a sealed control message to a peer, from EID to EID: to the locator `remote`, or by the path of the peer's
 * packets (NULL). False: no key, no path, or the uplinks refused it.
 */
bool lm_engine_say(struct lm_engine *e, uint32_t peer, const struct lm_addr *remote, const uint8_t *payload,
                   size_t length);
struct lm_session_use {
    uint32_t peer, local_index;
    uint8_t slot;                           /* enum lm_session_slot */
    uint64_t sent, opened, age_ns, idle_ns; /* idle_ns: since a packet was opened; UINT64_MAX: none was */
};
size_t lm_engine_sessions(struct lm_engine *e, struct lm_session_use *into, size_t most);
/* For tests: adds this age, and this number of sent packets, to a key. */
bool lm_engine_wear_session(struct lm_engine *e, uint32_t local_index, uint64_t age_ns, uint64_t sent);

/*
 * Reports when packets to the locator stay unanswered for this many nanoseconds (silence.h); 0: stops. `head`
 * identifies the peer: locators with the same one form a group. Family 0: no group.
 */
void lm_silence_set_patience(struct lm_engine *e, const struct lm_addr *address, uint64_t quick, uint64_t slow,
                             const struct lm_addr *head);

struct lm_mtu {
    struct lm_addr local, address;
    uint16_t port;
    uint32_t mtu;
};
size_t lm_engine_mtus(struct lm_engine *e, struct lm_mtu *into, size_t most);
/*
 * The inner packets, and their octets, that were sent to a remote, and that came from it and were delivered, since a
 * mapping names it. Remotes without any are left out.
 */
struct lm_traffic_with {
    struct lm_addr address;
    uint16_t port;
    uint64_t sent, sent_octets, received, received_octets;
};
size_t lm_engine_traffic(struct lm_engine *e, struct lm_traffic_with *into, size_t most);

#endif
