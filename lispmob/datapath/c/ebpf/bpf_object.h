/*
 * Loads the BPF object through libbpf, which is looked up at run time, and attaches its programs.
 *
 * If the kernel has tcx (Linux 6.6), it detaches the programs when the process ends, in whatever way. Otherwise a
 * program is a classic filter, which must be removed: by us, or after a crash by the next start.
 */
#ifndef LM_BPF_OBJECT_H
#define LM_BPF_OBJECT_H

#include <stdbool.h>
#include <stddef.h>

enum lm_map {
    LM_MAP_STATE,
    LM_MAP_REMOTES,
    LM_MAP_USED,
    LM_MAP_COUNTS,
    LM_MAP_TABLE,
    LM_MAP_SETS,
    LM_MAP_UPLINKS,
    LM_MAP_HEARD,
    LM_MAP_ADDRESSES,
    LM_MAP_WAYS,
    LM_MAP_ORIGINS,
    LM_MAP_LAST_PACKETS,
    LM_MAP_COUNT
};

struct lm_bpf_object; /* descriptors of a loaded object, and of its attachments */

/*
 * Loads the object. NULL: it failed, and `why` has the reason in words. `allows_tcx` false: does as on a kernel without
 * tcx. `is_rtr`: loads the uplink program that forwards packets.
 */
struct lm_bpf_object *lm_bpf_object_load(const char *object, bool allows_tcx, bool is_rtr, char *why, size_t size);
void lm_bpf_object_free(struct lm_bpf_object *tier);
int lm_bpf_object_map(const struct lm_bpf_object *tier, enum lm_map map);
/* Returns the filter for the netlink socket that receives changes of links, addresses and routes. */
int lm_bpf_object_link_news(const struct lm_bpf_object *tier);
unsigned lm_bpf_object_processors(const struct lm_bpf_object *tier);
/* Attaches to the TUN, or to these uplinks in addition to the present ones. 0 or -errno. */
int lm_bpf_object_attach_device(struct lm_bpf_object *tier, int ifindex);
int lm_bpf_object_attach_uplinks(struct lm_bpf_object *tier, const int *ifindexes, size_t count);
/* True when uplinks other than these have the program; and detaches from those. */
bool lm_bpf_object_has_others(const struct lm_bpf_object *tier, const int *ifindexes, size_t count);
void lm_bpf_object_detach_others(struct lm_bpf_object *tier, const int *ifindexes, size_t count);
/* Detaches from all interfaces. A running program still finishes. */
void lm_bpf_object_detach(struct lm_bpf_object *tier);
bool lm_bpf_object_uses_tcx(const struct lm_bpf_object *tier);

#endif
