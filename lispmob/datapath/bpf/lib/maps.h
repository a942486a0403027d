/* The maps, and the lookups in them. The C side (mirror.c) fills them. */
#ifndef LM_MAPS_H
#define LM_MAPS_H

#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "shared.h"

#include "base/rules.h"
#include "base/siphash.h"

#define OUT_FLOWS 1024 /* per processor; a power of two */
#define IN_FLOWS 256
#define FALL_THROUGH (-1) /* TCX_NEXT and TC_ACT_UNSPEC: as if no program were attached */

#ifndef BPF_F_ADJ_ROOM_DECAP_L3_IPV4 /* Linux 6.3 */
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV4 (1ull << 7)
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV6 (1ull << 8)
#endif

#define V4 1u
#define V6 2u
#define ASK_AGAIN_NS 1000000ull /* the tun tier's thread has not run yet, or the packet was lost */

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct lm_shared_state);
} state SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, LM_SHARED_REMOTES);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct lm_remote_state);
} remotes SEC(".maps");

struct used_page {
    __u8 is_used[LM_SHARED_USED_PAGE];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, LM_SHARED_USED_PAGES);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct used_page);
} used SEC(".maps");

/* One for each processor; the loader sets the number. A plain array, because a per-CPU array cannot be mapped. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct lm_shared_counts);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(max_entries, LM_SHARED_ENTRIES + LM_SHARED_SPARE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct lm_trie_key);
    __type(value, struct lm_trie_value);
} table SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, LM_SHARED_SETS);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, __u32);
    __type(value, struct lm_shared_set);
} sets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, __u32);
    __type(value, struct lm_shared_uplinks);
} uplinks SEC(".maps");

/*
 * Whether the kernel routes redirected packets correctly (ebpf/route_check.h). The tun tier reports it after it has
 * sent to the locator.
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, LM_SHARED_WAYS);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct lm_shared_way);
    __type(value, __u32);
} ways SEC(".maps");

/* The senders of delivered data. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1024);
    __type(key, struct lm_shared_heard);
    __type(value, __u32);
} heard SEC(".maps");

/* The origins whose data is forwarded without a report (nat/rtr.c). The loader keeps it small if there is no RTR. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, LM_SHARED_ORIGINS);
    __type(key, struct lm_shared_origin);
    __type(value, __u32);
} origins SEC(".maps");

/* The packets that are sent again when their flow takes another path (liveness/last_packet.c). */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, LM_LAST_PACKETS);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct lm_last_packet);
} last_packets SEC(".maps");

/* Maps a locator at the data port to its place in `remotes`. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, LM_SHARED_REMOTES);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct lm_shared_address);
    __type(value, __u32);
} addresses SEC(".maps");

/* NULL: the locator has no group. */
static __always_inline struct lm_silence *group_of(struct lm_remote_state *remote)
{
    __u32 place = remote->head;
    struct lm_remote_state *head = bpf_map_lookup_elem(&remotes, &place);
    return head ? &head->group : NULL;
}

static __always_inline __u64 first_half(bool is_v4, __u64 high)
{
    return bpf_cpu_to_be64(is_v4 ? high << 32 : high);
}

/* A separate function: each copy would have its own key on the stack, which has 512 octets for all frames. */
static __noinline struct lm_trie_value *find(__u32 space, bool is_v4, __u32 instance_id, __u64 high, __u64 low)
{
    struct {
        struct lm_trie_key key;
    } at;
    __u64 halves[2] = {first_half(is_v4, high), bpf_cpu_to_be64(low)};
    at.key.bits = LM_TRIE_HEAD_BITS + (is_v4 ? 32 : 128);
    at.key.space = (__u8)(space + (is_v4 ? 0 : 1));
    at.key.instance_id[0] = (__u8)(instance_id >> 16);
    at.key.instance_id[1] = (__u8)(instance_id >> 8);
    at.key.instance_id[2] = (__u8)instance_id;
    __builtin_memcpy(at.key.address, halves, sizeof halves);
    return bpf_map_lookup_elem(&table, &at.key);
}

static __always_inline struct lm_shared_address make_address(bool is_v4, __u64 high, __u64 low)
{
    struct lm_shared_address made = {.family = is_v4 ? 4 : 6};
    __u64 halves[2] = {first_half(is_v4, high), bpf_cpu_to_be64(low)};
    __builtin_memcpy(made.octets, halves, sizeof halves);
    return made;
}

/* Hashes with the key of this engine, so that a remote host cannot choose flows that collide. */
static __always_inline __u64 slot_of(const struct lm_shared_state *s, const __u64 *words, __u32 count)
{
    __u64 mixed = s->key1;
    for (__u32 i = 0; i < count; i++) {
        mixed = (mixed ^ words[i]) * 0x9e3779b97f4a7c15ull;
        mixed ^= mixed >> 29;
    }
    return mixed >> 40;
}

#endif
