/*
 * Records when packets last moved, and reports the first one after a change of uplinks: the gap that the user noticed.
 */
#include "engine/engine.h"

void lm_traffic_gap_report(struct lm_engine *e, enum lm_direction direction, uint64_t now, uint64_t before)
{
    struct lm_traffic *traffic = &e->shared->traffic[direction];
    if (!atomic_exchange_explicit(&traffic->is_watched, 0, memory_order_relaxed))
        return;
    struct lm_punt report = {
        .kind = LM_PUNT_RESUMED, .is_outbound = direction == LM_OUTBOUND, .at_ns = now, .before_ns = before};
    lm_punt_put(&e->punts, &report, NULL, 0);
}

void lm_traffic_gap_watch(struct lm_engine *e)
{
    for (int direction = 0; direction < 2; direction++)
        atomic_store_explicit(&e->shared->traffic[direction].is_watched, 1, memory_order_relaxed);
}
