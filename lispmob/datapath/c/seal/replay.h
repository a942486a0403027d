/*
 * The replay window of a key (RFC 6479's window, as a ring of words): the last 8192 counters, so that uplinks of
 * different delay may share a key. Several threads may use it.
 */
#ifndef LM_REPLAY_H
#define LM_REPLAY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LM_REPLAY_WINDOW 8192u
#define LM_REPLAY_WORDS (LM_REPLAY_WINDOW / 64u + 1u) /* the newest word is only partly used */

struct lm_replay {
    atomic_flag is_locked; /* for some nanoseconds */
    uint64_t next;         /* one more than the largest counter so far */
    uint64_t words[LM_REPLAY_WORDS];
};

void lm_replay_init(struct lm_replay *window);
/*
 * True when the counter is new; false: it was received before, or is too old. It changes nothing, because the tag is
 * not verified yet.
 */
bool lm_replay_may(struct lm_replay *window, uint64_t counter);
/* Records a counter whose tag is valid; false: another thread was faster, or the window has moved on. */
bool lm_replay_mark(struct lm_replay *window, uint64_t counter);

#endif
