"""The cffi declaration of the C datapath, and nothing else. setup.py builds `lispmob.datapath._lispdp` from it."""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

DIRECTORY = "lispmob/datapath"  # relative to setup.py, as setuptools wants it
C_DIRECTORY = f"{DIRECTORY}/c"
ROOMS = ("base", "packet", "table", "engine", "liveness", "nat", "seal", "ebpf")
"""The folders of c/; a room may use the headers of all of them, by `room/file.h`."""

C_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion")
# Sealed packets need libcrypto: setup.py says whether its headers are there.
CRYPTO_FLAGS = ("-DLM_HAS_LIBCRYPTO",)
CRYPTO_LINKS = ("-lcrypto",)
_HAS_LIBCRYPTO = os.environ.get("LISPMOB_LIBCRYPTO") == "yes"


def sources() -> list[str]:
    """Every C file, relative to setup.py, as setuptools wants it."""
    root = Path(__file__).resolve().parents[2]
    return [str(path.relative_to(root)) for room in ROOMS for path in sorted((root / C_DIRECTORY / room).glob("*.c"))]


VALUES = """
struct lm_addr { uint8_t family; uint8_t octets[16]; };
struct lm_prefix { uint32_t instance_id; uint8_t length; struct lm_addr address; ...; };
struct lm_locator_spec {
    struct lm_addr address; uint16_t port; uint8_t priority, weight; struct lm_addr source; int fd;
    bool is_relay, is_on_trial; ...;
};
struct lm_uplink_spec {
    int ifindex; char interface[16]; struct lm_addr address; uint8_t priority, weight; bool is_sender; uint32_t mtu;
    uint8_t data_port; size_t relay_count; struct lm_locator_spec relays[8]; bool admits_others, passes_zero;
    int error; ...;
};
struct lm_punt {
    uint8_t kind; uint32_t instance_id; struct lm_addr source, destination; uint16_t source_port, destination_port;
    struct lm_addr outer_source; uint16_t outer_source_port; struct lm_addr outer_destination; bool is_registered;
    int ifindex; uint32_t mtu; uint8_t mtu_source; bool is_outbound, is_flowing, is_alone;
    uint32_t peer, local_index;
    uint32_t status; uint8_t status_width; uint64_t at_ns, before_ns; uint32_t length;
    uint8_t payload[4096]; ...;
};
struct lm_mtu { struct lm_addr local, address; uint16_t port; uint32_t mtu; ...; };
struct lm_sent_to { struct lm_addr address; uint16_t port; uint64_t packets; ...; };
struct lm_config {
    uint64_t key0, key1; bool is_rtr, is_proxy, copy_dscp, udp_checksum, pins_threads; uint8_t source_check;
    uint16_t data_port;
    uint32_t proxy_instance_id;
    uint32_t source_port_pool, mark, pending_per_entry, pending_total; uint64_t pending_age_ns; ...;
};
#define LM_HEARD_MAX ...
#define LM_SHARED_ENTRIES ...
#define LM_SHARED_SETS ...
#define LM_LOCATORS_MAX ...
#define LM_RELAYS_MAX ...
"""

ENGINE = """
struct lm_engine;
struct lm_engine *lm_engine_new(const struct lm_config *config);
void lm_engine_offload(struct lm_engine *e, bool has_vnet, bool takes_udp);
int lm_engine_open(struct lm_engine *e, int tun);
int lm_engine_start(struct lm_engine *e);
void lm_engine_stop(struct lm_engine *e);
void lm_engine_free(struct lm_engine *e);
int lm_engine_set_uplinks(struct lm_engine *e, struct lm_uplink_spec *specs, size_t count);
int lm_data_port_send_control(struct lm_engine *e, const struct lm_addr *source, int ifindex, int data_port,
                           const struct lm_addr *destination, uint16_t port, const uint8_t *payload, size_t length);
int lm_data_port_socket(const struct lm_engine *e, int family);
void lm_engine_mark_move(struct lm_engine *e);
int lm_engine_set_eids(struct lm_engine *e, const struct lm_prefix *prefixes, size_t count);
int lm_engine_set_guard(struct lm_engine *e, const struct lm_prefix *prefixes, size_t count);
struct lm_seal_wish { uint32_t peer; bool must_seal; };
int lm_engine_install_sealed(struct lm_engine *e, const struct lm_prefix *prefix, int disposition,
                             const struct lm_locator_spec *locators, size_t count, struct lm_seal_wish wish);
struct lm_install {
    struct lm_prefix prefix; uint32_t first; uint8_t count, disposition; bool must_seal; uint32_t peer; ...;
};
int lm_engine_install_many(struct lm_engine *e, const struct lm_install *items, size_t count,
                           const struct lm_locator_spec *locators);
int lm_engine_remove(struct lm_engine *e, const struct lm_prefix *prefix);
int lm_engine_drop_pending(struct lm_engine *e, const struct lm_prefix *prefix);
int lm_engine_wake_fd(const struct lm_engine *e);
size_t lm_engine_drain(struct lm_engine *e, struct lm_punt *into, size_t most);
void lm_engine_counters(struct lm_engine *e, uint64_t *into);
size_t lm_engine_used(struct lm_engine *e, uint32_t *cursor, struct lm_prefix *into, size_t most);
struct lm_heard { struct lm_addr source, local; ...; };
struct lm_near_spec { struct lm_prefix prefix; uint8_t kind; ...; };
int lm_source_set_near(struct lm_engine *e, const struct lm_near_spec *near, size_t count);
void lm_source_set_check(struct lm_engine *e, int check);
size_t lm_engine_heard(struct lm_engine *e, struct lm_heard *into);
void lm_path_mtu_tell_large(struct lm_engine *e, bool tells);
void lm_path_mtu_set(struct lm_engine *e, const struct lm_addr *local, const struct lm_addr *address, uint16_t port,
                       uint32_t mtu);
size_t lm_engine_mtus(struct lm_engine *e, struct lm_mtu *into, size_t most);
size_t lm_engine_sent(struct lm_engine *e, struct lm_sent_to *into, size_t most);
const char *lm_counters_name(unsigned index);
void lm_silence_set_patience(struct lm_engine *e, const struct lm_addr *address, uint64_t quick, uint64_t slow,
                            const struct lm_addr *head);
void lm_status_bits_use(struct lm_engine *e, bool heeds, bool tells, uint32_t bits);
void lm_echo_nonce_use(struct lm_engine *e, bool echoes);
bool lm_echo_nonce_ask(struct lm_engine *e, const struct lm_addr *address, bool asks, uint32_t nonce);
struct lm_lane { int fd, ifindex; uint32_t mark, queue; int into; };
int lm_lane_set_all(struct lm_engine *e, const struct lm_lane *lanes, size_t count, bool drops_unusable);
struct lm_question {
    struct lm_addr source, destination; uint8_t protocol; bool has_ports; uint16_t source_port, destination_port;
    int lane; ...;
};
struct lm_answer {
    int fate; bool has_entry; struct lm_prefix entry; uint64_t flow; bool by_mark; int ifindex;
    struct lm_addr local, remote, mapped; uint16_t port; bool is_relayed; uint8_t seal; ...;
};
void lm_explain(struct lm_engine *e, const struct lm_question *question, struct lm_answer *answer);
struct lm_steer { uint32_t mark; uint32_t queue; };
int lm_mark_steering_load(uint32_t mask, const struct lm_steer *routes, size_t count, uint32_t other);
int lm_mark_steering_attach(int tun, int program);
struct lm_bpf_object;
struct lm_bpf_object *lm_bpf_object_load(const char *object, bool allows_tcx, bool is_rtr, char *why, size_t size);
bool lm_bpf_object_uses_tcx(const struct lm_bpf_object *tier);
int lm_reflect_reason(struct lm_engine *e, size_t place, char *interface, uint8_t *family);
int lm_reflect_start(struct lm_engine *e, struct lm_bpf_object *tier, int device, uint32_t mark_mask);
void lm_reflect_stop(struct lm_engine *e);
int lm_reflect_state(struct lm_engine *e);
void lm_reflect_settle(struct lm_engine *e);
"""

# Sealed packets: the face of engine/sealing.c, and what is pure below it.
SEALED = """
struct lm_session_spec {
    uint32_t peer, local_index, remote_index, instance_id; uint8_t send_key[32], receive_key[32]; uint8_t aead;
    bool is_confirmed; size_t source_count; const struct lm_prefix *sources; ...;
};
struct lm_session_use {
    uint32_t peer, local_index; uint8_t slot; uint64_t sent, opened, age_ns, idle_ns; ...;
};
int lm_engine_install_session(struct lm_engine *e, const struct lm_session_spec *spec);
bool lm_engine_forget_session(struct lm_engine *e, uint32_t local_index);
void lm_engine_forget_peer(struct lm_engine *e, uint32_t peer);
int lm_engine_set_clear_refused(struct lm_engine *e, const struct lm_prefix *prefixes, size_t count);
bool lm_engine_send_keepalive(struct lm_engine *e, uint32_t peer);
bool lm_engine_say(struct lm_engine *e, uint32_t peer, const uint8_t *payload, size_t length);
size_t lm_engine_sessions(struct lm_engine *e, struct lm_session_use *into, size_t most);
bool lm_engine_wear_session(struct lm_engine *e, uint32_t local_index, uint64_t age_ns, uint64_t sent);
bool lm_aead_is_built(void);
uint64_t lm_aead_time(int aead);
struct lm_replay { ...; };
void lm_replay_init(struct lm_replay *window);
bool lm_replay_may(struct lm_replay *window, uint64_t counter);
bool lm_replay_mark(struct lm_replay *window, uint64_t counter);
struct lm_session;
struct lm_session *lm_session_new(const struct lm_session_spec *spec, uint64_t now);
void lm_session_free(struct lm_session *session);
bool lm_session_may_send(const struct lm_session *session, uint64_t now);
bool lm_session_may_receive(const struct lm_session *session, uint64_t now);
bool lm_session_is_rekey_due(const struct lm_session *session, uint64_t now);
bool lm_session_take(struct lm_session *session, uint64_t count, uint64_t *first);
size_t lm_session_seal(struct lm_session *session, unsigned thread, uint64_t counter, const struct iovec *parts,
                       size_t count, uint8_t *out);
int lm_session_open(struct lm_session *session, unsigned thread, uint8_t *datagram, size_t length, uint64_t now);
bool lm_session_covers(const struct lm_session *session, const struct lm_addr *source);
struct lm_peers;
struct lm_peers *lm_peers_new(const struct lm_key *key);
void lm_peers_free(struct lm_peers *peers);
int lm_peers_install(struct lm_peers *peers, const struct lm_session_spec *spec, uint64_t now);
bool lm_peers_forget(struct lm_peers *peers, uint32_t local_index);
void lm_peers_forget_peer(struct lm_peers *peers, uint32_t number);
struct lm_session *lm_peers_find_session(const struct lm_peers *peers, uint32_t local_index);
struct lm_session *lm_peers_sender(const struct lm_peers *peers, uint32_t number, uint64_t now);
bool lm_peers_confirm(struct lm_peers *peers, struct lm_session *session);
bool lm_peers_may_send(const struct lm_peers *peers, const struct lm_session *session, const struct lm_addr *source);
"""

# The pure functions: only the tests call these, to compare them with the oracle in tests/datapath/oracle.
PURE = """
struct lm_key { uint64_t k0, k1; };
uint64_t lm_hash(const struct lm_key *key, const uint64_t *words, size_t count);
struct lm_inner {
    struct lm_addr source, destination; uint8_t version, tos, ttl, protocol;
    bool is_fragment, is_later_fragment, dont_fragment, has_ports; uint16_t source_port, destination_port;
    size_t header, length; ...;
};
struct lm_data { uint32_t instance_id; uint8_t flags; uint32_t nonce, second; struct lm_inner inner; ...; };
bool lm_cable_driver_is_whole(const char *driver, const char *bus);
uint64_t lm_peer_check_nonce(const struct lm_key *key, const struct lm_addr *address, uint16_t port, uint64_t now);
bool lm_address_may_be_eid(const struct lm_addr *a);
bool lm_packet_parse(const uint8_t *packet, size_t length, struct lm_inner *out);
uint64_t lm_packet_flow_hash(const struct lm_key *key, const struct lm_inner *inner);
int lm_lisp_header_parse(const uint8_t *datagram, size_t length, struct lm_data *out);
void lm_lisp_header_write(uint8_t *header, uint32_t instance_id);
void lm_lisp_header_put_status(uint8_t *header, uint32_t bits);
void lm_lisp_header_put_nonce(uint8_t *header, uint32_t nonce, bool wants_echo);
int lm_packet_strip(uint8_t *packet, const struct lm_inner *inner, uint8_t outer_ttl, uint8_t outer_tos,
                    bool copy_dscp);
size_t lm_icmp_build(uint8_t *out, int kind, uint32_t mtu, const struct lm_addr *source, const uint8_t *packet,
                     const struct lm_inner *inner);
size_t lm_fragment_count(const uint8_t *packet, const struct lm_inner *inner, size_t limit);
size_t lm_fragment_write(uint8_t *out, const uint8_t *packet, const struct lm_inner *inner, size_t index, size_t count);
struct virtio_net_hdr { uint8_t flags, gso_type; uint16_t hdr_len, gso_size, csum_start, csum_offset; ...; };
typedef struct virtio_net_hdr lm_vnet;
struct lm_segments { size_t count, header, size; uint32_t pseudo; ...; };
bool lm_segment_complete_vnet(lm_vnet *vnet, uint8_t *packet, size_t length);
bool lm_segments_read(const lm_vnet *vnet, const uint8_t *packet, const struct lm_inner *inner,
                      struct lm_segments *out);
size_t lm_segment_write(uint8_t *out, const uint8_t *packet, const struct lm_inner *inner,
                        const struct lm_segments *segments, size_t index);
struct iovec { void *iov_base; size_t iov_len; ...; };
struct lm_coalesce { bool takes_udp; size_t count; lm_vnet vnet; struct iovec vector[...]; ...; };
void lm_coalesce_start(struct lm_coalesce *merge, const uint8_t *packet, const struct lm_inner *inner);
bool lm_coalesce_join(struct lm_coalesce *merge, const uint8_t *packet, const struct lm_inner *inner);
size_t lm_coalesce_finish(struct lm_coalesce *merge);
struct lm_contender { uint64_t identity; uint8_t priority, weight; };
uint64_t lm_rendezvous_identity(const void *data, size_t length);
int lm_rendezvous_choose(const struct lm_contender *contenders, size_t count, uint64_t flow);
struct lm_locators;
struct lm_locators *lm_locators_new(void);
void lm_locators_free(struct lm_locators *all);
struct lm_locator_set;
struct lm_remote { struct lm_addr address; uint16_t port; ...; };
struct lm_locator_set *lm_locator_set_take(struct lm_locators *all, const struct lm_locator_spec *specs, size_t count);
struct lm_remote *lm_locator_choose(const struct lm_locator_set *set, unsigned families, uint64_t flow);
struct lm_silence { ...; };
int lm_silence_sent(struct lm_silence *s, uint64_t now, uint32_t octets);
int lm_silence_tick(struct lm_silence *s, uint64_t now);
uint64_t lm_silence_due(const struct lm_silence *s);
bool lm_silence_arrived(struct lm_silence *s, uint64_t now);
void lm_silence_watch(struct lm_silence *s, uint64_t quick, uint64_t slow);
struct lm_entry { void *value; uint8_t kind; uint8_t length; struct lm_addr address; ...; };
struct lm_table;
struct lm_table *lm_table_new(const struct lm_key *key);
void lm_table_free(struct lm_table *table);
size_t lm_table_count(const struct lm_table *table);
struct lm_entry *lm_table_find(const struct lm_table *table, const struct lm_prefix *prefix);
struct lm_entry *lm_table_insert(struct lm_table *table, const struct lm_prefix *prefix);
bool lm_table_remove(struct lm_table *table, const struct lm_prefix *prefix);
struct lm_entry *lm_table_lookup(const struct lm_table *table, uint32_t instance_id, const struct lm_addr *address);
struct lm_query { uint32_t instance_id; const struct lm_addr *address; struct lm_entry *entry; ...; };
#define LM_QUERIES_MAX ...
void lm_table_lookup_many(const struct lm_table *table, struct lm_query *queries, size_t count);
bool lm_table_settle(struct lm_table *table);
size_t lm_table_memory(const struct lm_table *table);
struct lm_entry *lm_table_next(const struct lm_table *table, uint32_t *cursor);
bool lm_table_has_instance(const struct lm_table *table, uint32_t instance_id);
"""

# The generated glue is not ours to polish; the flags are for what we write.
PREAMBLE = """
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wcast-function-type"
#include "ebpf/bpf_object.h"
#include "ebpf/mark_steering.h"
#include "engine/engine.h"
#include "packet/coalesce.h"
#include "packet/fragment.h"
#include "table/cable.h"
"""

ffibuilder = FFI()
ffibuilder.cdef(VALUES + ENGINE + PURE + SEALED)
ffibuilder.set_source(
    "lispmob.datapath._lispdp",
    PREAMBLE,
    sources=sources(),
    include_dirs=[C_DIRECTORY, DIRECTORY],
    extra_compile_args=[*C_FLAGS, *(CRYPTO_FLAGS if _HAS_LIBCRYPTO else ())],
    extra_link_args=["-pthread", *(CRYPTO_LINKS if _HAS_LIBCRYPTO else ())],
    py_limited_api=True,
)
