#include "seal/replay.h"

#include <string.h>

static void lock(struct lm_replay *w)
{
    while (atomic_flag_test_and_set_explicit(&w->is_locked, memory_order_acquire))
        ;
}

static void unlock(struct lm_replay *w)
{
    atomic_flag_clear_explicit(&w->is_locked, memory_order_release);
}

static uint64_t *word_of(struct lm_replay *w, uint64_t counter)
{
    return &w->words[counter / 64 % LM_REPLAY_WORDS];
}

static bool is_new(struct lm_replay *w, uint64_t counter)
{
    if (counter >= w->next)
        return true;
    return w->next - counter <= LM_REPLAY_WINDOW && !(*word_of(w, counter) >> counter % 64 & 1);
}

void lm_replay_init(struct lm_replay *window)
{
    memset(window->words, 0, sizeof window->words);
    window->next = 0;
    atomic_flag_clear(&window->is_locked);
}

bool lm_replay_may(struct lm_replay *window, uint64_t counter)
{
    lock(window);
    bool may = is_new(window, counter);
    unlock(window);
    return may;
}

/* Advances the window to the counter. The words in between are empty. */
static void advance(struct lm_replay *w, uint64_t counter)
{
    uint64_t last = w->next ? (w->next - 1) / 64 : 0, steps = counter / 64 - last;
    for (uint64_t i = 1; i <= steps && i <= LM_REPLAY_WORDS; i++)
        w->words[(last + i) % LM_REPLAY_WORDS] = 0;
    w->next = counter + 1;
}

bool lm_replay_mark(struct lm_replay *window, uint64_t counter)
{
    lock(window);
    bool was_new = is_new(window, counter);
    if (was_new) {
        if (counter >= window->next)
            advance(window, counter);
        *word_of(window, counter) |= UINT64_C(1) << counter % 64;
    }
    unlock(window);
    return was_new;
}
