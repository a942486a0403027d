/*
 * Keeps the last TCP packet of each flow, and sends it again when the flow takes another path.
 *
 * A move loses packets in flight: those that the peer sent before it knew of the move. TCP detects a loss by the
 * packets after it. If none follow, because the window is full or a request waits for its answer, TCP takes two round
 * trips and more to try again (tail loss probe, RFC 8985, or retransmission timeout). So both ends repeat the last
 * packet that they sent. The peer does so as soon as it knows of the new path. The mover does so after it has informed
 * its peers, because they accept nothing from an unknown locator. The stream goes on after one round trip.
 *
 * A receiver that has the packet drops the copy, and acknowledges at once what it has. Other protocols would hand
 * copies to the application, so only TCP packets are repeated.
 */
#ifndef LM_LAST_PACKET_H
#define LM_LAST_PACKET_H

#include "table/table.h"

#include "bpf/shared.h"

struct lm_engine;
struct lm_job;

/* Allocates LM_LAST_PACKETS places; NULL: out of memory. */
struct lm_last_packet *lm_last_packet_new(void);
/*
 * Keeps a TCP packet that has left by the path and for the remote of its job. Threads and BPF programs write the same
 * places.
 */
void lm_last_packet_note(struct lm_engine *e, const struct lm_job *job);
/*
 * The mappings of this prefix (NULL: the uplinks) have changed. Sends last packets of the last second again whose path
 * would be another one now. The caller holds the lock exclusively.
 */
void lm_last_packet_repeat(struct lm_engine *e, const struct lm_prefix *prefix);

#endif
