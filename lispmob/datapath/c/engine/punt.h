/* The ring of reports to the control plane: bounded, with an eventfd that wakes the reader. */
#ifndef LM_PUNT_H
#define LM_PUNT_H

#include <pthread.h>

#include "base/address.h"
#include "base/counters.h"

#define LM_PUNT_PAYLOAD 4096

enum lm_punt_kind {
    LM_PUNT_MISS = 1,
    LM_PUNT_CONTROL = 2,
    LM_PUNT_MTU = 3,
    LM_PUNT_RESUMED = 4,
    LM_PUNT_SILENT = 5,
    LM_PUNT_STALLED = 6,
    LM_PUNT_UNREGISTERED = 7,
    LM_PUNT_HEARD = 8,
    LM_PUNT_STATUS = 9,
    LM_PUNT_ECHOED = 10,
    LM_PUNT_REFUTED = 11,
    LM_PUNT_LARGE = 12,
    LM_PUNT_SOURCE = 13, /* source.c: the mapping of an inner source does not name its sender, or there is no mapping */
    LM_PUNT_SEAL_WANTED = 14,
    LM_PUNT_SEAL_CONFIRMED = 15,
    LM_PUNT_SEALED_FROM = 16,
    LM_PUNT_CLEAR_HEARD = 17,
    LM_PUNT_ANNOUNCED = 18,
    LM_PUNT_PEER_BEHIND = 19, /* seal/map_version.h: a peer sends by an old mapping of ours */
    LM_PUNT_PEER_AHEAD = 20   /* a peer has a newer mapping than we know */
};

/*
 * Who says that packets are too big: an ICMP error about a packet of ours, one that only a probe can confirm, or the
 * uplink.
 */
enum lm_mtu_source { LM_MTU_ICMP = 0, LM_MTU_UNPROVEN = 1, LM_MTU_INTERFACE = 2 };

struct lm_punt {
    uint8_t kind;
    uint32_t instance_id; /* miss */
    uint64_t nonce;       /* miss: of the Map-Request that was sent at once (asking.h); 0: none was */
    /*
     * Miss, control, status, refuted: inner addresses. MTU, large: our locator and theirs. Silent: their locator is the
     * destination. Heard: outer addresses.
     */
    struct lm_addr source, destination;
    uint16_t source_port, destination_port;
    struct lm_addr outer_source; /* control, status, sealed from */
    uint16_t outer_source_port;
    struct lm_addr outer_destination;
    bool is_registered;      /* unregistered: only the port is different */
    bool is_at_control_port; /* control, unregistered: it came to our control port */
    int ifindex;
    uint32_t mtu;       /* MTU, octets of the outer packet */
    uint8_t mtu_source; /* enum lm_mtu_source */
    bool is_outbound;   /* resumed: the direction */
    bool is_flowing;    /* silent: packets came until now */
    bool is_alone;      /* silent: others of its group were heard since */
    uint32_t status;    /* status: Locator-Status-Bits, and their number */
    uint8_t status_width;
    uint32_t peer, local_index; /* sessions */
    uint64_t at_ns, before_ns;  /* resumed: this packet and the one before it, 0: none; CLOCK_MONOTONIC */
    uint32_t length;
    uint8_t payload[LM_PUNT_PAYLOAD]; /* control, announced */
};

struct lm_punt_ring {
    pthread_mutex_t lock;
    int wake; /* eventfd */
    struct lm_punt *slots;
    size_t first, count;
    size_t outside; /* of these, the reports that others can cause */
    struct lm_counters *counters;
};

/* Allocates the ring; 0, or a negative errno. */
int lm_punt_open(struct lm_punt_ring *ring, struct lm_counters *counters);
void lm_punt_close(struct lm_punt_ring *ring);
/*
 * Adds a report with `length` octets of payload; false: it did not fit, and was counted and dropped. Reports that
 * others can cause get half of the ring, so that a miss or a silence always has room.
 */
bool lm_punt_put(struct lm_punt_ring *ring, const struct lm_punt *head, const uint8_t *payload, size_t length);
bool lm_punt_has(struct lm_punt_ring *ring);
/* Takes up to `most` reports, oldest first, and returns their number. Resets the eventfd when none is left. */
size_t lm_punt_drain(struct lm_punt_ring *ring, struct lm_punt *into, size_t most);

#endif
