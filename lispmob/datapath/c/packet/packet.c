#include "packet/packet.h"

#include <netinet/in.h>

/* No usual packet has more headers. What follows them is taken as opaque. */
#define EXTENSION_HEADERS_MAX 12

/* Two words at once on a processor with vectors. For others the compiler splits them. */
typedef uint64_t pair __attribute__((vector_size(16)));

static inline pair load_pair(const uint8_t *at)
{
    pair words;
    memcpy(&words, at, sizeof words);
    return words;
}

/* Sums are computed in the host's order, four octets at a time: the result is the same as two at a time (RFC 1071). */
uint16_t lm_packet_checksum(const uint8_t *data, size_t length, uint32_t start)
{
    pair low = {0}, high = {0}; /* 32-bit halves in 64-bit lanes: no carry is lost */
    const pair mask = {UINT32_MAX, UINT32_MAX};
    for (; length >= 64; data += 64, length -= 64)
        for (size_t i = 0; i < 64; i += 16) {
            pair words = load_pair(data + i);
            low += words & mask;
            high += words >> 32;
        }
    uint64_t sum = low[0] + low[1] + high[0] + high[1], word;
    for (; length >= 8; data += 8, length -= 8) {
        memcpy(&word, data, sizeof word);
        sum += (word & UINT32_MAX) + (word >> 32);
    }
    if (length) {
        word = 0;
        memcpy(&word, data, length);
        sum += (word & UINT32_MAX) + (word >> 32);
    }
    sum = (sum & UINT32_MAX) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    uint16_t folded = (uint16_t)((sum & 0xffff) + (sum >> 16));
    uint8_t octets[2];
    memcpy(octets, &folded, sizeof octets); /* summed up in the host's order */
    sum = (uint64_t)lm_get16(octets) + start;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

uint32_t lm_packet_pseudo_sum(const struct lm_addr *source, const struct lm_addr *destination, uint8_t protocol,
                              size_t length)
{
    uint32_t sum = protocol + (uint32_t)(length >> 16) + (uint32_t)(length & 0xffff);
    for (size_t i = 0; i < 16; i += 2)
        sum += (uint32_t)lm_get16(source->octets + i) + lm_get16(destination->octets + i);
    return sum;
}

void lm_packet_write_ipv4_checksum(uint8_t *header)
{
    lm_put16(header + 10, 0);
    lm_put16(header + 10, lm_packet_checksum(header, (size_t)(header[0] & 15) * 4, 0));
}

static void read_ports(const uint8_t *packet, struct lm_inner *inner)
{
    if (!lm_rules_has_ports(inner->protocol))
        return;
    if (inner->is_later_fragment || inner->length < inner->header + 4)
        return;
    inner->has_ports = true;
    inner->source_port = lm_get16(packet + inner->header);
    inner->destination_port = lm_get16(packet + inner->header + 2);
}

static bool parse_v4(const uint8_t *packet, size_t length, struct lm_inner *inner)
{
    size_t header = (size_t)(packet[0] & 15) * 4, total = lm_get16(packet + 2);
    if (header < 20 || total < header || total > length || lm_packet_checksum(packet, header, 0) != 0)
        return false;
    uint16_t fragment = lm_get16(packet + 6);
    inner->tos = packet[1];
    inner->ttl = packet[8];
    inner->protocol = packet[9];
    inner->source = lm_addr_make(4, packet + 12);
    inner->destination = lm_addr_make(4, packet + 16);
    inner->dont_fragment = (fragment & 0x4000) != 0;
    inner->is_fragment = (fragment & 0x3fff) != 0;
    inner->is_later_fragment = (fragment & 0x1fff) != 0;
    inner->header = header;
    inner->length = total;
    return true;
}

/* Walks the extension headers (RFC 8200 section 4) to the transport header, a fragment header, or the end. */
static void walk_v6(const uint8_t *packet, struct lm_inner *inner)
{
    for (int i = 0; i < EXTENSION_HEADERS_MAX; i++) {
        const uint8_t *at = packet + inner->header;
        size_t left = inner->length - inner->header, size;
        bool is_authentication = inner->protocol == IPPROTO_AH;
        if (!lm_rules_is_extension(inner->protocol) || left < 8)
            return;
        if (lm_rules_is_plain_extension(inner->protocol) || is_authentication) {
            size = is_authentication ? ((size_t)at[1] + 2) * 4 : ((size_t)at[1] + 1) * 8;
            if (left < size)
                return;
        } else {
            /* Later headers exist in the first fragment only, so they cannot identify the flow. */
            inner->is_fragment = true;
            inner->is_later_fragment = (lm_get16(at + 2) & 0xfff8) != 0;
            size = 8;
        }
        inner->protocol = at[0];
        inner->header += size;
        if (inner->is_fragment)
            return;
    }
}

static bool parse_v6(const uint8_t *packet, size_t length, struct lm_inner *inner)
{
    if (length < 40)
        return false;
    size_t total = 40u + lm_get16(packet + 4);
    if (total > length)
        return false;
    inner->tos = (uint8_t)(packet[0] << 4 | packet[1] >> 4);
    inner->ttl = packet[7];
    inner->protocol = packet[6];
    inner->source = lm_addr_make(6, packet + 8);
    inner->destination = lm_addr_make(6, packet + 24);
    inner->dont_fragment = true;
    inner->header = 40;
    inner->length = total;
    walk_v6(packet, inner);
    return true;
}

bool lm_packet_parse(const uint8_t *packet, size_t length, struct lm_inner *out)
{
    memset(out, 0, sizeof *out);
    if (length < 20)
        return false;
    out->version = packet[0] >> 4;
    if (out->version != 4 && out->version != 6)
        return false;
    if (!(out->version == 4 ? parse_v4 : parse_v6)(packet, length, out))
        return false;
    read_ports(packet, out);
    return true;
}

uint64_t lm_packet_flow_hash(const struct lm_key *key, const struct lm_inner *inner)
{
    bool counts_ports = inner->has_ports && !inner->is_fragment;
    uint64_t words[5] = {lm_rules_flow_word(inner->version, inner->protocol, counts_ports ? inner->source_port : 0,
                                            counts_ports ? inner->destination_port : 0)};
    if (inner->version == 4) {
        words[1] = (uint64_t)lm_get32(inner->source.octets) << 32 | lm_get32(inner->destination.octets);
        return lm_hash(key, words, 2);
    }
    words[1] = lm_get64(inner->source.octets);
    words[2] = lm_get64(inner->source.octets + 8);
    words[3] = lm_get64(inner->destination.octets);
    words[4] = lm_get64(inner->destination.octets + 8);
    return lm_hash(key, words, 5);
}

static void write_tos_ttl(uint8_t *packet, uint8_t version, uint8_t tos, uint8_t ttl)
{
    if (version == 4) {
        packet[1] = tos;
        packet[8] = ttl;
        lm_packet_write_ipv4_checksum(packet);
        return;
    }
    packet[0] = (uint8_t)(0x60 | tos >> 4);
    packet[1] = (uint8_t)((packet[1] & 0x0f) | tos << 4);
    packet[7] = ttl;
}

enum lm_strip_verdict lm_packet_strip(uint8_t *packet, const struct lm_inner *inner, uint8_t outer_ttl,
                                      uint8_t outer_tos, bool copy_dscp)
{
    struct lm_carried carried = lm_rules_carry(inner->tos, inner->ttl, outer_tos, outer_ttl, copy_dscp);
    if (carried.ecn == LM_ECN_DROPS)
        return LM_STRIP_ECN;
    if (carried.ttl == 0)
        return LM_STRIP_TTL;
    if (carried.tos != inner->tos || carried.ttl != inner->ttl)
        write_tos_ttl(packet, inner->version, carried.tos, carried.ttl);
    return carried.ecn & LM_ECN_ODD ? LM_STRIP_ODD : LM_STRIP_OK;
}
