/*
 * Packets that wait: for the mapping of their destination EID, or (one more of these) for an uplink.
 *
 * Bounded three ways: packets per key, packets in all, and age. The newest stay, the oldest go. The caller locks.
 */
#ifndef LM_PENDING_H
#define LM_PENDING_H

#include "packet/segment.h"
#include "table/table.h"

#define LM_FRAME_HEADROOM 64
#define LM_PACKET_MAX 65535

struct lm_pending;

enum lm_pending_add {
    LM_PENDING_FIRST, /* nobody was asked about this key within the age limit: ask */
    LM_PENDING_KEPT,
};

/* Told about every packet that gives way; may be NULL. */
typedef void lm_pending_lost(void *context, bool is_aged);

/* NULL: out of memory. `per_key` 0 means as many as there are in all. */
struct lm_pending *lm_pending_new(size_t total, size_t per_key, uint64_t age_ns, lm_pending_lost *lost, void *context);
void lm_pending_free(struct lm_pending *pending);
size_t lm_pending_count(const struct lm_pending *pending);

/* `born` is when the packet first came to wait: waiting twice does not make it younger. A super-packet counts as one. */
enum lm_pending_add lm_pending_add(struct lm_pending *pending, uint32_t instance_id, const struct lm_addr *eid,
                                   const lm_vnet *vnet, const uint8_t *packet, size_t length, int lane, uint64_t born,
                                   uint64_t now);

/*
 * Moves the keys that the prefix holds (NULL: all) out of the way of new ones, so that what is taken may come to wait
 * again. Then each call of lm_pending_take copies the oldest taken packet to `into` (LM_PACKET_MAX octets) and returns
 * its length and its lane; 0: no more. Aged packets are lost on the way.
 */
void lm_pending_release(struct lm_pending *pending, const struct lm_prefix *prefix);
size_t lm_pending_take(struct lm_pending *pending, lm_vnet *vnet, uint8_t *into, int *lane, uint64_t *born,
                       uint64_t now);

#endif
