/* An IPv4 or IPv6 address in the datapath. */
#ifndef LM_ADDRESS_H
#define LM_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* `family` is 4, 6, or 0 for none. Octets that the family does not use are zero, so that memcmp compares addresses. */
struct lm_addr {
    uint8_t family;
    uint8_t octets[16];
};

static inline bool lm_addr_equal(const struct lm_addr *a, const struct lm_addr *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static inline struct lm_addr lm_addr_make(uint8_t family, const uint8_t *octets)
{
    struct lm_addr made = {.family = family, .octets = {0}};
    memcpy(made.octets, octets, family == 4 ? 4 : 16);
    return made;
}

static inline uint16_t lm_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t lm_get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t lm_get64(const uint8_t *p)
{
    return (uint64_t)lm_get32(p) << 32 | lm_get32(p + 4);
}

static inline void lm_put16(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static inline void lm_put32(uint8_t *p, uint32_t value)
{
    lm_put16(p, value >> 16);
    lm_put16(p + 2, value);
}

bool lm_address_is_multicast(const struct lm_addr *a);
bool lm_address_is_link_local(const struct lm_addr *a);
/* True for the limited broadcast address, 255.255.255.255. */
bool lm_address_is_broadcast(const struct lm_addr *a);
/* True for an address that a host of the overlay may have (address_class.h). */
bool lm_address_may_be_eid(const struct lm_addr *a);
/* True when the first `bits` bits agree and the families are the same. */
bool lm_address_in(const struct lm_addr *a, const struct lm_addr *prefix, unsigned bits);
/* Clears all bits after the first `bits` bits. */
void lm_address_mask(struct lm_addr *a, unsigned bits);

#endif
