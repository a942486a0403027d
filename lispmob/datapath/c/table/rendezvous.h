/*
 * Chooses one of several contenders for a flow, by weight (RFC 9300 section 12), and moves as few flows as possible
 * when contenders come and go (weighted rendezvous hashing).
 *
 * Each contender draws a number from the flow and from its own identity. The best number wins. A weight changes the
 * draw so that the chance to win is weight / sum. No draw depends on the other contenders. When a contender goes, only
 * its own flows move, each to its second best. When one comes, it takes its share, and no flow moves between the
 * others. There is no state to keep from one locator set to the next.
 */
#ifndef LM_RENDEZVOUS_H
#define LM_RENDEZVOUS_H

#include <stddef.h>
#include <stdint.h>

#include "base/rules.h"

struct lm_contender {
    uint64_t identity; /* from lm_rendezvous_identity() */
    uint8_t priority, weight;
};

/* Returns the identity of an address and port, or of other octets. */
uint64_t lm_rendezvous_identity(const void *data, size_t length);

/*
 * Returns the index of the winner among the contenders of the lowest priority; -1: there is none. Weight 0 loses
 * against any other weight. If all weights are 0 they count as equal. At most 255 contenders are considered.
 */
int lm_rendezvous_choose(const struct lm_contender *contenders, size_t count, uint64_t flow);

#endif
