/* The draw of a contender for a flow. The BPF programs share it, so that both tiers choose the same. */
#ifndef LM_DRAW_H
#define LM_DRAW_H

#ifdef __bpf__
typedef __u64 uint64_t;
typedef __u32 uint32_t;
#define UINT64_C(x) x##ull
#define LM_INLINE static __attribute__((always_inline)) inline
#else
#include <stdint.h>
#define LM_INLINE static inline
#endif

/* 2^16 * log2(1 + i/64), rounded: linear interpolation errs by less than 2^-14. */
static const uint32_t lm_log2_table[65] = {0,     1466,  2909,  4331,  5732,  7112,  8473,  9814,  11136, 12440, 13727,
                                           14996, 16248, 17484, 18704, 19909, 21098, 22272, 23433, 24579, 25711, 26830,
                                           27936, 29029, 30109, 31178, 32234, 33279, 34312, 35334, 36346, 37346, 38336,
                                           39316, 40286, 41246, 42196, 43137, 44068, 44990, 45904, 46809, 47705, 48593,
                                           49472, 50344, 51207, 52063, 52911, 53751, 54584, 55410, 56229, 57040, 57845,
                                           58643, 59434, 60219, 60997, 61769, 62534, 63294, 64047, 64794, 65536};

LM_INLINE uint64_t lm_mix(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

/* Returns the place of the highest bit of a number that is not 0. */
LM_INLINE unsigned lm_log2_floor(uint64_t x)
{
#ifdef __bpf__ /* BPF has no instruction for it, and its verifier follows every branch */
    static const unsigned char places[64] = {0,  47, 1,  56, 48, 27, 2,  60, 57, 49, 41, 37, 28, 16, 3,  61,
                                             54, 58, 35, 52, 50, 42, 21, 44, 38, 32, 29, 23, 17, 11, 4,  62,
                                             46, 55, 26, 59, 40, 36, 15, 53, 34, 51, 20, 43, 31, 22, 10, 45,
                                             25, 39, 14, 33, 19, 30, 9,  24, 13, 18, 8,  12, 7,  6,  5,  63};
    x |= x >> 1;
    x |= x >> 2;
    x |= x >> 4;
    x |= x >> 8;
    x |= x >> 16;
    x |= x >> 32;
    return places[x * UINT64_C(0x03f79d71b4cb0a89) >> 58];
#else
    return 63u - (unsigned)__builtin_clzll(x);
#endif
}

/*
 * Returns -log2(draw / 2^48) * 2^16 for a draw of 48 bits, never 0. It is exponentially distributed, as the draw is
 * uniform.
 */
LM_INLINE uint64_t lm_draw_cost(uint64_t flow, uint64_t identity)
{
    uint64_t draw = lm_mix(flow ^ lm_mix(identity)) >> 16 | 1;
    unsigned whole = lm_log2_floor(draw);
    uint64_t fraction = draw << (63 - whole) >> 41; /* 1.22 bits */
    uint64_t place = fraction >> 16 & 63, within = fraction & 0xffff;
    uint64_t low = lm_log2_table[place], high = lm_log2_table[place + 1];
    uint64_t logarithm = ((uint64_t)whole << 16) + low + ((high - low) * within >> 16);
    uint64_t top = UINT64_C(48) << 16;
    return logarithm < top ? top - logarithm : 1;
}

/* True when the first contender wins: it has the lower cost / weight. 22 bits times 8 do not overflow. */
LM_INLINE _Bool lm_draw_beats(uint64_t cost, uint64_t weight, uint64_t other_cost, uint64_t other_weight)
{
    return cost * other_weight < other_cost * weight;
}

#endif
