/* Reading and changing packets. Everything here is pure: bytes in, verdict out, no state. */
#ifndef LM_PACKET_H
#define LM_PACKET_H

#include "base/address.h"
#include "base/hash.h"

#define LM_DATA_HEADER 8
#define LM_CONTROL_IID 0xffffffu
#define LM_PORT_DATA 4341
#define LM_PORT_CONTROL 4342
#define LM_TYPE_INFO 7  /* of a control message: the upper half of its first octet */
#define LM_INFO_MIN 16u /* type, nonce, and an authentication header */

/* What an inner IPv4 or IPv6 packet says about itself. Lengths are octets from the start of the IP header. */
struct lm_inner {
    struct lm_addr source, destination;
    uint8_t version, tos, ttl, protocol;
    bool is_fragment;       /* any fragment, the first one too */
    bool is_later_fragment; /* offset is not 0: holds no transport header */
    bool dont_fragment;     /* IPv4 DF; always true for IPv6 */
    bool has_ports;         /* TCP, UDP, SCTP, UDP-Lite, DCCP, first fragment or whole */
    uint16_t source_port, destination_port;
    size_t header; /* where the transport header is */
    size_t length; /* whole packet; what came after it is to be cut off */
};

bool lm_inner_parse(const uint8_t *packet, size_t length, struct lm_inner *out);

/* Same flow, same value; fragments count as the flow of their addresses and protocol (RFC 9300 section 12). */
uint64_t lm_flow_hash(const struct lm_key *key, const struct lm_inner *inner);

/*
 *  0 1 2 3 4 5 6 7 8                                            31
 * |N|L|E|V|I|R|K|K|            Nonce / Map-Version (24)           |
 * |              Instance-ID / Locator-Status-Bits (32)           |
 */
#define LM_FLAG_N 0x80
#define LM_FLAG_L 0x40
#define LM_FLAG_E 0x20
#define LM_FLAG_V 0x10
#define LM_FLAG_I 0x08
#define LM_FLAG_KK 0x03

enum lm_data_verdict {
    LM_DATA_OK,      /* an inner packet to judge and deliver */
    LM_DATA_CONTROL, /* Instance-ID 0xFFFFFF holding UDP from or to 4342 */
    LM_DATA_SHORT,
    LM_DATA_KEY,
    LM_DATA_INNER,
};

struct lm_data {
    uint32_t instance_id; /* 0 when the I bit is clear */
    uint8_t flags;        /* the first octet as it came */
    uint32_t nonce;       /* the other 24 bits of the first word */
    uint32_t second;      /* the second word: all of it status bits, or an Instance-ID and 8 of them */
    struct lm_inner inner;
};

/* Reads a datagram of UDP port 4341: data header, inner packet. */
enum lm_data_verdict lm_data_parse(const uint8_t *datagram, size_t length, struct lm_data *out);

/* True for an Info-Request or Info-Reply right behind a header with Instance-ID 0xFFFFFF, as lispers.net sends it. */
bool lm_data_holds_info(const uint8_t *datagram, size_t length);

/* Writes the 8 octets: all zero, or just I and the Instance-ID (RFC 9300 section 4.1). */
void lm_data_header_write(uint8_t *header, uint32_t instance_id);
/* Adds L and the Locator-Status-Bits: all 32, or the lowest 8 beside an Instance-ID. */
void lm_data_header_status(uint8_t *header, uint32_t bits);
/* Adds N and a nonce of 24 bits; `wants_echo`: E, too. */
void lm_data_header_nonce(uint8_t *header, uint32_t nonce, bool wants_echo);

enum lm_strip_verdict {
    LM_STRIP_OK,
    LM_STRIP_ODD, /* deliver, but RFC 6040 wants it noticed */
    LM_STRIP_ECN, /* drop: CE on a packet that is not ECN-capable */
    LM_STRIP_TTL, /* drop: time to live ran out */
};

/* Carries TTL, ECN and (optionally) DSCP of the outer header into the inner one and mends its checksum. */
enum lm_strip_verdict lm_strip(uint8_t *packet, const struct lm_inner *inner, uint8_t outer_ttl, uint8_t outer_tos,
                               bool copy_dscp);

uint16_t lm_checksum(const uint8_t *data, size_t length, uint32_t start);
/* The sum of an IPv4 or IPv6 pseudo header, to start lm_checksum with. */
uint32_t lm_pseudo_sum(const struct lm_addr *source, const struct lm_addr *destination, uint8_t protocol,
                       size_t length);
void lm_ipv4_checksum_write(uint8_t *header);

#endif
