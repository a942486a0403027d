#include "packet/fragment.h"

static size_t header_of(const struct lm_inner *inner)
{
    return inner->header; /* IPv4: the transport header follows the IP header directly */
}

/* Returns the payload octets of each fragment but the last: equal shares, rounded up to units of 8. */
static size_t share(const struct lm_inner *inner, size_t count)
{
    size_t payload = inner->length - header_of(inner);
    return ((payload + count - 1) / count + 7) / 8 * 8;
}

size_t lm_fragment_count(const uint8_t *packet, const struct lm_inner *inner, size_t limit)
{
    if (inner->version != 4 || limit < header_of(inner) + 8)
        return 0;
    size_t most = (limit - header_of(inner)) / 8 * 8;
    size_t payload = inner->length - header_of(inner);
    if ((lm_get16(packet + 6) & 0x1fffu) + payload / 8 > 0x1fff)
        return 0;
    return payload <= most ? 1 : (payload + most - 1) / most;
}

/* Clears options without the "copied" bit, which belong to the first fragment only. */
static void blank_options(uint8_t *header, size_t length)
{
    for (size_t i = 20; i < length;) {
        uint8_t type = header[i];
        if (type == 0)
            return;
        size_t size = type == 1 ? 1 : i + 1 < length ? header[i + 1] : 0;
        if (size == 0 || (type != 1 && size < 2) || i + size > length)
            return; /* malformed: left as it is */
        if (!(type & 0x80))
            memset(header + i, 1, size);
        i += size;
    }
}

size_t lm_fragment_write(uint8_t *out, const uint8_t *packet, const struct lm_inner *inner, size_t index, size_t count)
{
    size_t header = header_of(inner), payload = inner->length - header, step = share(inner, count);
    size_t start = index * step < payload ? index * step : payload;
    size_t size = payload - start < step ? payload - start : step;
    uint16_t field = lm_get16(packet + 6);
    bool has_more = (field & 0x2000) || start + size < payload;
    memcpy(out, packet, header);
    memcpy(out + header, packet + header + start, size);
    if ((field & 0x1fff) + start / 8 > 0)
        blank_options(out, header);
    lm_put16(out + 2, (uint32_t)(header + size));
    lm_put16(out + 6, (uint32_t)((field & 0x1fff) + start / 8) | (has_more ? 0x2000 : 0));
    lm_packet_write_ipv4_checksum(out);
    return header + size;
}
