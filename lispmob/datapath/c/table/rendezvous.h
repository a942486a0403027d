/*
 * Which of several contenders a flow goes to, by weight (RFC 9300 section 12), with the least possible moving.
 *
 * Each contender draws a number from the flow and from its own identity, and the best number wins; a weight bends the
 * draw so that the chance to win is weight / sum. Nobody's draw depends on who else takes part: when a contender goes,
 * only its own flows move, each to its second best; when one comes, it takes its share, and nothing moves between the
 * others. There is no state, so nothing has to be kept from one locator set to the next.
 */
#ifndef LM_SPREAD_H
#define LM_SPREAD_H

#include <stddef.h>
#include <stdint.h>

#include "base/rules.h"

struct lm_contender {
    uint64_t identity; /* what stays the same while it is the same contender: lm_rendezvous_identity() */
    uint8_t priority, weight;
};

/* A number for an address and port, or whatever makes a contender itself. */
uint64_t lm_rendezvous_identity(const void *data, size_t length);

/*
 * The index of the winner among those of the lowest priority; -1: nobody takes part. Weight 0 loses against any other;
 * if all weigh 0 they weigh the same. At most 255 contenders are looked at.
 */
int lm_rendezvous_choose(const struct lm_contender *contenders, size_t count, uint64_t flow);

#endif
