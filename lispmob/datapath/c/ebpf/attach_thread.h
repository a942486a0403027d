/*
 * Keeps the BPF programs attached to the current uplinks, from a background thread.
 *
 * Whoever puts a program onto an interface or takes it off waits until every processor has passed by, with the lock held
 * under which all of the network is configured: 5 to 20 ms in which neither a node that moves nor the network that it
 * comes to may be kept waiting. So it is done a moment after the move. Until then the tun tier receives.
 */
#ifndef LM_ATTACHER_H
#define LM_ATTACHER_H

#include "ebpf/bpf_object.h"

struct lm_attach_thread;

/* NULL: there is no memory or no thread to be had. The uplinks of the tier are its own until it is stopped. */
struct lm_attach_thread *lm_attach_thread_start(struct lm_bpf_object *tier);
void lm_attach_thread_want(struct lm_attach_thread *attacher, const int *ifindexes, size_t count);
/* Waits until they are attached: for who measures. A node does not wait. */
void lm_attach_thread_settle(struct lm_attach_thread *attacher);
/* Returns when the thread has ended; what is attached stays so. NULL is allowed. */
void lm_attach_thread_stop(struct lm_attach_thread *attacher);

#endif
