/* Cuts an inner IPv4 packet into fragments (RFC 791), about equal parts (RFC 9300 section 7.1). Pure. */
#ifndef LM_FRAGMENT_H
#define LM_FRAGMENT_H

#include "packet/packet.h"

/* Returns how many fragments are needed so that none exceeds `limit` octets; 0: impossible (offsets have 13 bits). */
size_t lm_fragment_count(const uint8_t *packet, const struct lm_inner *inner, size_t limit);

/*
 * Writes fragment `index` of `count` into `out` and returns its length, at most the limit passed to lm_fragment_count.
 * Works for packets that are fragments already. Options that do not belong in every fragment become no-operations.
 */
size_t lm_fragment_write(uint8_t *out, const uint8_t *packet, const struct lm_inner *inner, size_t index, size_t count);

#endif
