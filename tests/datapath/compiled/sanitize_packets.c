/*
 * Gives every function that reads packets the records of stdin (length in 4 octets, big endian; then the octets), each
 * as it is and mutated many times, in buffers of exactly the right size. The sanitizers find the faults.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/engine.h"
#include "packet/coalesce.h"
#include "packet/fragment.h"

#define RECORD_MAX 70000u

static uint64_t state = 88172645463325252u;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void try_inner(const uint8_t *packet, size_t length)
{
    struct lm_inner inner;
    if (!lm_packet_parse(packet, length, &inner))
        return;
    static const struct lm_key key = {1, 2};
    struct lm_addr speaker = {.family = inner.version, .octets = {10}};
    (void)lm_packet_flow_hash(&key, &inner);
    uint8_t *error = malloc(LM_ICMP_MAX);
    for (enum lm_icmp_kind kind = LM_ICMP_TOO_BIG; kind <= LM_ICMP_PROHIBITED; kind++)
        if (lm_icmp_build(error, kind, 1400, &speaker, packet, &inner) > LM_ICMP_MAX)
            abort();
    free(error);
    size_t limit = 68 + draw() % 600, count = lm_fragment_count(packet, &inner, limit);
    for (size_t i = 0; i < count; i++) {
        uint8_t *out = malloc(limit);
        if (lm_fragment_write(out, packet, &inner, i, count) > limit)
            abort();
        free(out);
    }
    uint8_t *copy = malloc(inner.length);
    memcpy(copy, packet, inner.length);
    (void)lm_packet_strip(copy, &inner, (uint8_t)draw(), (uint8_t)draw(), draw() & 1);
    free(copy);
}

/* Any virtio_net_hdr before any packet: segments stay inside their buffer. */
static void try_segments(const uint8_t *packet, size_t length)
{
    static const uint8_t kinds[] = {0, 1, 4, 5, 0x81, 3};
    struct lm_inner inner;
    struct lm_segments segments;
    lm_vnet vnet = {.flags = (uint8_t)(draw() & 1),
                    .gso_type = kinds[draw() % sizeof kinds],
                    .gso_size = (uint16_t)(draw() & 1 ? draw() % 40 : draw()),
                    .csum_start = (uint16_t)(draw() % 100),
                    .csum_offset = (uint16_t)(draw() % 20)};
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, packet, length);
    if (lm_segment_complete_vnet(&vnet, copy, length) && lm_packet_parse(copy, length, &inner) &&
        lm_segments_read(&vnet, copy, &inner, &segments))
        for (size_t i = 0; i < segments.count; i++) {
            size_t room = segments.header + lm_segment_payload(&segments, &inner, i);
            uint8_t *out = malloc(room);
            if (lm_segment_write(out, copy, &inner, &segments, i) != room)
                abort();
            free(out);
        }
    free(copy);
}

/* Every packet after the one before it: the octets of joined packets add up. */
static void try_merge(const uint8_t *packet, size_t length)
{
    static struct lm_coalesce merge = {.takes_udp = true};
    static uint8_t *kept[LM_MERGE_MAX + 1];
    static size_t count;
    struct lm_inner inner;
    if (!lm_packet_parse(packet, length, &inner))
        return;
    uint8_t *copy = malloc(length);
    memcpy(copy, packet, length);
    if (merge.count == 0 || !lm_coalesce_join(&merge, copy, &inner)) {
        if (merge.count) {
            size_t total = 0;
            for (size_t i = 1, n = lm_coalesce_finish(&merge); i < n; i++)
                total += merge.vector[i].iov_len;
            if (total != merge.length)
                abort();
        }
        while (count)
            free(kept[--count]);
        lm_coalesce_start(&merge, copy, &inner);
    }
    kept[count++] = copy;
}

static void try_one(const uint8_t *record, size_t length)
{
    uint8_t *exact = malloc(length ? length : 1);
    struct lm_data data;
    memcpy(exact, record, length);
    (void)lm_lisp_header_parse(exact, length, &data);
    (void)lm_lisp_header_holds_info(exact, length);
    try_inner(exact, length);
    try_segments(exact, length);
    try_merge(exact, length);
    if (length >= 8)
        try_inner(exact + 8, length - 8);
    free(exact);
}

static size_t mutate(uint8_t *record, size_t length)
{
    for (uint64_t changes = 1 + draw() % 4; changes > 0 && length > 0; changes--)
        switch (draw() % 4) {
        case 0:
            record[draw() % length] ^= (uint8_t)(1u << draw() % 8);
            break;
        case 1:
            record[draw() % (length < 64 ? length : 64)] = (uint8_t)draw();
            break;
        case 2:
            record[draw() % length] = draw() & 1 ? 0xff : 0;
            break;
        default:
            length = draw() % (length + 1);
        }
    /* Most mutations break the header checksum, and the rest is not read: correct it half of the time. */
    for (size_t at = 0; at <= 8 && at + 60 <= length; at += 8)
        if ((draw() & 1) && record[at] >> 4 == 4 && (record[at] & 15) >= 5)
            lm_packet_write_ipv4_checksum(record + at);
    return length;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 10;
    static uint8_t record[RECORD_MAX], changed[RECORD_MAX];
    uint8_t size[4];
    unsigned long count = 0;
    while (fread(size, 1, sizeof size, stdin) == sizeof size) {
        size_t length = lm_get32(size);
        if (length > RECORD_MAX || fread(record, 1, length, stdin) != length)
            return 2;
        try_one(record, length);
        for (long i = 0; i < rounds; i++, count++) {
            memcpy(changed, record, length);
            try_one(changed, mutate(changed, length));
        }
    }
    printf("%lu\n", count);
    return 0;
}
