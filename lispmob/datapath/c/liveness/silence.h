/*
 * Whether packets to a locator are answered: worth a question to it, which the control plane asks. Never a verdict.
 *
 * Two cases. Traffic flows both ways and all at once nothing comes any more: told after the quick patience, about a
 * round trip. Or the traffic has been one-sided for a while, as much of it is by nature: told after the slow patience.
 *
 * A peer may answer from another locator than we send to, one of the other family for example. So the locators of a peer
 * are watched as a company, too: when nothing comes from any of them, the traffic that stops was flowing both ways.
 */
#ifndef LM_SILENCE_H
#define LM_SILENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bpf/shared.h"

enum lm_silence_word { LM_SILENCE_NONE, LM_SILENCE_ONE_SIDED, LM_SILENCE_FLOWING };

/* A packet left. */
enum lm_silence_word lm_silence_sent(struct lm_silence *s, uint64_t now, uint32_t octets);
/* Time has passed, at least to lm_silence_due(): a sender that waits for acknowledgements sends nothing more. */
enum lm_silence_word lm_silence_tick(struct lm_silence *s, uint64_t now);
/* When to look, though nothing is sent; 0: no need. */
uint64_t lm_silence_due(const struct lm_silence *s);
/* Something came; true: after a silence that had been told. */
bool lm_silence_arrived(struct lm_silence *s, uint64_t now);
/* Watch from now on, and tell (again). */
void lm_silence_watch(struct lm_silence *s, uint64_t quick, uint64_t slow);

#endif
