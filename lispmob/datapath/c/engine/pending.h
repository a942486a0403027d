/*
 * Keeps packets that wait for the mapping of their destination EID, or (in a second instance) for an uplink.
 *
 * There are three bounds: packets per key, packets in all, and age. The oldest packets are dropped first. The caller
 * locks.
 */
#ifndef LM_PENDING_H
#define LM_PENDING_H

#include "packet/segment.h"
#include "table/table.h"

#define LM_FRAME_HEADROOM 64
#define LM_PACKET_MAX 65535

struct lm_pending;

enum lm_pending_add {
    LM_PENDING_FIRST, /* the key was not asked for within the age limit: ask for it */
    LM_PENDING_KEPT,
};

/* A function that is called for every dropped packet; may be NULL. */
typedef void lm_pending_lost(void *context, bool is_aged);

/*
 * Makes a queue of at most `total` packets, `per_key` of them for one key (0: `total`), for `age_ns` each. NULL: out of
 * memory.
 */
struct lm_pending *lm_pending_new(size_t total, size_t per_key, uint64_t age_ns, lm_pending_lost *lost, void *context);
void lm_pending_free(struct lm_pending *pending);
size_t lm_pending_count(const struct lm_pending *pending);

/* Adds a packet. `born`: when it first began to wait, also if it waits again. A super-packet counts as one. */
enum lm_pending_add lm_pending_add(struct lm_pending *pending, uint32_t instance_id, const struct lm_addr *eid,
                                   const lm_vnet *vnet, const uint8_t *packet, size_t length, int lane, uint64_t born,
                                   uint64_t now);

/*
 * Sets the keys within the prefix (NULL: all) aside, so that their packets may wait again under new keys. Then each
 * call of lm_pending_take copies the oldest of these packets to `into` (LM_PACKET_MAX octets), and returns its length
 * and its lane; 0: there are no more. Expired packets are dropped.
 */
void lm_pending_release(struct lm_pending *pending, const struct lm_prefix *prefix);
size_t lm_pending_take(struct lm_pending *pending, lm_vnet *vnet, uint8_t *into, int *lane, uint64_t *born,
                       uint64_t now);

#endif
