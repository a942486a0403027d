/* ICMP errors that we send to the inner source: pure builders. */
#ifndef LM_ICMP_H
#define LM_ICMP_H

#include "packet/packet.h"

#define LM_ICMP_MAX 1280 /* the longest of our errors (RFC 4443 section 2.4; IPv4: 576, RFC 1812) */

enum lm_icmp_kind {
    LM_ICMP_TOO_BIG,     /* v4: type 3 code 4; v6: type 2; `mtu` is the largest inner packet that fits */
    LM_ICMP_UNREACHABLE, /* v4: type 3 code 1 (host); v6: type 1 code 3 (address) */
    LM_ICMP_PROHIBITED,  /* v4: type 3 code 13; v6: type 1 code 1 */
};

/*
 * Writes the error about `packet` into `out` (LM_ICMP_MAX octets) and returns its length in octets. 0: this packet must
 * not cause an error, because it is an ICMP error, a multicast, a later fragment, or has no unicast source.
 */
size_t lm_icmp_build(uint8_t *out, enum lm_icmp_kind kind, uint32_t mtu, const struct lm_addr *source,
                     const uint8_t *packet, const struct lm_inner *inner);

#endif
