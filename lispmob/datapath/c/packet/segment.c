#include "packet/segment.h"

#include <netinet/in.h>

#define TCP_FIN 0x01
#define TCP_PSH 0x08
#define TCP_CWR 0x80

bool lm_segment_complete_vnet(lm_vnet *vnet, uint8_t *packet, size_t length)
{
    /* A super-packet keeps its partial checksum: each segment gets its own. */
    if (!(vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || vnet->gso_type != VIRTIO_NET_HDR_GSO_NONE)
        return true;
    size_t start = vnet->csum_start, at = start + vnet->csum_offset;
    *vnet = (lm_vnet){0};
    if (at + 2 > length)
        return false;
    uint16_t sum = lm_packet_checksum(packet + start, length - start, 0);
    lm_put16(packet + at, sum ? sum : 0xffff); /* 0 means "none" in UDP, and equals 0xffff elsewhere */
    return true;
}

bool lm_segment_reopen_vnet(lm_vnet *vnet, const uint8_t *packet, const struct lm_inner *inner)
{
    bool is_tcp = inner->protocol == IPPROTO_TCP;
    size_t left = inner->length - inner->header, field = is_tcp ? LM_TCP_CHECKSUM : LM_UDP_CHECKSUM;
    if (inner->is_fragment || !(is_tcp || inner->protocol == IPPROTO_UDP) || left < (is_tcp ? 20u : 8u))
        return false;
    uint16_t sum =
        lm_packet_checksum(NULL, 0, lm_packet_pseudo_sum(&inner->source, &inner->destination, inner->protocol, left));
    if ((lm_get16(packet + inner->header + field) ^ sum) != 0xffff)
        return false;
    *vnet = (lm_vnet){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = (uint16_t)inner->header, .csum_offset = (uint16_t)field};
    size_t header = is_tcp ? inner->header + (size_t)(packet[inner->header + 12] >> 4) * 4 : 0;
    if (is_tcp && inner->length > LM_SEGMENT_SAFE && header >= inner->header + 20 && header < LM_SEGMENT_SAFE / 2) {
        vnet->gso_type = inner->version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
        vnet->gso_size = (uint16_t)(LM_SEGMENT_SAFE - header);
        vnet->hdr_len = (uint16_t)header;
    }
    return true;
}

/*
 * Returns the sum of the pseudo header, which the checksum field holds. With a routing header, only the kernel knows
 * it.
 */
static uint32_t pseudo_of(const uint8_t *packet, const struct lm_inner *inner, size_t field)
{
    uint32_t sum = lm_get16(packet + inner->header + field);
    uint32_t length = (uint32_t)(inner->length - inner->header);
    return sum + (~length & 0xffff);
}

bool lm_segments_read(const lm_vnet *vnet, const uint8_t *packet, const struct lm_inner *inner, struct lm_segments *out)
{
    *out = (struct lm_segments){0};
    uint8_t type = vnet->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
    if (type == VIRTIO_NET_HDR_GSO_NONE)
        return true;
    bool is_tcp = type == (inner->version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6);
    bool is_udp = type == VIRTIO_NET_HDR_GSO_UDP_L4;
    if (inner->is_fragment || vnet->gso_size == 0 || !(is_tcp || is_udp) ||
        inner->protocol != (is_tcp ? IPPROTO_TCP : IPPROTO_UDP))
        return false;
    size_t left = inner->length - inner->header, size = is_tcp ? 20 : 8;
    if (left < size)
        return false;
    if (is_tcp)
        size = (size_t)(packet[inner->header + 12] >> 4) * 4;
    if ((is_tcp && size < 20) || left <= size)
        return false;
    out->protocol = inner->protocol;
    out->header = inner->header + size;
    out->size = vnet->gso_size;
    out->count = (left - size + out->size - 1) / out->size;
    out->pseudo = pseudo_of(packet, inner, is_tcp ? LM_TCP_CHECKSUM : LM_UDP_CHECKSUM);
    return true;
}

size_t lm_segment_payload(const struct lm_segments *segments, const struct lm_inner *inner, size_t index)
{
    size_t left = inner->length - segments->header - index * segments->size;
    return left < segments->size ? left : segments->size;
}

void lm_segment_header(uint8_t *out, const uint8_t *packet, const struct lm_inner *inner,
                       const struct lm_segments *segments, size_t index)
{
    size_t start = index * segments->size, payload = lm_segment_payload(segments, inner, index);
    uint8_t *transport = out + inner->header;
    size_t length = segments->header - inner->header + payload, field = LM_UDP_CHECKSUM;
    memcpy(out, packet, segments->header);
    if (inner->version == 4) {
        lm_put16(out + 2, (uint32_t)(segments->header + payload));
        lm_put16(out + 4, (uint32_t)(lm_get16(packet + 4) + index));
        lm_packet_write_ipv4_checksum(out);
    } else {
        lm_put16(out + 4, (uint32_t)(segments->header - 40 + payload));
    }
    if (segments->protocol == IPPROTO_TCP) {
        lm_put32(transport + 4, lm_get32(transport + 4) + (uint32_t)start);
        if (index + 1 < segments->count)
            transport[LM_TCP_FLAGS] &= (uint8_t)~(TCP_FIN | TCP_PSH);
        if (index > 0)
            transport[LM_TCP_FLAGS] &= (uint8_t)~TCP_CWR;
        field = LM_TCP_CHECKSUM;
    } else {
        lm_put16(transport + 4, (uint32_t)length);
    }
    lm_put16(transport + field, 0);
    uint32_t sum = segments->pseudo + (uint32_t)length;
    sum += (uint16_t)~lm_packet_checksum(transport, segments->header - inner->header, 0); /* even in length */
    uint16_t whole = lm_packet_checksum(packet + segments->header + start, payload, sum);
    lm_put16(transport + field, whole ? whole : 0xffff);
}

size_t lm_segment_write(uint8_t *out, const uint8_t *packet, const struct lm_inner *inner,
                        const struct lm_segments *segments, size_t index)
{
    size_t payload = lm_segment_payload(segments, inner, index);
    lm_segment_header(out, packet, inner, segments, index);
    memcpy(out + segments->header, packet + segments->header + index * segments->size, payload);
    return segments->header + payload;
}
