/*
 * Chooses uplink and locator of a flow, as table/rendezvous.c, locator.c and outbound.c do, in a form that the verifier
 * accepts.
 */
#ifndef LM_CHOOSE_H
#define LM_CHOOSE_H

#include "lib/maps.h"

/* One walk over contenders by bpf_loop(): the verifier checks one round, not all. */
struct walk {
    struct lm_shared_uplinks *all;
    struct lm_shared_set *set;
    __u64 flow, cost, weight;
    __u32 families, ifindex, counts_never, best, members, has_weights, winner, found;
};

static __always_inline __u32 family_bit(__u8 family)
{
    return family == 4 ? V4 : V6;
}

/* First pass: which contenders take part, and how many. */
static __always_inline long gather(struct lm_shared_contender *contender, __u32 i, struct walk *w)
{
    if (!(family_bit(contender->family) & w->families) || contender->priority > w->best ||
        contender->priority == LM_PRIORITY_NEVER)
        return 0;
    if (contender->priority < w->best) {
        w->best = contender->priority;
        w->members = w->has_weights = w->found = 0;
    }
    w->winner = i;
    w->members++;
    w->has_weights |= contender->weight;
    w->found |= family_bit(contender->family);
    return 0;
}

/* Second pass: the best draw. `found`: there is a winner. */
static __always_inline long draw(struct lm_shared_contender *contender, __u32 i, struct walk *w)
{
    if (!(family_bit(contender->family) & w->families) || contender->priority != w->best ||
        (w->has_weights && !contender->weight))
        return 0;
    __u64 cost = lm_draw_cost(w->flow, contender->identity), weight = w->has_weights ? contender->weight : 1;
    if (!w->found || lm_draw_beats(cost, weight, w->cost, w->weight)) {
        w->winner = i;
        w->cost = cost;
        w->weight = weight;
        w->found = 1;
    }
    return 0;
}

static long gather_path(__u32 i, struct walk *w)
{
    return i < LM_SHARED_PATHS ? gather(&w->all->paths[i].contender, i, w) : 1;
}

static long draw_path(__u32 i, struct walk *w)
{
    return i < LM_SHARED_PATHS ? draw(&w->all->paths[i].contender, i, w) : 1;
}

static long gather_locator(__u32 i, struct walk *w)
{
    return i < LM_SHARED_LOCATORS ? gather(&w->set->locators[i].contender, i, w) : 1;
}

static long draw_locator(__u32 i, struct walk *w)
{
    return i < LM_SHARED_LOCATORS ? draw(&w->set->locators[i].contender, i, w) : 1;
}

static long add_family(__u32 i, struct walk *w)
{
    if (i >= LM_SHARED_PATHS)
        return 1;
    struct lm_shared_path *path = &w->all->paths[i];
    if (path->ifindex == w->ifindex && (w->counts_never || path->contender.priority != LM_PRIORITY_NEVER))
        w->found |= family_bit(path->contender.family);
    return 0;
}

static long is_path(__u32 i, struct walk *w)
{
    if (i >= LM_SHARED_PATHS)
        return 1;
    struct lm_shared_path *path = &w->all->paths[i];
    if (path->ifindex != w->ifindex || family_bit(path->contender.family) != w->families)
        return 0;
    w->winner = i;
    return 1;
}

static __always_inline void begin(struct walk *w, __u32 families)
{
    w->families = families;
    w->best = LM_PRIORITY_NEVER;
    w->members = w->has_weights = w->found = 0;
    w->winner = LM_SHARED_LOCATORS;
}

static __noinline int choose_path(struct walk *w, __u32 families)
{
    begin(w, families);
    bpf_loop(w->all->count, gather_path, w, 0);
    if (w->members > 1) {
        w->found = 0;
        bpf_loop(w->all->count, draw_path, w, 0);
    }
    return 0;
}

static __noinline int choose_locator(struct walk *w, __u32 families)
{
    begin(w, families);
    bpf_loop(w->set->count, gather_locator, w, 0);
    if (w->members > 1) {
        w->found = 0;
        bpf_loop(w->set->count, draw_locator, w, 0);
    }
    return 0;
}

/* The families that an interface sends in. */
static __noinline int families_of(struct walk *w, __u32 ifindex, __u32 counts_never)
{
    w->ifindex = ifindex;
    w->counts_never = counts_never;
    w->found = 0;
    bpf_loop(w->all->count, add_family, w, 0);
    return 0;
}

struct way {
    __u32 path, locator; /* places in the uplinks and in the set */
};

/* Locator and path of a flow, as lm_lane_choose or lm_outbound_choose; false: the tun tier must decide. */
static __always_inline bool choose_way(struct walk *w, __u32 lane, struct way *way)
{
    __u32 ifindex = lane, families = w->all->families;
    if (!lane) {
        /* Of our uplinks' families, those with locators of the best priority. */
        begin(w, families);
        bpf_loop(w->set->count, gather_locator, w, 0);
        families = w->found;
        choose_path(w, families);
        if (w->winner >= LM_SHARED_PATHS)
            return false;
        ifindex = w->all->paths[w->winner].ifindex;
    } else {
        families = V4 | V6;
    }
    families_of(w, ifindex, lane);
    choose_locator(w, families & w->found);
    if (w->winner >= LM_SHARED_LOCATORS)
        return false;
    way->locator = w->winner;
    begin(w, family_bit(w->set->locators[way->locator & (LM_SHARED_LOCATORS - 1)].contender.family));
    bpf_loop(w->all->count, is_path, w, 0);
    way->path = w->winner;
    return way->path < LM_SHARED_PATHS;
}

#endif
