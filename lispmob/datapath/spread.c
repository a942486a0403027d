#include "spread.h"

#include <stdbool.h>

#define CONTENDERS_MAX 255u

/* 2^16 * log2(1 + i/64), rounded: between two of them a straight line errs by less than 2^-14. */
static const uint32_t log2_table[65] = {
    0, 1466, 2909, 4331, 5732, 7112, 8473, 9814, 11136, 12440, 13727, 14996, 16248, 17484, 18704, 19909, 21098, 22272,
    23433, 24579, 25711, 26830, 27936, 29029, 30109, 31178, 32234, 33279, 34312, 35334, 36346, 37346, 38336, 39316,
    40286, 41246, 42196, 43137, 44068, 44990, 45904, 46809, 47705, 48593, 49472, 50344, 51207, 52063, 52911, 53751,
    54584, 55410, 56229, 57040, 57845, 58643, 59434, 60219, 60997, 61769, 62534, 63294, 64047, 64794, 65536};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

uint64_t lm_spread_identity(const void *data, size_t length)
{
    const uint8_t *octets = data;
    uint64_t hash = length;
    for (size_t i = 0; i < length; i++)
        hash = mix(hash ^ octets[i]) + UINT64_C(0x9e3779b97f4a7c15);
    return hash;
}

/* -log2(draw / 2^48) * 2^16 for a draw of 48 bits, never 0: exponentially distributed as the draw is uniform. */
static uint64_t cost(uint64_t flow, uint64_t identity)
{
    uint64_t draw = mix(flow ^ mix(identity)) >> 16 | 1;
    unsigned whole = 63u - (unsigned)__builtin_clzll(draw);
    uint64_t fraction = whole >= 22 ? draw >> (whole - 22) : draw << (22 - whole); /* 1.22 bits */
    uint64_t place = fraction >> 16 & 63, within = fraction & 0xffff;
    uint64_t low = log2_table[place], high = log2_table[place + 1];
    uint64_t logarithm = ((uint64_t)whole << 16) + low + ((high - low) * within >> 16);
    uint64_t top = UINT64_C(48) << 16;
    return logarithm < top ? top - logarithm : 1;
}

int lm_spread_choose(const struct lm_contender *contenders, size_t count, uint64_t flow)
{
    unsigned best = LM_SPREAD_NEVER, members = 0;
    bool has_weights = false;
    int winner = -1;
    uint64_t winner_cost = 0, winner_weight = 1;
    count = count < CONTENDERS_MAX ? count : CONTENDERS_MAX;
    for (size_t i = 0; i < count; i++)
        best = contenders[i].priority < best ? contenders[i].priority : best;
    if (best == LM_SPREAD_NEVER)
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
        uint64_t its_cost = cost(flow, contenders[i].identity);
        uint64_t its_weight = has_weights ? contenders[i].weight : 1;
        /* its_cost / its_weight < winner_cost / winner_weight: 22 bits times 8, nothing overflows. */
        if (winner < 0 || its_cost * winner_weight < winner_cost * its_weight) {
            winner = (int)i;
            winner_cost = its_cost;
            winner_weight = its_weight;
        }
    }
    return winner;
}
