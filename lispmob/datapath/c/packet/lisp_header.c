#include "packet/lisp_header.h"

#include <netinet/in.h>

static bool holds_control(const uint8_t *packet, const struct lm_inner *inner)
{
    if (inner->protocol != IPPROTO_UDP || inner->is_fragment || inner->length < inner->header + 8)
        return false;
    if (inner->source_port != LM_PORT_CONTROL && inner->destination_port != LM_PORT_CONTROL)
        return false;
    const uint8_t *udp = packet + inner->header;
    size_t length = lm_get16(udp + 4);
    if (length < 8 || length > inner->length - inner->header)
        return false;
    if (lm_get16(udp + 6) == 0)
        return true;
    return lm_packet_checksum(udp, length,
                              lm_packet_pseudo_sum(&inner->source, &inner->destination, IPPROTO_UDP, length)) == 0;
}

enum lm_data_verdict lm_lisp_header_parse(const uint8_t *datagram, size_t length, struct lm_data *out)
{
    memset(out, 0, sizeof *out);
    if (length < LM_DATA_HEADER + 20)
        return LM_DATA_SHORT;
    out->flags = datagram[0];
    out->nonce = lm_get32(datagram) & 0xffffff;
    out->second = lm_get32(datagram + 4);
    if (out->flags & LM_FLAG_KK)
        return LM_DATA_KEY;
    if (out->flags & LM_FLAG_I)
        out->instance_id = out->second >> 8;
    const uint8_t *packet = datagram + LM_DATA_HEADER;
    if (!lm_packet_parse(packet, length - LM_DATA_HEADER, &out->inner))
        return LM_DATA_INNER;
    if (out->instance_id != LM_CONTROL_IID)
        return LM_DATA_OK;
    return holds_control(packet, &out->inner) ? LM_DATA_CONTROL : LM_DATA_INNER;
}

bool lm_lisp_header_holds_info(const uint8_t *datagram, size_t length)
{
    return length >= LM_DATA_HEADER + LM_INFO_MIN && !(datagram[0] & LM_FLAG_KK) && (datagram[0] & LM_FLAG_I) &&
           lm_get32(datagram + 4) >> 8 == LM_CONTROL_IID && datagram[LM_DATA_HEADER] >> 4 == LM_TYPE_INFO;
}

void lm_lisp_header_write(uint8_t *header, uint32_t instance_id)
{
    memset(header, 0, LM_DATA_HEADER);
    if (instance_id == 0)
        return;
    header[0] = LM_FLAG_I;
    lm_put32(header + 4, instance_id << 8);
}

void lm_lisp_header_put_status(uint8_t *header, uint32_t bits)
{
    uint32_t second = lm_get32(header + 4);
    header[0] |= LM_FLAG_L;
    lm_put32(header + 4, lm_rules_put_status(second, header[0] & LM_FLAG_I, bits));
}

void lm_lisp_header_put_versions(uint8_t *header, uint16_t source, uint16_t destination)
{
    uint32_t flags = header[0] | LM_FLAG_V, versions = (source & 0xfffu) << 12 | (destination & 0xfffu);
    lm_put32(header, flags << 24 | versions);
}

void lm_lisp_header_put_nonce(uint8_t *header, uint32_t nonce, bool wants_echo)
{
    uint32_t flags = header[0] | LM_FLAG_N | (wants_echo ? LM_FLAG_E : 0);
    lm_put32(header, flags << 24 | (nonce & 0xffffff));
}
