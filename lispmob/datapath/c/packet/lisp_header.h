/* Parses and writes the LISP header of data packets (RFC 9300 section 5.1). Pure. */
#ifndef LM_LISP_HEADER_H
#define LM_LISP_HEADER_H

#include "packet/packet.h"

#define LM_TYPE_INFO 7  /* of a control message: the upper half of its first octet */
#define LM_INFO_MIN 16u /* octets of type, nonce, and an authentication header */

enum lm_data_verdict {
    LM_DATA_OK,      /* an inner packet to check and deliver */
    LM_DATA_CONTROL, /* Instance-ID 0xFFFFFF holding UDP from or to 4342 */
    LM_DATA_SHORT,
    LM_DATA_KEY,
    LM_DATA_INNER,
};

struct lm_data {
    uint32_t instance_id; /* 0 when the I bit is clear */
    uint8_t flags;        /* the first octet as received */
    uint32_t nonce;       /* the other 24 bits of the first word */
    uint32_t second;      /* the second word: all of it status bits, or an Instance-ID and 8 of them */
    struct lm_inner inner;
};

/* Parses a datagram of UDP port 4341: data header, inner packet. */
enum lm_data_verdict lm_lisp_header_parse(const uint8_t *datagram, size_t length, struct lm_data *out);

/* True for an Info-Request or Info-Reply directly after a header with Instance-ID 0xFFFFFF, as lispers.net sends it. */
bool lm_lisp_header_holds_info(const uint8_t *datagram, size_t length);

/* Writes the 8 octets: all zero, or just I and the Instance-ID (RFC 9300 section 4.1). */
void lm_lisp_header_write(uint8_t *header, uint32_t instance_id);
/* Adds L and the Locator-Status-Bits: all 32, or the lowest 8 beside an Instance-ID. */
void lm_lisp_header_put_status(uint8_t *header, uint32_t bits);
/* Adds V and both Map-Version Numbers, 12 bits each, where N is not set. */
void lm_lisp_header_put_versions(uint8_t *header, uint16_t source, uint16_t destination);
/* Adds N and a nonce of 24 bits; `wants_echo`: E, too. */
void lm_lisp_header_put_nonce(uint8_t *header, uint32_t nonce, bool wants_echo);

#endif
