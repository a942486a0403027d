/*
 * The last TCP packet of each flow is kept, and sent once more when the flow takes another way.
 *
 * A move loses what is under way: when a link is cut, what the peer has sent until it heard of that. TCP finds a hole by what
 * comes after it. Where nothing comes after it, because a window was full or a question waits for its answer, it takes two
 * round trips and more to try again (a tail loss probe, RFC 8985, or a retransmission timeout). So both ends repeat the last
 * packet that they sent: the peer as soon as it knows of another way, the mover once it has told its peers, which take nothing
 * from an unknown locator. The stream goes on after one round trip.
 *
 * A receiver that has it drops the copy, and acknowledges at once what it has. Other protocols hand copies to the application,
 * so nothing else is repeated.
 */
#ifndef LM_LAST_PACKET_H
#define LM_LAST_PACKET_H

#include "table/table.h"

#include "bpf/shared.h"

struct lm_engine;
struct lm_job;

/* Room for LM_LAST_PACKETS flows; NULL: no memory. */
struct lm_last_packet *lm_last_packet_new(void);
/* A TCP packet has left by the path and for the remote of its job. Threads that send, and the kernel's programs, meet here. */
void lm_last_packet_note(struct lm_engine *e, const struct lm_job *job);
/*
 * Mappings of this prefix (NULL: the uplinks) have changed. What was sent within the last second and would take another way
 * now is sent by that one. The caller holds the lock alone.
 */
void lm_last_packet_repeat(struct lm_engine *e, const struct lm_prefix *prefix);

#endif
