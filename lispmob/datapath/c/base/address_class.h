/*
 * Decides which addresses may be EIDs: the table of wire/address_class.py for C and BPF. A test compares the three.
 *
 * Addresses are as in the BPF programs: IPv4 in the lower half of `high`, IPv6 in `high` and `low`, in the byte order
 * of the host.
 */
#ifndef LM_ADDRESS_CLASS_H
#define LM_ADDRESS_CLASS_H

#ifndef __bpf__
#include <stdbool.h>
#endif

#include "base/draw.h" /* the integers, in C and in BPF, and LM_INLINE */

LM_INLINE bool lm_v4_may_be_eid(uint32_t address)
{
    uint32_t first = address >> 24;
    bool is_local = first == 0 || first == 127 || address >> 16 == 0xa9fe; /* this network, loopback, link-local */
    return !is_local && address >> 28 != 14 && address != 0xffffffff;      /* multicast, broadcast */
}

LM_INLINE bool lm_v6_may_be_eid(uint64_t high, uint64_t low)
{
    if (high >> 54 == 0xfe80 >> 6 || high >> 54 == 0xfec0 >> 6 || high >> 56 == 0xff) /* link-, site-local, multicast */
        return false;
    if (high == 0x0100000000000000ull) /* discard-only */
        return false;
    return high != 0 ||
           (low >> 32 != 0 && low >> 32 != 0xffff); /* unspecified, loopback, IPv4-compatible, IPv4-mapped */
}

LM_INLINE bool lm_may_be_eid(bool is_v4, uint64_t high, uint64_t low)
{
    return is_v4 ? lm_v4_may_be_eid((uint32_t)high) : lm_v6_may_be_eid(high, low);
}

#endif
