/* Ends sessions in every way there is, and looks for their keys in each block that is freed. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seal/dialect.h"
#include "seal/peers.h"

#define NOW UINT64_C(1000000000)
#define PACKET 64u
#define PIECE 16u /* octets of a key that must not be found: AES-128 has no more, and its schedule begins with them */

static uint8_t marks[4][LM_AEAD_KEY]; /* two directions, then the two keys of a dialect */
static size_t found, freed;
static bool is_watching;

void __real_free(void *block);
void __wrap_free(void *block);

void __wrap_free(void *block)
{
    size_t octets = block && is_watching ? malloc_usable_size(block) : 0;
    freed += octets > 0;
    for (size_t i = 0; octets && i < 4; i++)
        if (memmem(block, octets, marks[i], PIECE))
            found++;
    __real_free(block);
}

static void install(struct lm_peers *peers, uint32_t number, uint8_t aead, bool is_confirmed)
{
    static struct lm_prefix source = {.length = 32, .address = {.family = 4, .octets = {10, 2, 0, 7}}};
    struct lm_session_spec spec = {.peer = 1,
                                   .local_index = number,
                                   .remote_index = number,
                                   .aead = aead,
                                   .is_confirmed = is_confirmed,
                                   .source_count = 1,
                                   .sources = &source};
    memcpy(spec.send_key, marks[0], LM_AEAD_KEY);
    memcpy(spec.receive_key, marks[1], LM_AEAD_KEY);
    if (lm_peers_install(peers, &spec, NOW))
        exit(2);
}

/* Seals and opens a packet by each thread, so that there are contexts with the expanded keys. */
static void use(struct lm_session *session)
{
    uint8_t out[LM_SEAL_HEAD + PACKET + LM_AEAD_TAG] = {0}, text[PACKET] = {0};
    struct iovec part = {text, sizeof text};
    for (unsigned thread = 0; session && thread < LM_SEAL_THREADS; thread++) {
        if (!lm_session_seal(session, thread, thread, &part, 1, out))
            exit(3);
        (void)lm_session_open(session, thread, out, sizeof out, NOW);
    }
}

static void end_sessions(uint8_t aead, const char *way)
{
    struct lm_key key = {0};
    struct lm_peers *peers = lm_peers_new(&key);
    for (uint32_t number = 1; number <= 3; number++) {
        install(peers, number, aead, true);
        use(lm_peers_find_session(peers, number));
    }
    if (!strcmp(way, "forgotten")) {
        for (uint32_t number = 1; number <= 3; number++)
            (void)lm_peers_forget(peers, number);
    } else if (!strcmp(way, "peer")) {
        lm_peers_forget_peer(peers, 1);
    } else if (!strcmp(way, "displaced")) {
        for (uint32_t number = 4; number <= 9; number++)
            install(peers, number, aead, number % 2);
    }
    lm_peers_free(peers);
}

static void end_dialect(uint8_t dialect)
{
    struct lm_dialect_spec spec = {.dialect = dialect, .key_id = 1};
    memcpy(spec.key, marks[2], sizeof spec.key);
    memcpy(spec.integrity, marks[3], sizeof spec.integrity);
    struct lm_session *session = lm_dialect_session(&spec);
    uint8_t out[LM_SEAL_HEAD + 2 * PACKET] = {0}, text[PACKET] = {0};
    struct iovec part = {text, sizeof text};
    if (!session || !lm_dialect_seal(session, 0, 1, &part, 1, out))
        exit(4);
    lm_session_free(session);
}

int main(void)
{
    static const char *ways[] = {"forgotten", "peer", "displaced", "shutdown"};
    for (size_t i = 0; i < sizeof marks; i++)
        marks[i / LM_AEAD_KEY][i % LM_AEAD_KEY] = (uint8_t)(0xa5 + 7 * i);
    is_watching = true;
    for (uint8_t aead = LM_AEAD_AES_128_GCM; aead <= LM_AEAD_CHACHA20_POLY1305; aead++)
        for (size_t i = 0; i < 4; i++)
            end_sessions(aead, ways[i]);
    static const uint8_t dialects[] = {LM_DIALECT_RFC8061, LM_DIALECT_LISPERS_2, LM_DIALECT_LISPERS_5};
    for (size_t i = 0; i < sizeof dialects; i++)
        end_dialect(dialects[i]);
    is_watching = false;
    uint8_t *left = malloc(LM_AEAD_KEY); /* the search itself finds a key that is left */
    memcpy(left, marks[0], LM_AEAD_KEY);
    size_t before = found;
    is_watching = true;
    __wrap_free(left); /* by its name, since a compiler leaves out a block that nothing reads */
    printf("freed=%zu\nleft=%zu\nproof=%zu\n", freed, before, found - before);
    return 0;
}
