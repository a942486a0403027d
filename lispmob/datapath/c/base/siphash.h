/* SipHash-1-3 over whole 64-bit words. The BPF programs share it, so that both tiers hash a flow to the same value. */
#ifndef LM_SIPHASH_H
#define LM_SIPHASH_H

#include "base/draw.h"

struct lm_sip {
    uint64_t v0, v1, v2, v3;
};

LM_INLINE uint64_t lm_rotate(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

LM_INLINE void lm_sip_round(struct lm_sip *s)
{
    s->v0 += s->v1;
    s->v1 = lm_rotate(s->v1, 13) ^ s->v0;
    s->v0 = lm_rotate(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = lm_rotate(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = lm_rotate(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = lm_rotate(s->v1, 17) ^ s->v2;
    s->v2 = lm_rotate(s->v2, 32);
}

LM_INLINE void lm_absorb(struct lm_sip *s, uint64_t word)
{
    s->v3 ^= word;
    lm_sip_round(s);
    s->v0 ^= word;
}

LM_INLINE uint64_t lm_siphash(uint64_t k0, uint64_t k1, const uint64_t *words, uint64_t count)
{
    struct lm_sip s = {
        k0 ^ UINT64_C(0x736f6d6570736575),
        k1 ^ UINT64_C(0x646f72616e646f6d),
        k0 ^ UINT64_C(0x6c7967656e657261),
        k1 ^ UINT64_C(0x7465646279746573),
    };
    for (uint64_t i = 0; i < count; i++)
        lm_absorb(&s, words[i]);
    lm_absorb(&s, count * 8 << 56);
    s.v2 ^= 0xff;
    lm_sip_round(&s);
    lm_sip_round(&s);
    lm_sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

#endif
