#include "base/address.h"

#include "base/address_class.h"

bool lm_address_is_multicast(const struct lm_addr *a)
{
    return a->family == 4 ? a->octets[0] >> 4 == 14 : a->octets[0] == 0xff;
}

bool lm_address_is_link_local(const struct lm_addr *a)
{
    if (a->family == 4)
        return a->octets[0] == 169 && a->octets[1] == 254;
    return a->octets[0] == 0xfe && (a->octets[1] & 0xc0) == 0x80;
}

bool lm_address_is_broadcast(const struct lm_addr *a)
{
    return a->family == 4 && lm_get32(a->octets) == 0xffffffff;
}

bool lm_address_may_be_eid(const struct lm_addr *a)
{
    bool is_v4 = a->family == 4;
    return lm_may_be_eid(is_v4, is_v4 ? lm_get32(a->octets) : lm_get64(a->octets), lm_get64(a->octets + 8));
}

void lm_address_mask(struct lm_addr *a, unsigned bits)
{
    unsigned whole = bits / 8;
    if (whole >= 16)
        return;
    a->octets[whole] &= (uint8_t)(0xff00u >> bits % 8);
    memset(a->octets + whole + 1, 0, 15 - whole);
}

bool lm_address_in(const struct lm_addr *a, const struct lm_addr *prefix, unsigned bits)
{
    struct lm_addr left = *a, right = *prefix;
    lm_address_mask(&left, bits);
    lm_address_mask(&right, bits);
    return lm_addr_equal(&left, &right);
}
