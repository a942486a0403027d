/*
 * Detects that packets to a locator are not answered. The control plane then probes the locator; silence alone is no
 * proof.
 *
 * There are two cases. Two-way traffic stops: this is reported after the quick timeout, about a round trip. Or the
 * traffic has been one-way for a while, as some traffic is by nature: this is reported after the slow timeout.
 *
 * A peer may answer from another locator than we send to, for example of the other family. So the locators of a peer
 * are also watched as a group: if nothing comes from any of them, two-way traffic has stopped.
 */
#ifndef LM_SILENCE_H
#define LM_SILENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bpf/shared.h"

enum lm_silence_kind { LM_SILENCE_NONE, LM_SILENCE_ONE_SIDED, LM_SILENCE_FLOWING };

/* A packet was sent. Returns what must be reported now. */
enum lm_silence_kind lm_silence_sent(struct lm_silence *s, uint64_t now, uint32_t octets);
/*
 * Time has passed, at least to lm_silence_due(). It is needed because a sender that waits for acknowledgements sends
 * nothing.
 */
enum lm_silence_kind lm_silence_tick(struct lm_silence *s, uint64_t now);
/* Returns when to check although nothing is sent, in nanoseconds; 0: no need. */
uint64_t lm_silence_due(const struct lm_silence *s);
/* A packet arrived; true: a silence had been reported. */
bool lm_silence_arrived(struct lm_silence *s, uint64_t now);
/* Watches from now on, and reports again. `quick`, `slow`: timeouts, nanoseconds. */
void lm_silence_watch(struct lm_silence *s, uint64_t quick, uint64_t slow);

#endif
