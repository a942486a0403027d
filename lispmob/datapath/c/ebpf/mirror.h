/*
 * The kernel's copy of the tun tier's tables. Every update goes to the tun tier first and then here, so that a packet
 * that the BPF programs pass on is always handled correctly. If the kernel refuses an update, the whole copy is
 * switched off: an incomplete table would misroute packets.
 *
 * Callers hold the writer mutex. Functions that change pointers which the threads follow also need the table lock,
 * exclusively.
 */
#ifndef LM_MIRROR_H
#define LM_MIRROR_H

#include <net/if.h>

#include "ebpf/bpf_object.h"
#include "table/locator.h"
#include "table/table.h"

#include "bpf/shared.h"

struct lm_engine;
struct lm_mirror;

/*
 * The source of delivered data, and our RLOC that it came to. Proven: by the mapping of the inner source, or by its
 * seal.
 */
struct lm_heard {
    struct lm_addr source, local;
    bool is_proven;
};

/* Makes a mirror. NULL: *error is a negative errno. It takes over the tier, also when it fails. */
struct lm_mirror *lm_mirror_new(struct lm_bpf_object *tier, int device, int *error);
void lm_mirror_free(struct lm_mirror *mirror);
/* Returns 0, or the negative errno that switched it off. */
int lm_mirror_error(const struct lm_mirror *mirror);
struct lm_shared_state *lm_mirror_state(const struct lm_mirror *mirror);
struct lm_last_packet *lm_mirror_last_packets(const struct lm_mirror *mirror);
struct lm_bpf_object *lm_mirror_tier(const struct lm_mirror *mirror);

/* Makes the programs decide again about each flow, from the next packet on. */
void lm_mirror_changed(struct lm_mirror *mirror);

void lm_mirror_remote(struct lm_mirror *mirror, struct lm_remote *remote, bool is_first);
void lm_mirror_remote_gone(struct lm_mirror *mirror, struct lm_remote *remote);
void lm_mirror_set(struct lm_mirror *mirror, const struct lm_locator_set *set);
/*
 * Records that data of an inner source comes from this outer source, so the programs of an RTR forward it without a
 * report.
 */
void lm_mirror_origin(const struct lm_mirror *mirror, const struct lm_addr *inner, const struct lm_addr *outer,
                      uint16_t port);
void lm_mirror_set_gone(struct lm_mirror *mirror, const struct lm_locator_set *set);
void lm_mirror_entry(struct lm_mirror *mirror, const struct lm_table *table, const struct lm_entry *entry);
void lm_mirror_entry_gone(struct lm_mirror *mirror, const struct lm_prefix *prefix);
/* Replaces the whole table of a space; `old` may be NULL. */
void lm_mirror_replace(struct lm_mirror *mirror, enum lm_space space, const struct lm_table *old,
                       const struct lm_table *fresh);
/* Sets an address of our own. place LM_SHARED_PATHS: nothing is sent from it; -1: removes it. */
void lm_mirror_rloc(struct lm_mirror *mirror, const struct lm_addr *address, int place);
void lm_mirror_uplinks(struct lm_mirror *mirror, const struct lm_shared_uplinks *uplinks);
/*
 * Records whether redirected packets to an IPv6 address leave by the interface, at that count of route changes. False:
 * there was no room, and all results were removed to make some. For any thread.
 */
bool lm_mirror_way(const struct lm_mirror *mirror, int ifindex, uint32_t routes, const struct lm_addr *to,
                   bool is_straight);

/* True when packets were forwarded by the entry since the last call. */
bool lm_mirror_take_used(struct lm_mirror *mirror, const struct lm_table *table, const struct lm_entry *entry);
size_t lm_mirror_take_heard(struct lm_mirror *mirror, struct lm_heard *into, size_t most);
void lm_mirror_counts(const struct lm_mirror *mirror, struct lm_shared_counts *sum);

/* reflect.c: connects an engine to its mirror. */
int lm_reflect_start(struct lm_engine *e, struct lm_bpf_object *tier, int device, uint32_t mark_mask);
void lm_reflect_stop(struct lm_engine *e);
/* Returns 1: the copy of the kernel is in use; 0: there is none; otherwise the negative errno that switched it off. */
int lm_reflect_state(struct lm_engine *e);
/* Why the programs do not send by a path. */
enum lm_slow_reason {
    LM_SLOW_NOT = 0,
    LM_SLOW_NO_ETHERNET = 1, /* its packets lack the Ethernet header that the programs expect */
    LM_SLOW_LINK_LOCAL = 2,
    LM_SLOW_CHECKSUM =
        3 /* it needs UDP checksums, which programs cannot request: by configuration, a NAT, or IPv6 to an RTR */
};
/* Returns the reason for the path at that place, and its interface; -1: after the last. */
int lm_reflect_reason(struct lm_engine *e, size_t place, char interface[IFNAMSIZ], uint8_t *family);
/* Waits until the programs are attached to the uplinks. */
void lm_reflect_settle(struct lm_engine *e);
void lm_reflect_uplinks(struct lm_engine *e, const struct lm_addr *old, size_t old_count);
void lm_reflect_lanes(struct lm_engine *e);

#endif
