/*
 * Echo-nonce (RFC 9300 section 10.1): asks a peer to return a number in its data. That shows that our packets reach it
 * at the locator that they were sent to. The peer answers to the source of the request, if it sends data there at all,
 * and from any of its locators.
 *
 * Both sides may ask at once: an answer that is due goes first. A number that was not asked for is ignored.
 */
#include "engine/engine.h"

#define OWED_NS UINT64_C(1000000000) /* nanoseconds; a peer waits as long */
#define OWED_COPIES 16u              /* packets after the last request that carry the answer, in case some are lost */
#define ASKED (UINT32_C(1) << 24)    /* a bit beside the 24 bits of a nonce */

static void owe(struct lm_engine *e, uint32_t nonce, const struct lm_outer *outer)
{
    struct lm_remote *remote = lm_locator_find_remote(e->locators, &outer->source, LM_PORT_DATA);
    if (!remote)
        return; /* we send no data there */
    struct lm_echo *echo = &remote->state->echo;
    atomic_store_explicit(&echo->owed, nonce, memory_order_relaxed);
    atomic_store_explicit(&echo->until, outer->now + OWED_NS, memory_order_relaxed);
    atomic_store_explicit(&echo->copies, OWED_COPIES, memory_order_relaxed);
}

void lm_echo_nonce_on_data(struct lm_engine *e, const struct lm_data *data, const struct lm_outer *outer)
{
    if (!(data->flags & LM_FLAG_N) || !atomic_load_explicit(&e->echoes, memory_order_relaxed))
        return;
    if (data->flags & LM_FLAG_E) {
        owe(e, data->nonce, outer);
        return;
    }
    uint32_t wanted = ASKED | data->nonce;
    for (size_t i = 0; i < LM_ASKS_MAX; i++) {
        uint32_t asked = wanted;
        if (atomic_load_explicit(&e->asks[i].nonce, memory_order_relaxed) != wanted ||
            !lm_locator_find_remote(e->locators, &outer->source, LM_PORT_DATA) ||
            !atomic_compare_exchange_strong(&e->asks[i].nonce, &asked, 0))
            continue;
        struct lm_remote *remote = lm_locator_find_remote(e->locators, &e->asks[i].remote, LM_PORT_DATA);
        if (remote)
            atomic_store_explicit(&remote->state->echo.asked, 0, memory_order_relaxed);
        struct lm_punt report = {
            .kind = LM_PUNT_ECHOED, .source = outer->destination, .destination = e->asks[i].remote};
        (void)lm_punt_put(&e->punts, &report, NULL, 0);
        return;
    }
}

void lm_echo_nonce_put(struct lm_echo *echo, uint64_t now, uint8_t *header)
{
    uint32_t copies = atomic_load_explicit(&echo->copies, memory_order_relaxed);
    if (copies && now < atomic_load_explicit(&echo->until, memory_order_relaxed)) {
        atomic_store_explicit(&echo->copies, copies - 1, memory_order_relaxed);
        lm_lisp_header_put_nonce(header, atomic_load_explicit(&echo->owed, memory_order_relaxed), false);
        return;
    }
    uint32_t asked = atomic_load_explicit(&echo->asked, memory_order_relaxed);
    if (asked)
        lm_lisp_header_put_nonce(header, asked & ~ASKED, true);
}

void lm_echo_nonce_use(struct lm_engine *e, bool echoes)
{
    atomic_store(&e->echoes, echoes);
}

bool lm_echo_nonce_ask(struct lm_engine *e, const struct lm_addr *address, bool asks, uint32_t nonce)
{
    struct lm_ask *place = NULL, *spare = NULL;
    lm_engine_lock(e);
    struct lm_remote *remote = lm_locator_find_remote(e->locators, address, LM_PORT_DATA);
    for (size_t i = 0; i < LM_ASKS_MAX; i++) {
        if (atomic_load(&e->asks[i].nonce) == 0)
            spare = spare ? spare : &e->asks[i];
        else if (lm_addr_equal(&e->asks[i].remote, address))
            place = &e->asks[i];
    }
    place = place ? place : spare;
    bool is_asked = asks && remote && place;
    if (place) {
        place->remote = *address;
        atomic_store(&place->nonce, is_asked ? ASKED | nonce : 0);
    }
    if (remote)
        atomic_store(&remote->state->echo.asked, is_asked ? ASKED | nonce : 0);
    lm_engine_unlock(e);
    return is_asked;
}
