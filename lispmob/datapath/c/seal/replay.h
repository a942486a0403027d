/*
 * Which packets of a key have been here before (RFC 6479's window, as a ring of words): the last 8192 counters, so that
 * uplinks of different delay may share a key. Several threads may use it.
 */
#ifndef LM_REPLAY_H
#define LM_REPLAY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LM_REPLAY_WINDOW 8192u
#define LM_REPLAY_WORDS (LM_REPLAY_WINDOW / 64u + 1u) /* the newest word is only partly in use */

struct lm_replay {
    atomic_flag is_locked; /* for some nanoseconds */
    uint64_t next;         /* one more than the largest counter so far */
    uint64_t words[LM_REPLAY_WORDS];
};

void lm_replay_init(struct lm_replay *window);
/* False: it was here before, or is too old to know. Changes nothing: the tag is not checked yet. */
bool lm_replay_may(struct lm_replay *window, uint64_t counter);
/* Notes a counter whose tag is right; false: another thread was quicker, or the window has moved on. */
bool lm_replay_mark(struct lm_replay *window, uint64_t counter);

#endif
