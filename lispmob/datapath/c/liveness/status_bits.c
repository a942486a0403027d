/*
 * Locator-Status-Bits (RFC 9300 section 10): which of its own locators a sender says are up, and the bits that we send.
 *
 * The bits are unauthenticated. So they count only if they come from a locator that packets to the sender may go to.
 * Only changes are reported, at a limited rate. The control plane then probes the locator: the bits alone are no proof.
 */
#include "engine/engine.h"

#define AGAIN_NS                                                                                                       \
    UINT64_C(1000000000) /* between reports about one mapping; a report within this time is made after it */
#define TELLINGS_PER_SECOND 20
#define TELLING_BURST 20
#define SAID (UINT64_C(1) << 63)
#define NARROW (UINT64_C(1) << 62) /* 8 bits, beside an Instance-ID */

void lm_status_bits_on_data(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer)
{
    if (!(data->flags & LM_FLAG_L) || !atomic_load_explicit(&e->accepts_status, memory_order_relaxed))
        return;
    const struct lm_entry *sender = lm_table_lookup(e->table, data->instance_id, &data->inner.source);
    struct lm_locator_set *set = sender && sender->kind == LM_ENCAPSULATE ? sender->value : NULL;
    bool is_narrow = (data->flags & LM_FLAG_I) != 0;
    uint32_t bits = is_narrow ? data->second & 0xff : data->second;
    uint64_t said = SAID | (is_narrow ? NARROW : 0) | bits;
    if (!set || set->status == said || outer->now < set->status_until || !lm_locator_set_holds(set, &outer->source) ||
        !lm_token_bucket_take(&e->status_bucket, outer->now, TELLINGS_PER_SECOND, TELLING_BURST))
        return;
    set->status = said;
    set->status_until = outer->now + AGAIN_NS;
    struct lm_punt report = {.kind = LM_PUNT_STATUS,
                             .instance_id = data->instance_id,
                             .source = data->inner.source,
                             .destination = data->inner.destination,
                             .outer_source = outer->source,
                             .outer_destination = outer->destination,
                             .status = bits,
                             .status_width = is_narrow ? 8 : 32};
    (void)lm_punt_put(&e->punts, &report, NULL, 0);
}

void lm_status_bits_use(struct lm_engine *e, bool accepts, bool sends, uint32_t bits)
{
    pthread_mutex_lock(&e->writer); /* protects `shared` */
    atomic_store(&e->accepts_status, accepts);
    atomic_store(&e->shared->status, sends ? LM_STATUS_SENT | bits : 0);
    if (e->mirror)
        lm_mirror_changed(e->mirror);
    pthread_mutex_unlock(&e->writer);
}
