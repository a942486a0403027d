/*
 * Remote locators: the RLOCs of a mapping, and which of them a flow uses (RFC 9300 section 12).
 *
 * A remote (address and port) exists once, however many mappings name it, and so does a locator set: a forwarding entry
 * costs a pointer. The caller locks: choosing needs the shared lock, taking and dropping the exclusive one.
 */
#ifndef LM_LOCATOR_H
#define LM_LOCATOR_H

#include <stdatomic.h>

#include "base/address.h"
#include "liveness/silence.h"
#include "table/rendezvous.h"

#include "bpf/shared.h"

#define LM_LOCATORS_MAX 32
#define LM_TRIAL_PACKETS 256 /* ours: about what a call sends in the round trip of the answer */

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
    int fd;                /* with a source: the socket whose port a NAT in between lets answers in to; -1: see below */
    uint32_t references;
    struct lm_remote *next;
    struct lm_remote_state *state; /* `own`, or the one that the BPF programs see too */
    struct lm_remote_state own;
    uint32_t number; /* of `state` there; LM_NO_REMOTE: it is `own` */
    /* The group leader, whose `company` counts for it (silence.h), perhaps itself; NULL: none. */
    struct lm_remote *head;
    uint32_t members; /* the group that it leads: all of them are watched */
    bool is_watched;  /* for silence: in the list */
    struct lm_remote *next_watched;
};

struct lm_locator_spec {
    struct lm_addr address;
    uint16_t port;
    uint8_t priority, weight;
    struct lm_addr source; /* family 0: none, and `fd` does not count */
    int fd;                /* -1: on the path of `source` directly, past its relays; other paths ignore it */
    bool is_relay;         /* an RTR: packets sealed for the peer travel from EID to EID */
    bool is_on_trial;      /* announced by the peer alone: a limited number of packets until it has answered */
};

/* For whom packets of an entry are sealed, and by which of its mappings. */
struct lm_seal_wish {
    uint32_t peer;        /* 0: no peer, they leave in clear */
    bool must_seal;       /* they never leave in clear */
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
        /* Liveness/status_bits.c, the inbound thread's: the bits last reported, and until when the next report waits. */
        status_until;
    struct lm_contender *contenders; /* three times `count`: by the families of our uplinks, as bits, less 1 */
};

struct lm_locators;
struct lm_mirror;

struct lm_locators *lm_locators_new(void);
void lm_locators_free(struct lm_locators *all);
/* Copies all present and future locators to the BPF programs; NULL: stops. */
void lm_locators_reflect(struct lm_locators *all, struct lm_mirror *mirror);
/* The shared set of exactly these locators with one more reference; NULL: out of memory. */
struct lm_locator_set *lm_locator_set_take(struct lm_locators *all, const struct lm_locator_spec *specs, size_t count);
/* The same for packets that are sealed for a peer. */
struct lm_locator_set *lm_locator_set_take_sealed(struct lm_locators *all, const struct lm_locator_spec *specs,
                                                  size_t count, struct lm_seal_wish wish);
void lm_locator_set_drop(struct lm_locators *all, struct lm_locator_set *set);
/* The remote for a flow, given the families of our uplinks; NULL: none. */
struct lm_remote *lm_locator_choose(const struct lm_locator_set *set, unsigned families, uint64_t flow);
/* Of these families, those with locators of the best priority. */
unsigned lm_locator_best_families(const struct lm_locator_set *set, unsigned families);
/* Whether this many more packets may go to this remote; false: it is on trial, and its number is used up. */
bool lm_locator_may_take(struct lm_locator_set *set, const struct lm_remote *remote, size_t packets);
bool lm_locator_set_holds(const struct lm_locator_set *set, const struct lm_addr *address);
struct lm_remote *lm_locator_find_remote(const struct lm_locators *all, const struct lm_addr *address, uint16_t port);
/* Sets the MTU of a path, by its place, to all remotes of this address and port; 0: unknown. */
void lm_locator_set_mtu(const struct lm_locators *all, const struct lm_addr *address, uint16_t port, size_t place,
                        uint32_t mtu);
/* Forgets all path MTUs: they belonged to the former uplinks. */
void lm_locator_forget_remotes(const struct lm_locators *all);
/* Adds a remote to the list of those watched for silence, or removes it; exclusive. */
void lm_locator_watch_remote(struct lm_locators *all, struct lm_remote *remote, bool is_watched);
/* Puts a watched remote into the group of `head`; NULL: into none. Exclusive. */
void lm_locator_join_remotes(struct lm_remote *remote, struct lm_remote *head);
/* The first of that list, which `next_watched` continues. */
struct lm_remote *lm_locators_watched(const struct lm_locators *all);
/* Walks all remotes: start with 0 and NULL, ends with NULL. */
struct lm_remote *lm_locator_next_remote(const struct lm_locators *all, size_t *bucket, struct lm_remote *last);

#endif
