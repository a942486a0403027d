#include "address.h"

bool lm_addr_is_multicast(const struct lm_addr *a)
{
    return a->family == 4 ? a->octets[0] >> 4 == 14 : a->octets[0] == 0xff;
}

bool lm_addr_is_link_local(const struct lm_addr *a)
{
    if (a->family == 4)
        return a->octets[0] == 169 && a->octets[1] == 254;
    return a->octets[0] == 0xfe && (a->octets[1] & 0xc0) == 0x80;
}

static bool is_small(const struct lm_addr *a, uint8_t last)
{
    static const uint8_t zeros[15];
    return memcmp(a->octets, zeros, 15) == 0 && a->octets[15] == last;
}

bool lm_addr_is_loopback(const struct lm_addr *a)
{
    return a->family == 4 ? a->octets[0] == 127 : is_small(a, 1);
}

bool lm_addr_is_unspecified(const struct lm_addr *a)
{
    return a->family == 4 ? a->octets[0] == 0 : is_small(a, 0);
}

bool lm_addr_is_reserved(const struct lm_addr *a)
{
    return a->family == 4 && a->octets[0] >> 4 == 15;
}

bool lm_addr_is_unicast(const struct lm_addr *a)
{
    return !lm_addr_is_multicast(a) && !lm_addr_is_link_local(a) && !lm_addr_is_loopback(a) &&
           !lm_addr_is_unspecified(a) && !lm_addr_is_reserved(a);
}

void lm_addr_mask(struct lm_addr *a, unsigned bits)
{
    unsigned whole = bits / 8;
    if (whole >= 16)
        return;
    a->octets[whole] &= (uint8_t)(0xff00u >> bits % 8);
    memset(a->octets + whole + 1, 0, 15 - whole);
}

bool lm_addr_in(const struct lm_addr *a, const struct lm_addr *prefix, unsigned bits)
{
    struct lm_addr left = *a, right = *prefix;
    lm_addr_mask(&left, bits);
    lm_addr_mask(&right, bits);
    return lm_addr_equal(&left, &right);
}
