/*
 * Whether an inner source may come from an outer one (RFC 7835 section 3.5 names the threat, RFC 9300 leaves it to the ETR).
 *
 * In the order of the code: nothing that this host sends to itself; nothing with an inner source of the networks that
 * the uplinks are on; what the mapping of the inner source says; and, where no mapping is known, either a share of what
 * comes (loose) or nothing (strict). A packet that contradicts its mapping is kept for a moment, and the control plane
 * asks the mapping system: a peer that has just moved sends before its new mapping is known here.
 *
 * The inbound thread judges with the lock shared; the control side releases with the lock alone.
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

/* This host sent it to itself, or somebody pretends that it did. */
bool lm_source_is_local(const struct lm_engine *e, const struct lm_outer *outer);
/*
 * LM_COUNTER_COUNT: it is delivered; else the reason why not. `is_proven`: and so is everything else between these four
 * addresses.
 */
enum lm_counter lm_source_judge(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer,
                                bool *is_proven);
/*
 * Keeps a packet that was refused with LM_data_source; a node asks about its source, an RTR is told of strangers. One that
 * was sealed is delivered later when its session's peer turns out to have that EID, too, wherever it came from.
 */
void lm_source_keep(struct lm_engine *e, const uint8_t *packet, const struct lm_data *data,
                    const struct lm_outer *outer);
/* Tells the control plane to ask about the source of a packet; not often. */
void lm_source_ask(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer);
/* Delivers, or sends on, what waits for this entry and may come from where it came; forgets the rest that it covers. */
void lm_source_release(struct lm_engine *e, const struct lm_entry *entry);
/* False: this sender, or all together, have sent more control messages in data than anybody needs to. */
bool lm_source_admits_control(struct lm_engine *e, const struct lm_outer *outer);

/* These are our own addresses, the networks that uplinks are on, and the proxies; 0 or -ENOMEM. */
int lm_source_set_near(struct lm_engine *e, const struct lm_near_spec *near, size_t count);
/* The table of these; NULL: none is known. */
const struct lm_table *lm_source_near(const struct lm_engine *e);
/* From now on sources are judged so. */
void lm_source_set_check(struct lm_engine *e, int check);

#endif
