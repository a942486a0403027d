/*
 * Keeps the BPF programs attached to the current uplinks, from a background thread.
 *
 * Attaching or detaching a program waits until every processor has passed a quiescent state, and holds the lock for all
 * network configuration. That takes 5 to 20 ms, during which neither a moving node nor its new network may wait. So it
 * is done shortly after the move. Until then the tun tier receives.
 */
#ifndef LM_ATTACH_THREAD_H
#define LM_ATTACH_THREAD_H

#include "ebpf/bpf_object.h"

struct lm_attach_thread;

/* Starts the thread, which owns the uplinks of the tier until it is stopped. NULL: no memory or no thread. */
struct lm_attach_thread *lm_attach_thread_start(struct lm_bpf_object *tier);
void lm_attach_thread_want(struct lm_attach_thread *attacher, const int *ifindexes, size_t count);
/* Waits until the programs are attached. Only measurements do that. */
void lm_attach_thread_settle(struct lm_attach_thread *attacher);
/* Stops the thread, and returns when it has ended. The programs stay attached. NULL is allowed. */
void lm_attach_thread_stop(struct lm_attach_thread *attacher);

#endif
