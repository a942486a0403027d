/*
 * Checks whether an inner source may come from an outer source (RFC 7835 section 3.5 names the threat, RFC 9300 leaves
 * it to the ETR).
 *
 * The checks, in the order of the code: nothing that this host sends to itself; no inner source in the networks of the
 * uplinks; the mapping of the inner source must name the sender; and without a known mapping, either a limited rate
 * (loose) or nothing (strict). A packet that contradicts its mapping is kept for a moment while the control plane asks
 * the mapping system, because a peer that has just moved sends before its new mapping is known here.
 *
 * The inbound thread checks with the lock shared. The control side releases packets with the lock exclusive.
 */
#ifndef LM_SOURCE_H
#define LM_SOURCE_H

#include "base/counters.h"
#include "base/rules.h"
#include "packet/lisp_header.h"
#include "packet/packet.h"
#include "table/table.h"

struct lm_engine;
struct lm_outer;
struct lm_sources;

struct lm_near_spec {
    struct lm_prefix prefix;
    uint8_t kind; /* enum lm_near */
};

struct lm_sources *lm_sources_new(void);
void lm_sources_free(struct lm_sources *sources);

/* True when this host sent the packet to itself, or the source is forged to look so. */
bool lm_source_is_local(const struct lm_engine *e, const struct lm_outer *outer);
/*
 * Returns LM_COUNTER_COUNT if the packet may be delivered, else the counter of the reason. `is_proven`: all packets
 * between these four addresses are accepted, too.
 */
enum lm_counter lm_source_judge(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer,
                                bool *is_proven);
/*
 * Keeps a packet that was refused with LM_data_source. A node asks about its source. An RTR reports an unregistered
 * source. A sealed packet is delivered later if the peer of its session turns out to have that EID, wherever the packet
 * came from.
 */
void lm_source_keep(struct lm_engine *e, const uint8_t *packet, const struct lm_data *data,
                    const struct lm_outer *outer);
/* Asks the control plane about the source of a packet; rate-limited. */
void lm_source_ask(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer);
/*
 * Delivers or forwards the packets that wait for this entry and may come from their sender. Drops the others that the
 * entry covers.
 */
void lm_source_release(struct lm_engine *e, const struct lm_entry *entry);
/*
 * True when a control message in data may be handled; false: this sender, or all senders together, have exceeded the
 * rate.
 */
bool lm_source_admits_control(struct lm_engine *e, const struct lm_outer *outer);

/* Sets our own addresses, the networks of the uplinks, and the proxies; 0 or -ENOMEM. */
int lm_source_set_near(struct lm_engine *e, const struct lm_near_spec *near, size_t count);
/* Returns the table of these; NULL: none is known. */
const struct lm_table *lm_source_near(const struct lm_engine *e);
/* Changes the check from now on. */
void lm_source_set_check(struct lm_engine *e, int check);

#endif
