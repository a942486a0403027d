/*
 * Splits and describes super-packets, as a TUN device with struct virtio_net_hdr delivers and accepts them (TSO, USO).
 * Pure. Out: one large packet becomes many. In: consecutive packets of a flow become one (packet/coalesce.h).
 */
#ifndef LM_SEGMENT_H
#define LM_SEGMENT_H

#include <linux/virtio_net.h>

#include "packet/packet.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* Linux 6.2 */
#endif

#define LM_SEGMENT_SAFE 1280u /* octets: every IPv6 path allows this (RFC 8200); the MTU of this one is unknown */
#define LM_TCP_FLAGS 13
#define LM_TCP_CHECKSUM 16
#define LM_UDP_CHECKSUM 6

/* The header before each packet of the TUN device, in the byte order of the host. All zero: an ordinary packet. */
typedef struct virtio_net_hdr lm_vnet;

/* How a super-packet is segmented. `count` 0: it is an ordinary packet. */
struct lm_segments {
    size_t count;
    size_t header;    /* octets that each segment repeats: IP, extensions, TCP with options or UDP */
    size_t size;      /* payload octets of each segment but the last */
    uint32_t pseudo;  /* sum of the pseudo header without its length */
    uint8_t protocol; /* TCP or UDP */
};

/*
 * Completes a packet that came with `vnet`: computes a partial checksum, and clears its flag in `vnet`. False: the
 * header does not fit the packet.
 */
bool lm_segment_complete_vnet(lm_vnet *vnet, uint8_t *packet, size_t length);

/*
 * True when the transport checksum is partial, which means only the sum of the pseudo header. Such a packet came from
 * another kernel over a virtual link (veth), which passes on partial checksums and super-packets. `vnet` then says so
 * to the TUN, and how a TCP super-packet may be segmented, because its own segment size is not known here. One valid
 * checksum in 65536 looks the same. It is not verified then.
 */
bool lm_segment_reopen_vnet(lm_vnet *vnet, const uint8_t *packet, const struct lm_inner *inner);

/* Reads how to segment the parsed packet; false: `vnet` does not fit the packet. */
bool lm_segments_read(const lm_vnet *vnet, const uint8_t *packet, const struct lm_inner *inner,
                      struct lm_segments *out);
/* Returns the payload octets of one segment. */
size_t lm_segment_payload(const struct lm_segments *segments, const struct lm_inner *inner, size_t index);
/* Writes the `header` octets of one segment, with all fields valid; its payload stays in place. */
void lm_segment_header(uint8_t *out, const uint8_t *packet, const struct lm_inner *inner,
                       const struct lm_segments *segments, size_t index);
/* Writes one whole segment; returns its length. */
size_t lm_segment_write(uint8_t *out, const uint8_t *packet, const struct lm_inner *inner,
                        const struct lm_segments *segments, size_t index);

#endif
