/*
 * Loads the BPF object through libbpf, which is looked for at run time only, and attaches its programs.
 *
 * Where the kernel has tcx (Linux 6.6) a program goes with the process that attached it, however that ends. Elsewhere it
 * is a filter of the classic kind, which has to be taken off: by us, or after a crash by the next start.
 */
#ifndef LM_LOADER_H
#define LM_LOADER_H

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

struct lm_bpf_object; /* the descriptors of a loaded object, and of what it is attached to */

/*
 * NULL: it cannot be; `why` then says so in words. `allows_tcx` false: as on a kernel without it. `is_rtr`: the program of
 * the uplinks is the one that passes packets on.
 */
struct lm_bpf_object *lm_bpf_object_load(const char *object, bool allows_tcx, bool is_rtr, char *why, size_t size);
void lm_bpf_object_free(struct lm_bpf_object *tier);
int lm_bpf_object_map(const struct lm_bpf_object *tier, enum lm_map map);
/* The filter of the socket that hears of links, addresses and routes. */
int lm_bpf_object_link_news(const struct lm_bpf_object *tier);
unsigned lm_bpf_object_processors(const struct lm_bpf_object *tier);
/* The program of the TUN, and those of the uplinks: these have it afterwards, beside those that had it. 0 or -errno. */
int lm_bpf_object_attach_device(struct lm_bpf_object *tier, int ifindex);
int lm_bpf_object_attach_uplinks(struct lm_bpf_object *tier, const int *ifindexes, size_t count);
/* Whether uplinks other than these have it, and taking it from them. */
bool lm_bpf_object_has_others(const struct lm_bpf_object *tier, const int *ifindexes, size_t count);
void lm_bpf_object_detach_others(struct lm_bpf_object *tier, const int *ifindexes, size_t count);
/* From all interfaces; whatever a program is doing just then it still finishes. */
void lm_bpf_object_detach(struct lm_bpf_object *tier);
bool lm_bpf_object_uses_tcx(const struct lm_bpf_object *tier);

#endif
