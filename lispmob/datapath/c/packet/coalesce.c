#include "packet/coalesce.h"

#include <netinet/in.h>

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define TCP_URG 0x20
#define TCP_CWR 0x80
#define LAST_ONLY (TCP_FIN | TCP_PSH) /* segmentation gives these to the last segment */

static size_t transport_header(const uint8_t *packet, const struct lm_inner *inner)
{
    size_t left = inner->length - inner->header, size = 8;
    if (left < (inner->protocol == IPPROTO_TCP ? 20u : 8u))
        return 0;
    if (inner->protocol == IPPROTO_TCP)
        size = (size_t)(packet[inner->header + 12] >> 4) * 4;
    else if (lm_get16(packet + inner->header + 4) != left || lm_get16(packet + inner->header + LM_UDP_CHECKSUM) == 0)
        return 0;
    return size < 8 || (inner->protocol == IPPROTO_TCP && size < 20) || left <= size ? 0 : size;
}

/* Returns the octets of both headers if segmentation could have made this packet, else 0. */
static size_t header_of(const uint8_t *packet, const struct lm_inner *inner, bool takes_udp)
{
    if (inner->is_fragment || inner->header != (inner->version == 4 ? 20u : 40u))
        return 0;
    if (inner->version == 4 && (packet[6] & 0x80)) /* a bit that must be zero */
        return 0;
    if (inner->protocol != IPPROTO_TCP && (inner->protocol != IPPROTO_UDP || !takes_udp))
        return 0;
    size_t size = transport_header(packet, inner);
    if (size && inner->protocol == IPPROTO_TCP) {
        uint8_t flags = packet[inner->header + LM_TCP_FLAGS];
        if (!(flags & TCP_ACK) || (flags & (TCP_SYN | TCP_RST | TCP_URG | TCP_CWR)))
            return 0;
    }
    return size ? inner->header + size : 0;
}

static bool is_verified(const uint8_t *packet, const struct lm_inner *inner)
{
    size_t length = inner->length - inner->header;
    uint32_t pseudo = lm_packet_pseudo_sum(&inner->source, &inner->destination, inner->protocol, length);
    return lm_packet_checksum(packet + inner->header, length, pseudo) == 0;
}

void lm_coalesce_start(struct lm_coalesce *m, const uint8_t *packet, const struct lm_inner *inner)
{
    m->count = 1;
    m->first = packet;
    m->inner = *inner;
    m->header = header_of(packet, inner, m->takes_udp);
    m->alone = (lm_vnet){0};
    m->is_candidate = !lm_segment_reopen_vnet(&m->alone, packet, inner) && m->header != 0;
    m->size = inner->length - m->header;
    m->length = inner->length;
    m->is_complete = m->is_verified = false;
    m->last_flags = 0;
    if (m->is_candidate && inner->protocol == IPPROTO_TCP) {
        m->last_flags = packet[inner->header + LM_TCP_FLAGS];
        m->is_complete = (m->last_flags & LAST_ONLY) != 0;
    }
    m->vector[2] = (struct iovec){(void *)(uintptr_t)(packet + m->header), m->size};
}

static bool same_ip(const struct lm_coalesce *m, const uint8_t *packet)
{
    const uint8_t *first = m->first;
    if (m->inner.version == 6) /* compares all fields but the length */
        return memcmp(first, packet, 4) == 0 && memcmp(first + 6, packet + 6, 34) == 0;
    /* Compares all fields but length, identification and checksum. */
    return memcmp(first, packet, 2) == 0 && memcmp(first + 6, packet + 6, 4) == 0 &&
           memcmp(first + 12, packet + 12, 8) == 0;
}

static bool follows_by_id(const struct lm_coalesce *m, const uint8_t *packet, uint16_t *step)
{
    if (m->inner.version == 6)
        return true;
    uint16_t apart = (uint16_t)(lm_get16(packet + 4) - lm_get16(m->first + 4));
    *step = m->count > 1 ? m->id_step : apart != 0;
    return apart == (uint16_t)(*step * m->count) && (*step || m->inner.dont_fragment);
}

static bool same_transport(const struct lm_coalesce *m, const uint8_t *packet)
{
    const uint8_t *a = m->first + m->inner.header, *b = packet + m->inner.header;
    if (memcmp(a, b, 4) != 0) /* ports */
        return false;
    if (m->inner.protocol == IPPROTO_UDP)
        return true;
    uint32_t expected = lm_get32(a + 4) + (uint32_t)(m->length - m->header);
    return lm_get32(b + 4) == expected && memcmp(a + 8, b + 8, 5) == 0 &&
           ((a[LM_TCP_FLAGS] ^ b[LM_TCP_FLAGS]) & ~LAST_ONLY) == 0 && memcmp(a + 14, b + 14, 2) == 0 &&
           memcmp(a + 18, b + 18, m->header - m->inner.header - 18) == 0;
}

bool lm_coalesce_join(struct lm_coalesce *m, const uint8_t *packet, const struct lm_inner *inner)
{
    uint16_t step = 0;
    if (!m->is_candidate || m->is_complete || m->count == LM_MERGE_MAX || inner->version != m->inner.version ||
        inner->protocol != m->inner.protocol || header_of(packet, inner, m->takes_udp) != m->header)
        return false;
    size_t payload = inner->length - m->header;
    if (payload > m->size || m->length + payload > 65535 || !same_ip(m, packet) || !same_transport(m, packet) ||
        !follows_by_id(m, packet, &step))
        return false;
    if (!m->is_verified && !(m->is_verified = is_verified(m->first, &m->inner))) {
        m->is_candidate = false;
        return false;
    }
    if (!is_verified(packet, inner))
        return false;
    m->vector[2 + m->count] = (struct iovec){(void *)(uintptr_t)(packet + m->header), payload};
    m->id_step = step;
    m->count++;
    m->length += payload;
    m->is_complete = payload < m->size;
    if (inner->protocol == IPPROTO_TCP) {
        m->last_flags = packet[inner->header + LM_TCP_FLAGS];
        m->is_complete = m->is_complete || (m->last_flags & LAST_ONLY);
    }
    return true;
}

static void write_head(struct lm_coalesce *m)
{
    bool is_tcp = m->inner.protocol == IPPROTO_TCP;
    uint8_t *transport = m->head + m->inner.header;
    size_t field = is_tcp ? LM_TCP_CHECKSUM : LM_UDP_CHECKSUM, length = m->length - m->inner.header;
    memcpy(m->head, m->first, m->header);
    if (m->inner.version == 4) {
        lm_put16(m->head + 2, (uint32_t)m->length);
        lm_packet_write_ipv4_checksum(m->head);
    } else {
        lm_put16(m->head + 4, (uint32_t)(m->length - 40));
    }
    if (is_tcp)
        transport[LM_TCP_FLAGS] = m->last_flags;
    else
        lm_put16(transport + 4, (uint32_t)length);
    uint32_t pseudo = lm_packet_pseudo_sum(&m->inner.source, &m->inner.destination, m->inner.protocol, length);
    lm_put16(transport + field, (uint16_t)~lm_packet_checksum(NULL, 0, pseudo));
    m->vnet = (lm_vnet){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                        .gso_type = VIRTIO_NET_HDR_GSO_UDP_L4,
                        .hdr_len = (uint16_t)m->header,
                        .gso_size = (uint16_t)m->size,
                        .csum_start = (uint16_t)m->inner.header,
                        .csum_offset = (uint16_t)field};
    if (is_tcp)
        m->vnet.gso_type = m->inner.version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
}

size_t lm_coalesce_finish(struct lm_coalesce *m)
{
    m->vnet = m->alone;
    m->vector[0] = (struct iovec){&m->vnet, sizeof m->vnet};
    if (m->count == 1) {
        m->vector[1] = (struct iovec){(void *)(uintptr_t)m->first, m->inner.length};
        return 2;
    }
    write_head(m);
    m->vector[1] = (struct iovec){m->head, m->header};
    return 2 + m->count;
}

const uint8_t *lm_coalesce_packet(const struct lm_coalesce *m, size_t index, size_t *length)
{
    *length = m->header + m->vector[2 + index].iov_len;
    return (const uint8_t *)m->vector[2 + index].iov_base - m->header;
}
