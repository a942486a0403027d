#include "seal/dialect.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/engine.h"
#include "seal/dialect_cipher.h"

#define BLOCK 16u
#define PAD 0x20u
#define CBC_IV 16u
#define ICV_KEY 20u                       /* four zero octets, then the integrity key */
#define FIRST_COUNTER (UINT64_C(1) << 32) /* of the first IV that arrives: earlier ones may come later */
#define HIGHEST (UINT64_C(1) << 62)

struct lm_dialects *lm_dialects_new(const struct lm_key *key)
{
    struct lm_dialects *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    made->out = lm_table_new(key);
    made->in = lm_table_new(key);
    if (made->out && made->in)
        return made;
    lm_dialects_free(made);
    return NULL;
}

static void free_session(struct lm_session *session)
{
    if (session)
        lm_session_free(session->former);
    lm_session_free(session);
}

static void free_all(struct lm_table *table)
{
    uint32_t cursor = 0;
    for (struct lm_entry *entry; table && (entry = lm_table_next(table, &cursor));)
        free_session(entry->value);
    lm_table_free(table);
}

void lm_dialects_free(struct lm_dialects *dialects)
{
    if (!dialects)
        return;
    free_all(dialects->out);
    free_all(dialects->in);
    free(dialects);
}

static struct lm_prefix host(const struct lm_addr *address, uint32_t number)
{
    return (struct lm_prefix){.instance_id = number, .length = address->family == 4 ? 32 : 128, .address = *address};
}

struct lm_session *lm_dialect_session(const struct lm_dialect_spec *spec)
{
    struct lm_session_spec wanted = {.aead = LM_AEAD_AES_128_GCM, .is_confirmed = true};
    memcpy(wanted.send_key, spec->key, sizeof spec->key);
    memcpy(wanted.receive_key, spec->key, sizeof spec->key);
    struct lm_session *made = lm_session_new(&wanted, 0);
    explicit_bzero(&wanted, sizeof wanted);
    if (!made)
        return NULL;
    made->dialect = spec->dialect;
    made->key_id = spec->key_id;
    memcpy(made->integrity + ICV_KEY - LM_DIALECT_INTEGRITY, spec->integrity, LM_DIALECT_INTEGRITY);
    made->iv_high = spec->start_high;
    made->iv_low = spec->start_low;
    if (spec->dialect == LM_DIALECT_RFC8061)
        atomic_store(&made->sent, 1); /* RFC 8061, 6: the counter starts at 1 */
    return made;
}

int lm_dialect_install(struct lm_engine *e, const struct lm_dialect_spec *spec)
{
    if (!lm_aead_is_built())
        return -ENOTSUP;
    (void)lm_aead_chosen(LM_AEAD_AES_128_GCM); /* now, and not when a packet waits for it */
    struct lm_session *made = lm_dialect_session(spec);
    struct lm_prefix place = host(&spec->address, spec->seals ? 0 : spec->key_id);
    lm_engine_lock(e);
    struct lm_entry *entry = made ? lm_table_insert(spec->seals ? e->dialects->out : e->dialects->in, &place) : NULL;
    if (entry) {
        struct lm_session *before = entry->value;
        entry->value = made;
        if (before && !spec->seals && made->dialect != LM_DIALECT_RFC8061) {
            lm_session_free(before->former);
            before->former = NULL;
            made->former = before; /* packets of the former key are in flight */
        } else {
            free_session(before);
        }
    }
    lm_engine_unlock(e);
    if (entry)
        return 0;
    lm_session_free(made);
    return -ENOMEM;
}

static void take_out(struct lm_table *table, const struct lm_prefix *place)
{
    struct lm_entry *entry = lm_table_find(table, place);
    if (!entry)
        return;
    free_session(entry->value);
    (void)lm_table_remove(table, place);
}

void lm_dialect_forget(struct lm_engine *e, const struct lm_addr *address, bool seals)
{
    lm_engine_lock(e);
    for (uint32_t number = 0; number <= LM_FLAG_KK; number++) {
        struct lm_prefix place = host(address, number);
        if ((number == 0) == seals)
            take_out(seals ? e->dialects->out : e->dialects->in, &place);
    }
    lm_engine_unlock(e);
}

struct lm_dialect_use lm_dialect_used(struct lm_engine *e, const struct lm_addr *address)
{
    struct lm_dialect_use use = {0};
    lm_share(&e->lock);
    const struct lm_entry *out = lm_table_lookup(e->dialects->out, 0, address);
    if (out) {
        const struct lm_session *session = out->value;
        use.dialect_out = session->dialect;
        use.sent = atomic_load(&session->sent) - (session->dialect == LM_DIALECT_RFC8061);
    }
    for (uint32_t key_id = 1; key_id <= LM_FLAG_KK; key_id++) {
        const struct lm_entry *in = lm_table_lookup(e->dialects->in, key_id, address);
        const struct lm_session *session = in ? in->value : NULL;
        if (!session)
            continue;
        use.dialect_in = session->dialect;
        use.opened += atomic_load(&session->opened);
    }
    lm_unshare(&e->lock);
    return use;
}

struct lm_session *lm_dialect_choose(const struct lm_engine *e, const struct lm_job *job,
                                     const struct lm_remote *mapped)
{
    if (job->set->wish.peer || job->set->wish.must_seal || job->remote != mapped || !lm_table_count(e->dialects->out))
        return NULL;
    const struct lm_entry *entry = lm_table_lookup(e->dialects->out, 0, &mapped->address);
    return entry ? entry->value : NULL;
}

bool lm_dialect_is_even(const struct lm_session *session)
{
    return session->dialect == LM_DIALECT_NONE || session->dialect == LM_DIALECT_RFC8061;
}

size_t lm_dialect_octets(const struct lm_session *session)
{
    return lm_dialect_is_even(session) ? LM_SEAL_OCTETS : LM_DIALECT_OCTETS;
}

static size_t iv_octets(const struct lm_session *session)
{
    return session->dialect == LM_DIALECT_LISPERS_2 ? CBC_IV : LM_AEAD_NONCE;
}

/* Writes one number of 128 bits in the octets that the suite has for it, each part little-endian. */
static void put_little(uint8_t *out, uint64_t value, size_t octets)
{
    for (size_t i = 0; i < octets; i++)
        out[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get_little(const uint8_t *octets, size_t count)
{
    uint64_t value = 0;
    for (size_t i = count; i-- > 0;)
        value = value << 8 | octets[i];
    return value;
}

static void put_iv(const struct lm_session *session, uint64_t counter, uint8_t *out)
{
    uint64_t low = session->iv_low + counter, high = session->iv_high + (low < counter);
    size_t high_octets = iv_octets(session) - 8;
    put_little(out, high, high_octets);
    put_little(out + high_octets, low, 8);
}

static struct lm_aead_context *context_of(struct lm_session *session, unsigned thread, bool seals)
{
    struct lm_aead_context **place = seals ? &session->sealers[thread] : &session->openers[thread];
    const uint8_t *key = seals ? session->send_key : session->receive_key;
    if (!*place)
        *place = session->dialect == LM_DIALECT_LISPERS_2 ? lm_dialect_cipher_new(key, seals)
                                                          : lm_aead_new(LM_AEAD_AES_128_GCM, key, seals);
    return *place;
}

static size_t seal_lispers(struct lm_session *session, unsigned thread, uint64_t counter, const struct iovec *parts,
                           size_t count, uint8_t *out)
{
    struct lm_aead_context *context = context_of(session, thread, true);
    uint8_t *iv = out + LM_DATA_HEADER, *text = iv + iv_octets(session), *at = text;
    for (size_t i = 0; i < count; at += parts[i++].iov_len)
        memcpy(at, parts[i].iov_base, parts[i].iov_len);
    while ((at - text) % BLOCK)
        *at++ = PAD;
    size_t octets = (size_t)(at - text);
    out[0] |= session->key_id;
    put_iv(session, counter, iv);
    struct iovec whole = {text, octets};
    bool is_good =
        context && (session->dialect == LM_DIALECT_LISPERS_2 ? lm_dialect_cipher_run(context, iv, text, octets)
                                                             : lm_aead_seal(context, iv, NULL, 0, &whole, 1, text));
    at += session->dialect == LM_DIALECT_LISPERS_2 ? 0 : LM_AEAD_TAG;
    if (!is_good || !lm_dialect_cipher_icv(session->integrity, ICV_KEY, out, (size_t)(at - out), at))
        return 0;
    return (size_t)(at - out) + LM_DIALECT_ICV;
}

size_t lm_dialect_seal(struct lm_session *session, unsigned thread, uint64_t counter, const struct iovec *parts,
                       size_t count, uint8_t *out)
{
    if (session->dialect == LM_DIALECT_RFC8061)
        return lm_session_seal(session, thread, counter, parts, count, out);
    return seal_lispers(session, thread, counter, parts, count, out);
}

/*
 * Computes how far an IV is ahead of the first one that opened, as a counter of the window; false: too far to belong to
 * this key.
 */
static bool counter_of(const struct lm_session *session, const uint8_t *iv, uint64_t *counter, uint64_t *high,
                       uint64_t *low)
{
    size_t high_octets = iv_octets(session) - 8;
    *high = get_little(iv, high_octets);
    *low = get_little(iv + high_octets, 8);
    if (!session->has_iv) {
        *counter = FIRST_COUNTER;
        return true;
    }
    uint64_t borrow = *low < session->iv_low, above = *high - session->iv_high - borrow;
    uint64_t mask = high_octets == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * high_octets) - 1;
    *counter = *low - session->iv_low + FIRST_COUNTER;
    bool has_carried = *counter < FIRST_COUNTER;
    return ((above + has_carried) & mask) == 0 && *counter < HIGHEST;
}

static bool is_equal(const uint8_t *a, const uint8_t *b, size_t octets)
{
    uint8_t difference = 0;
    for (size_t i = 0; i < octets; i++)
        difference |= a[i] ^ b[i];
    return difference == 0;
}

static size_t open_lispers(struct lm_session *session, unsigned thread, uint8_t *datagram, size_t length, size_t *head,
                           enum lm_session_verdict *why)
{
    size_t tag = session->dialect == LM_DIALECT_LISPERS_2 ? 0 : LM_AEAD_TAG;
    uint8_t *iv = datagram + LM_DATA_HEADER, *text = iv + iv_octets(session), icv[LM_DIALECT_ICV];
    uint64_t counter, high, low;
    *head = (size_t)(text - datagram);
    *why = LM_OPEN_TAG;
    if (length < *head + BLOCK + tag + LM_DIALECT_ICV || (tag == 0 && (length - *head - LM_DIALECT_ICV) % BLOCK) ||
        !lm_dialect_cipher_icv(session->integrity, ICV_KEY, datagram, length - LM_DIALECT_ICV, icv) ||
        !is_equal(icv, datagram + length - LM_DIALECT_ICV, LM_DIALECT_ICV))
        return 0;
    *why = LM_OPEN_REPLAY;
    if (!counter_of(session, iv, &counter, &high, &low) || !lm_replay_may(&session->replay, counter))
        return 0;
    struct lm_aead_context *context = context_of(session, thread, false);
    size_t octets = length - *head - LM_DIALECT_ICV;
    *why = LM_OPEN_TAG;
    if (!context ||
        !(tag ? lm_aead_open(context, iv, NULL, 0, text, octets) : lm_dialect_cipher_run(context, iv, text, octets)))
        return 0;
    *why = LM_OPEN_REPLAY;
    if (!lm_replay_mark(&session->replay, counter))
        return 0;
    if (!session->has_iv) {
        session->iv_high = high;
        session->iv_low = low;
        session->has_iv = true;
    }
    atomic_fetch_add_explicit(&session->opened, 1, memory_order_relaxed);
    *why = LM_OPENED;
    return octets - tag;
}

size_t lm_dialect_open_one(struct lm_session *session, unsigned thread, uint8_t *datagram, size_t length, size_t *head,
                           enum lm_session_verdict *why)
{
    if (session->dialect != LM_DIALECT_RFC8061)
        return open_lispers(session, thread, datagram, length, head, why);
    *head = LM_SEAL_HEAD;
    *why = LM_OPEN_TAG;
    if (length < LM_SEAL_MIN || lm_session_index(datagram) != 0) /* no counter is as large as that */
        return 0;
    *why = lm_session_open(session, thread, datagram, length, 0);
    return *why == LM_OPENED ? length - LM_SEAL_MIN : 0;
}

enum lm_dialect_verdict lm_dialect_open(struct lm_engine *e, uint8_t *datagram, size_t length,
                                        const struct lm_outer *outer, struct lm_data *data, size_t *head)
{
    if (!lm_table_count(e->dialects->in) || length < LM_SEAL_MIN ||
        lm_peers_find_session(e->peers, lm_session_index(datagram)))
        return LM_DIALECT_OTHER;
    const struct lm_entry *entry = lm_table_lookup(e->dialects->in, datagram[0] & LM_FLAG_KK, &outer->source);
    if (!entry)
        return LM_DIALECT_OTHER;
    struct lm_session *session = entry->value;
    enum lm_session_verdict why;
    size_t octets = lm_dialect_open_one(session, lm_sealed_out_thread(), datagram, length, head, &why);
    if (why == LM_OPEN_TAG && session->former) /* the ICV is wrong, so nothing was changed in place */
        octets = lm_dialect_open_one(session->former, lm_sealed_out_thread(), datagram, length, head, &why);
    if (why != LM_OPENED) {
        lm_count(&e->counters, why == LM_OPEN_REPLAY ? LM_data_replay : LM_data_tag);
        return LM_DIALECT_LOST;
    }
    uint32_t second = lm_get32(datagram + 4);
    *data = (struct lm_data){.flags = datagram[0],
                             .nonce = lm_get32(datagram) & 0xffffff,
                             .second = second,
                             .instance_id = datagram[0] & LM_FLAG_I ? second >> 8 : 0};
    if (lm_packet_parse(datagram + *head, octets, &data->inner)) {
        lm_count(&e->counters, LM_data_obfuscated);
        return LM_DIALECT_OPENED;
    }
    lm_count(&e->counters, LM_data_inner);
    return LM_DIALECT_LOST;
}
