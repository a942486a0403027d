/*
 * libFuzzer on the inbound path: from a datagram on the data port to the TUN device, in a whole engine without threads.
 *
 * The first octets of an input choose its source, how it was received, and the kind of engine that receives it. They
 * also choose whether a peer has sealed it, so that the code after the tag is fuzzed, too.
 */
#include <fcntl.h>
#include <stdlib.h>

#include "../../lispmob/datapath/c/engine/inbound.c"
#include "mend.h"

#define HEAD 6u
#define ENGINES 4u
#define KEY_NS (UINT64_C(100) * 1000000000u)
#define NEST 28u

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t length);

static struct lm_addr v4(uint32_t address)
{
    struct lm_addr made = {.family = 4};
    lm_put32(made.octets, address);
    return made;
}

static struct lm_addr v6(uint8_t last)
{
    return (struct lm_addr){.family = 6, .octets = {0x20, 0x01, 0x0d, 0xb8, [15] = last}};
}

/* Keys of each dialect, each for a locator of its own; the senders have the same keys. */
static const uint8_t dialects[] = {LM_DIALECT_RFC8061, LM_DIALECT_LISPERS_2, LM_DIALECT_LISPERS_5};
static struct lm_session *dialect_sealers[3];

static void use_dialects(struct lm_engine *e)
{
    for (unsigned i = 0; i < 3; i++) {
        struct lm_dialect_spec spec = {
            .address = v4(0xc6336401u + i), .dialect = dialects[i], .key_id = 1, .key = {1}, .integrity = {2}};
        (void)lm_dialect_install(e, &spec);
        lm_session_free(dialect_sealers[i]);
        dialect_sealers[i] = lm_dialect_session(&spec);
    }
}

static size_t seal_as_others(uint8_t *out, const uint8_t *octets, size_t length, unsigned which, bool is_changed)
{
    uint64_t counter;
    struct iovec part = {(void *)(uintptr_t)octets, length};
    struct lm_session *with = dialect_sealers[which];
    lm_lisp_header_write(out, 0);
    if (!with || !lm_session_take(with, 1, &counter))
        return 0;
    size_t size = lm_dialect_seal(with, 0, counter, &part, 1, out);
    if (size && is_changed)
        out[counter % size] ^= (uint8_t)(1u << counter % 8);
    return size;
}

static struct lm_engine *make(bool is_rtr, uint8_t check)
{
    struct lm_config config = {.key0 = 1,
                               .key1 = 2,
                               .is_rtr = is_rtr,
                               .is_proxy = is_rtr,
                               .copy_dscp = true,
                               .source_check = check,
                               .source_port_pool = 1,
                               .pending_per_entry = 4,
                               .pending_total = 16,
                               .pending_age_ns = 1000000u};
    struct lm_engine *e = lm_engine_new(&config);
    if (!e)
        abort();
    lm_engine_offload(e, true, true);
    e->tun = open("/dev/null", O_WRONLY | O_CLOEXEC);
    struct lm_prefix own[] = {{.length = 8, .address = v4(0x0a000000u)}, {.length = 32, .address = v6(0)}};
    struct lm_prefix peers[] = {{.length = 8, .address = v4(0x0b000000u)}, {.length = 0, .address = v6(0)}};
    struct lm_locator_spec to[] = {{.address = v4(0xc6336401u), .port = 4341, .priority = 1, .weight = 1},
                                   {.address = v6(1), .port = 4341, .priority = 1, .weight = 1}};
    struct lm_near_spec near[] = {{{.length = 24, .address = v4(0xc6336400u)}, LM_NEAR_LINK},
                                  {{.length = 32, .address = v4(0xc6336402u)}, LM_NEAR_OWN},
                                  {{.length = 32, .address = v4(0xc6336403u)}, LM_NEAR_PROXY}};
    lm_engine_set_eids(e, own, is_rtr ? 0 : 2);
    for (size_t i = 0; i < 2; i++)
        lm_engine_install(e, &peers[i], LM_ENCAPSULATE, to, 2);
    if (is_rtr)
        lm_engine_install(e, &own[0], LM_ENCAPSULATE, to, 2);
    lm_source_set_near(e, near, 3);
    lm_status_bits_use(e, true, false, 0);
    lm_echo_nonce_use(e, true);
    use_dialects(e);
    return e;
}

/* The peer's sessions; the engines have the other side of them for as long. */
static struct lm_session *sealer;

static void use_next_key(struct lm_engine **engines, uint64_t now)
{
    static uint32_t number;
    number++;
    struct lm_prefix from[] = {{.length = 8, .address = v4(0x0b000000u)}, {.length = 32, .address = v6(0)}};
    struct lm_session_spec spec = {.peer = 1,
                                   .local_index = number,
                                   .remote_index = number,
                                   .aead = LM_AEAD_AES_128_GCM,
                                   .is_confirmed = number % 2,
                                   .source_count = 2,
                                   .sources = from};
    lm_session_free(sealer);
    sealer = lm_session_new(&spec, now);
    for (unsigned i = 0; i < ENGINES; i++) {
        spec.source_count = i % 2 ? 2 : 0;
        (void)lm_peers_install(engines[i]->peers, &spec, now);
    }
}

/* The octets as the peer would seal them, or with one wrong bit; with `is_nested` after headers from EID to EID. */
static size_t seal(uint8_t *out, const uint8_t *octets, size_t length, bool is_changed, bool is_nested)
{
    uint64_t counter;
    struct iovec part = {(void *)(uintptr_t)octets, length};
    uint8_t *header = out + (is_nested ? LM_DATA_HEADER + NEST : 0);
    size_t sealed_length = length + LM_SEAL_MIN;
    lm_lisp_header_write(header, 0);
    if (!sealer || !lm_session_take(sealer, 1, &counter) || !lm_session_seal(sealer, 0, counter, &part, 1, header))
        return 0;
    if (is_changed)
        header[counter % sealed_length] ^= (uint8_t)(1u << counter % 8);
    if (is_nested) {
        const uint8_t head[NEST] = {0x45, [6] = 0x40, [8] = 64, 17, [12] = 11, 0,    0,    1,
                                    10,   0,          0,        1,  0x10,      0xf5, 0x10, 0xf5};
        lm_lisp_header_write(out, 0);
        memcpy(out + LM_DATA_HEADER, head, NEST);
        lm_put16(out + LM_DATA_HEADER + 2, (uint32_t)(sealed_length + NEST));
        lm_put16(out + LM_DATA_HEADER + 24, (uint32_t)sealed_length + 8);
        lm_packet_write_ipv4_checksum(out + LM_DATA_HEADER);
    }
    return (size_t)(header - out) + sealed_length;
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t length)
{
    static struct lm_engine *engines[ENGINES];
    static uint64_t now = 1000000000u, key_at;
    static struct lm_punt punts[64];
    if (!engines[0])
        for (unsigned i = 0; i < ENGINES; i++)
            engines[i] = make(i == 3, (uint8_t)(i < 3 ? i + 1 : LM_CHECK_OFF));
    if (length < HEAD || length > HEAD + LM_PACKET_MAX)
        return 0;
    if (key_at == 0 || now > key_at + KEY_NS)
        use_next_key(engines, key_at = now);
    struct lm_engine *e = engines[octets[0] & 3];
    bool is_v6 = octets[0] & 4;
    struct lm_outer outer = {.source = is_v6 ? v6(octets[1]) : v4(0xc6336400u + octets[1]),
                             .destination = is_v6 ? v6(9) : v4(0xc6336402u),
                             .source_port = octets[2] & 1 ? LM_PORT_CONTROL : LM_PORT_DATA,
                             .is_ephemeral = (octets[2] & 2) != 0,
                             .ttl = octets[3],
                             .tos = octets[4],
                             .ifindex = octets[2] & 4 ? 1 : 2,
                             .run = octets[5],
                             .now = now += 100000u};
    /* At the end of a frame of its own, so that the sanitizer finds a read beyond it. */
    static uint8_t sealed[LM_PACKET_MAX + 512];
    const uint8_t *datagram = octets + HEAD;
    size_t size = length - HEAD;
    if (octets[2] & 64 && !is_v6 && octets[1] >= 1 && octets[1] <= 3) {
        size_t made = seal_as_others(sealed, datagram, size, octets[1] - 1u, octets[2] & 16);
        datagram = made ? sealed : datagram;
        size = made ? made : size;
        outer.run = 0;
    } else if (octets[2] & 8 && (size = seal(sealed, datagram, size, octets[2] & 16, octets[2] & 32)) > 0) {
        datagram = sealed;
        outer.run = 0;
    }
    if (size > LM_PACKET_MAX)
        return 0;
    uint8_t *frame = malloc(LM_FRAME_HEADROOM + size + 1);
    memcpy(frame + LM_FRAME_HEADROOM, datagram, size);
    lm_share(&e->lock);
    arrive_all(e, frame + LM_FRAME_HEADROOM, size, &outer);
    flush(e, &e->merge);
    if (e->config.is_rtr)
        lm_rtr_flush(e);
    lm_unshare(&e->lock);
    free(frame);
    while (lm_engine_drain(e, punts, 64) == 64)
        ;
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *octets, size_t length, size_t most, unsigned seed)
{
    bool is_sealed = length > 2 && octets[2] & (8 | 64); /* then the packet has no LISP header before it */
    return mutate_and_mend(octets, length, most, seed, is_sealed ? HEAD : HEAD + LM_DATA_HEADER);
}
