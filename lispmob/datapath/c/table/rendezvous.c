#include "table/rendezvous.h"

#include <stdbool.h>

#include "base/draw.h"

#define CONTENDERS_MAX 255u

uint64_t lm_rendezvous_identity(const void *data, size_t length)
{
    const uint8_t *octets = data;
    uint64_t hash = length;
    for (size_t i = 0; i < length; i++)
        hash = lm_mix(hash ^ octets[i]) + UINT64_C(0x9e3779b97f4a7c15);
    return hash;
}

int lm_rendezvous_choose(const struct lm_contender *contenders, size_t count, uint64_t flow)
{
    unsigned best = LM_PRIORITY_NEVER, members = 0;
    bool has_weights = false;
    int winner = -1;
    uint64_t winner_cost = 0, winner_weight = 1;
    count = count < CONTENDERS_MAX ? count : CONTENDERS_MAX;
    for (size_t i = 0; i < count; i++)
        best = contenders[i].priority < best ? contenders[i].priority : best;
    if (best == LM_PRIORITY_NEVER)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (contenders[i].priority != best)
            continue;
        has_weights = has_weights || contenders[i].weight;
        winner = (int)i;
        members++;
    }
    if (members == 1)
        return winner;
    winner = -1;
    for (size_t i = 0; i < count; i++) {
        if (contenders[i].priority != best || (has_weights && contenders[i].weight == 0))
            continue;
        uint64_t its_cost = lm_draw_cost(flow, contenders[i].identity);
        uint64_t its_weight = has_weights ? contenders[i].weight : 1;
        if (winner < 0 || lm_draw_beats(its_cost, its_weight, winner_cost, winner_weight)) {
            winner = (int)i;
            winner_cost = its_cost;
            winner_weight = its_weight;
        }
    }
    return winner;
}
