/* Parses and changes packets. Pure: it has no state. */
#ifndef LM_PACKET_H
#define LM_PACKET_H

#include "base/address.h"
#include "base/hash.h"
#include "base/rules.h"

/* The fields of an inner IPv4 or IPv6 packet. Lengths are octets from the start of the IP header. */
struct lm_inner {
    struct lm_addr source, destination;
    uint8_t version, tos, ttl, protocol;
    bool is_fragment;       /* any fragment, including the first */
    bool is_later_fragment; /* offset is not 0: no transport header */
    bool dont_fragment;     /* IPv4 DF; always true for IPv6 */
    bool has_ports;         /* TCP, UDP, SCTP, UDP-Lite, DCCP, first fragment or whole */
    uint16_t source_port, destination_port;
    size_t header; /* where the transport header is */
    size_t length; /* the whole packet; octets after it are to be cut off */
};

bool lm_packet_parse(const uint8_t *packet, size_t length, struct lm_inner *out);

/*
 * Returns the hash of a flow: the same for all its packets. Fragments belong to the flow of their addresses and
 * protocol (RFC 9300 section 12).
 */
uint64_t lm_packet_flow_hash(const struct lm_key *key, const struct lm_inner *inner);

enum lm_strip_verdict {
    LM_STRIP_OK,
    LM_STRIP_ODD, /* deliver, but count it (RFC 6040) */
    LM_STRIP_ECN, /* drop: CE on a packet that is not ECN-capable */
    LM_STRIP_TTL, /* drop: time to live ran out */
};

/* Carries TTL, ECN and (optionally) DSCP of the outer header into the inner one and updates its checksum. */
enum lm_strip_verdict lm_packet_strip(uint8_t *packet, const struct lm_inner *inner, uint8_t outer_ttl,
                                      uint8_t outer_tos, bool copy_dscp);

uint16_t lm_packet_checksum(const uint8_t *data, size_t length, uint32_t start);
/* Returns the sum of an IPv4 or IPv6 pseudo header, with which lm_packet_checksum starts. */
uint32_t lm_packet_pseudo_sum(const struct lm_addr *source, const struct lm_addr *destination, uint8_t protocol,
                              size_t length);
void lm_packet_write_ipv4_checksum(uint8_t *header);

#endif
