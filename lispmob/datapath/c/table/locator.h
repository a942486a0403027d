/*
 * Remote locators: the RLOCs of a mapping, and which of them a flow uses (RFC 9300 section 12).
 *
 * A remote (address and port) exists once, however many mappings name it. So does a locator set. A forwarding entry
 * costs one pointer. The caller locks: choosing needs the lock shared, taking and dropping need it exclusive.
 */
#ifndef LM_LOCATOR_H
#define LM_LOCATOR_H

#include <stdatomic.h>

#include "base/address.h"
#include "liveness/pacing.h"
#include "liveness/silence.h"
#include "table/rendezvous.h"

#include "bpf/shared.h"

#define LM_LOCATORS_MAX 32
#define LM_TRIAL_PACKETS 256 /* ours: about as many as a voice call sends in one round trip */

/* Families as bits. */
#define LM_V4 1u
#define LM_V6 2u

static inline unsigned lm_family_bit(uint8_t family)
{
    return family == 4 ? LM_V4 : LM_V6;
}

struct lm_remote {
    struct lm_addr address;
    uint16_t port;
    struct lm_addr source; /* family 0: the uplink decides */
    int fd; /* the socket that sends from `source`: a NAT on the path lets answers to its port in; -1: see below */
    uint32_t references;
    struct lm_remote *next;
    struct lm_remote_state *state; /* `own`, or the one that the BPF programs see too */
    struct lm_remote_state own;
    uint32_t number; /* the place of `state` in the map; LM_NO_REMOTE: `state` is `own` */
    /* The group leader, perhaps this remote itself: its `group` counts for the group (silence.h). NULL: no group. */
    struct lm_remote *head;
    uint32_t members; /* size of the group that it leads; all members are watched */
    bool is_watched;  /* true: in the list of remotes that are watched for silence */
    struct lm_remote *next_watched;
    struct lm_pacing pacing;
};

struct lm_locator_spec {
    struct lm_addr address;
    uint16_t port;
    uint8_t priority, weight;
    struct lm_addr source; /* family 0: none, and `fd` does not count */
    int fd;                /* -1: only the path of `source` uses it, past the relays of that path */
    bool is_relay;         /* an RTR: packets sealed for the peer travel from EID to EID */
    bool is_on_trial;      /* only the peer has announced it: it gets LM_TRIAL_PACKETS until it has answered */
};

/* The peer that packets of an entry are sealed for, and the version of its mapping. */
struct lm_seal_wish {
    uint32_t peer;        /* 0: none, packets leave in clear */
    bool must_seal;       /* packets never leave in clear */
    uint16_t map_version; /* RFC 9302, 0: none */
};

struct lm_locator_set {
    uint32_t references;
    uint32_t number; /* never reused */
    struct lm_locator_set *next;
    uint64_t hash;
    struct lm_seal_wish wish;
    atomic_int trial; /* packets that may still be sealed for the locators on trial */
    size_t count;
    struct lm_locator_spec *specs;
    struct lm_remote **remotes;
    uint64_t status,
        status_until; /* status_bits.c, inbound thread: bits last reported, when the next report may come */
    struct lm_contender *contenders; /* three arrays of `count`: one for each set of families that our uplinks have */
};

struct lm_locators;
struct lm_mirror;

struct lm_locators *lm_locators_new(void);
void lm_locators_free(struct lm_locators *all);
/* Copies all locators, also later ones, to the BPF programs; NULL: stops. */
void lm_locators_reflect(struct lm_locators *all, struct lm_mirror *mirror);
/* Returns the shared set of exactly these locators, with one more reference; NULL: out of memory. */
struct lm_locator_set *lm_locator_set_take(struct lm_locators *all, const struct lm_locator_spec *specs, size_t count);
/* Returns the same for packets that are sealed for a peer. */
struct lm_locator_set *lm_locator_set_take_sealed(struct lm_locators *all, const struct lm_locator_spec *specs,
                                                  size_t count, struct lm_seal_wish wish);
void lm_locator_set_drop(struct lm_locators *all, struct lm_locator_set *set);
/* Chooses the remote for a flow; `families`: of our uplinks, as bits. NULL: there is none. */
struct lm_remote *lm_locator_choose(const struct lm_locator_set *set, unsigned families, uint64_t flow);
/* Returns those of the families that have locators of the best priority. */
unsigned lm_locator_best_families(const struct lm_locator_set *set, unsigned families);
/* True when this many more packets may go to this remote; false: it is on trial, and its packets are used up. */
bool lm_locator_may_take(struct lm_locator_set *set, const struct lm_remote *remote, size_t packets);
bool lm_locator_set_holds(const struct lm_locator_set *set, const struct lm_addr *address);
struct lm_remote *lm_locator_find_remote(const struct lm_locators *all, const struct lm_addr *address, uint16_t port);
/* Sets the MTU of a path, given by its place, for all remotes of this address and port; octets, 0: unknown. */
void lm_locator_set_mtu(const struct lm_locators *all, const struct lm_addr *address, uint16_t port, size_t place,
                        uint32_t mtu);
/* Forgets all path MTUs: they belonged to the former uplinks. */
void lm_locator_forget_remotes(const struct lm_locators *all);
/* Adds a remote to the list of those watched for silence, or removes it. Needs the lock exclusive. */
void lm_locator_watch_remote(struct lm_locators *all, struct lm_remote *remote, bool is_watched);
/* Puts a watched remote into the group of `head`; NULL: into none. Needs the lock exclusive. */
void lm_locator_join_remotes(struct lm_remote *remote, struct lm_remote *head);
/* Returns the first watched remote; `next_watched` leads to the others. */
struct lm_remote *lm_locators_watched(const struct lm_locators *all);
/* Walks all remotes. Start with 0 and NULL; it returns NULL after the last. */
struct lm_remote *lm_locator_next_remote(const struct lm_locators *all, size_t *bucket, struct lm_remote *last);

#endif
