/*
 * Joins consecutive TCP segments, or UDP datagrams, of one flow into one super-packet: the inverse of segment.h. Pure.
 *
 * Packets are joined only if segmentation restores them octet by octet (except for the IPv4 identification of packets
 * with DF, which has no meaning, RFC 6864), and if their checksums are valid, because later they cannot be checked.
 */
#ifndef LM_COALESCE_H
#define LM_COALESCE_H

#include <sys/uio.h>

#include "packet/segment.h"

#define LM_MERGE_MAX 64         /* packets; no kernel splits more UDP datagrams than this */
#define LM_MERGE_HEADER_MAX 100 /* plain IPv6 header and the longest TCP header */

struct lm_coalesce {
    bool takes_udp;
    size_t count; /* 0: empty */
    const uint8_t *first;
    struct lm_inner inner;       /* of the first */
    size_t header, size, length; /* IP and transport header; payload of the first; octets of the whole */
    bool is_candidate;           /* packets may be joined to the first */
    bool is_complete;            /* nothing more may be joined */
    bool is_verified;            /* the checksum of the first is valid */
    uint16_t id_step;            /* of the IPv4 identification: 0 or 1, known from two on */
    uint8_t last_flags;
    lm_vnet vnet, alone; /* the header to write; that of the first packet alone */
    uint8_t head[LM_MERGE_HEADER_MAX];
    struct iovec vector[LM_MERGE_MAX + 2]; /* vnet, header, payloads */
};

/* Starts with a packet, which must stay in place until the super-packet has been written. */
void lm_coalesce_start(struct lm_coalesce *merge, const uint8_t *packet, const struct lm_inner *inner);
/* Joins a packet; false: it does not fit, and nothing changed. */
bool lm_coalesce_join(struct lm_coalesce *merge, const uint8_t *packet, const struct lm_inner *inner);
/* Completes the headers; returns the vectors to write, virtio_net_hdr first. */
size_t lm_coalesce_finish(struct lm_coalesce *merge);
/* Returns packet `index` as it came. */
const uint8_t *lm_coalesce_packet(const struct lm_coalesce *merge, size_t index, size_t *length);

#endif
