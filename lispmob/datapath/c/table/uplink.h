/*
 * Uplinks, and which of them a flow takes by priority and weight (lm_uplinks_choose). Each interface and family has one
 * path, with a pool of UDP sockets bound to the interface and its address.
 *
 * Routers distinguish flows by the source port (RFC 9300 section 5.3), so there is a pool. All sockets set DF and queue
 * ICMP errors, except for the last of each path, whose packets may be fragmented. They ignore the path MTUs of the
 * kernel, because unauthenticated ICMP errors set those. too_big.c validates the errors.
 */
#ifndef LM_UPLINK_H
#define LM_UPLINK_H

#include <net/if.h>

#include "packet/lisp_header.h"
#include "table/locator.h"

#define LM_PATHS_MAX 32
#define LM_MTU_MIN 576    /* every IPv4 host can receive this (RFC 791): no path MTU is taken as smaller */
#define LM_MTU_MAX 65535u /* the longest IPv4 packet */
#define LM_POOL_MAX 64
#define LM_UPLINK_ADDRESSES_MAX 256

#define LM_RELAYS_MAX 8

/* The source port of data on a path. Behind a NAT, one port has the binding, and also receives. */
enum lm_data_port { LM_PORT_POOL = 0, LM_PORT_FIXED = 1, LM_PORT_EPHEMERAL = 2 };

struct lm_uplink_spec {
    int ifindex;
    char interface[IFNAMSIZ];
    struct lm_addr address;
    uint8_t priority, weight;
    bool is_sender;     /* false: an RLOC of ours that only receives */
    uint32_t mtu;       /* of the link; 0: 1500 */
    uint8_t data_port;  /* enum lm_data_port */
    size_t relay_count; /* RTRs: all data on the path goes to them, whatever the mapping says */
    struct lm_locator_spec relays[LM_RELAYS_MAX];
    bool admits_others; /* accepts data from other sources than the relays */
    bool passes_zero;   /* the RTRs also receive packets with a zero UDP checksum */
    bool needs_sums;    /* a firewall drops packets with a zero UDP checksum */
    int error;          /* result: negative errno when the kernel refused its sockets, else 0 */
};

struct lm_path {
    size_t place; /* among the current uplinks */
    int ifindex;
    char interface[IFNAMSIZ];
    struct lm_addr address;
    uint8_t priority, weight;
    uint32_t mtu;
    atomic_bool refuses_runs; /* the device does not support UDP_SEGMENT */
    atomic_uint_fast64_t
        sums;      /* bit for each socket of the pool that computes outer checksums since a run needed them */
    bool is_whole; /* the device completes partial checksums (cable.h) */
    size_t pool;   /* sockets[0..pool) set DF, sockets[pool] does not */
    int sockets[LM_POOL_MAX + 1];
    enum lm_data_port data_port;
    int data_fd;                   /* -1: the pool sends. A fixed port is shared by paths, an ephemeral one is not */
    struct lm_locator_set *relays; /* NULL: data goes directly to the locators of the mapping */
    bool admits_others, passes_zero, needs_sums;
};

/* A snapshot of the uplinks; it does not change once it is in use. */
struct lm_uplinks {
    size_t path_count, rloc_count;
    unsigned families; /* of the paths that may be used, as bits */
    struct lm_path paths[LM_PATHS_MAX];
    struct lm_contender
        contenders[3][LM_PATHS_MAX]; /* one for each path; the array for a set of families, as bits, less 1 */
    struct lm_addr rlocs[LM_UPLINK_ADDRESSES_MAX];
};

struct lm_uplink_options {
    size_t pool;
    bool udp_checksum;
    uint32_t mark;    /* SO_MARK for outer packets; 0: none */
    const int *fixed; /* sockets on the data port, v4 and v6 */
};

/*
 * Builds the next set from `specs`. It takes over the sockets of paths that stay (`current` may be NULL), and opens new
 * ones. A path that the kernel refuses is left out, and its spec gets the errno. NULL: out of memory.
 */
struct lm_uplinks *lm_uplinks_make(const struct lm_uplinks *current, struct lm_uplink_spec *specs, size_t count,
                                   const struct lm_uplink_options *options);
/* Gives each path the relays of its spec. Changes `locators`, so no thread may be reading them. */
void lm_uplinks_take_relays(struct lm_uplinks *uplinks, const struct lm_uplink_spec *specs, size_t count,
                            struct lm_locators *locators);
/* Closes the sockets of `gone` that `kept` (may be NULL) does not use, and frees it. */
void lm_uplinks_retire(struct lm_uplinks *gone, const struct lm_uplinks *kept);
/* Returns the interface for a flow that may leave in these families; 0: none. Having both families is no advantage. */
int lm_uplinks_choose(const struct lm_uplinks *uplinks, unsigned families, uint64_t flow);
/* Returns the families that an interface sends in, as bits. `counts_never`: counts paths of priority 255, too. */
unsigned lm_uplinks_families(const struct lm_uplinks *uplinks, int ifindex, bool counts_never);
/* Returns the path of an interface in a family; NULL: none. */
const struct lm_path *lm_uplinks_path(const struct lm_uplinks *uplinks, int ifindex, uint8_t family);
bool lm_uplinks_owns(const struct lm_uplinks *uplinks, const struct lm_addr *address);
/* True when both sets have the same paths, whatever their priorities. */
bool lm_uplinks_same_paths(const struct lm_uplinks *a, const struct lm_uplinks *b);
bool lm_uplinks_has_socket(const struct lm_uplinks *uplinks, int fd);
/* Returns the port that a socket is bound to; 0: none. */
uint16_t lm_uplink_port_of(int fd);
/* True when data of a family leaves from the common data port. */
bool lm_uplinks_send_fixed(const struct lm_uplinks *uplinks, uint8_t family);
/* True when `fd` is the ephemeral data port of a path. */
bool lm_uplinks_receives(const struct lm_uplinks *uplinks, int fd);

/*
 * Returns the remote for data on this path: a relay of the path, or `remote` if there is none or the path sends to it
 * directly.
 */
static inline struct lm_remote *lm_path_remote(const struct lm_path *path, struct lm_remote *remote, uint64_t flow)
{
    if (remote->fd < 0 && remote->source.family && lm_addr_equal(&remote->source, &path->address))
        return remote;
    struct lm_remote *relay =
        path->relays ? lm_locator_choose(path->relays, lm_family_bit(path->address.family), flow) : NULL;
    return relay ? relay : remote;
}

/* Returns the size of the largest outer packet on this path to this remote, in octets. */
static inline uint32_t lm_path_mtu(const struct lm_path *path, const struct lm_remote *remote)
{
    uint32_t found = atomic_load_explicit(&remote->state->mtu[path->place], memory_order_relaxed);
    return found && found < path->mtu ? found : path->mtu;
}

static inline int lm_path_socket(const struct lm_path *path, uint64_t flow)
{
    return path->sockets[lm_rules_pool_place(flow, (uint32_t)path->pool)];
}

#endif
