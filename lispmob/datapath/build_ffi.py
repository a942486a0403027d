"""The cffi declaration of the C datapath. setup.py builds `lispmob.datapath._lispdp` from it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cffi import FFI

DIRECTORY = "lispmob/datapath"  # relative to setup.py, as setuptools wants it
C_DIRECTORY = f"{DIRECTORY}/c"
ROOMS = ("base", "packet", "table", "engine", "liveness", "nat", "seal", "ebpf")
"""The folders of c/; each may include the headers of all others, by `folder/file.h`."""

C_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion")
# Sealed packets need libcrypto: setup.py says whether its headers are there.
CRYPTO_FLAGS = ("-DLM_HAS_LIBCRYPTO",)
CRYPTO_LINKS = ("-lcrypto",)
_HAS_LIBCRYPTO = os.environ.get("LISPMOB_LIBCRYPTO") == "yes"


def sources() -> list[str]:
    """Every C file, relative to setup.py, as setuptools wants it."""
    root = Path(__file__).resolve().parents[2]
    return [str(path.relative_to(root)) for room in ROOMS for path in sorted((root / C_DIRECTORY / room).glob("*.c"))]


NUMBERS = """
    IFNAMSIZ LM_ASKING_OCTETS LM_HEARD_MAX LM_INTERVAL_MAX_NS LM_INTERVAL_MIN_NS LM_LOCATORS_MAX LM_PACED_FLOWS
    LM_PACING_WINDOW LM_PORT_CONTROL LM_PORT_DATA LM_PRIORITY_NEVER LM_QUERIES_MAX LM_RELAYS_MAX LM_SHARED_ENTRIES
    LM_SHARED_SETS
"""

ENUMS = """
    lm_disposition lm_source_check lm_near lm_punt_kind lm_mtu_source lm_data_port lm_flow_verdict lm_answer_seal
    lm_slow_reason lm_dialect lm_aead lm_session_slot lm_session_verdict lm_data_verdict lm_strip_verdict lm_icmp_kind
    lm_silence_kind
"""

# Ordered by containment.
STRUCTS = """
    lm_addr lm_prefix lm_key lm_locator_spec lm_uplink_spec lm_punt lm_mtu lm_traffic_with lm_config lm_seal_wish
    lm_install lm_heard lm_near_spec lm_lane lm_copying lm_question lm_answer lm_steer lm_session_spec lm_session_use
    lm_dialect_spec lm_dialect_use lm_asking_spec
    lm_inner lm_data lm_contender
"""

# Structs of which Python reads a part, or allocates.
PARTS = """
struct virtio_net_hdr { uint8_t flags, gso_type; uint16_t hdr_len, gso_size, csum_start, csum_offset; ...; };
typedef struct virtio_net_hdr lm_vnet;
struct iovec { void *iov_base; size_t iov_len; ...; };
struct lm_segments { size_t count, header, size; uint32_t pseudo; ...; };
struct lm_coalesce { bool takes_udp; size_t count; lm_vnet vnet; struct iovec vector[...]; ...; };
struct lm_remote { struct lm_addr address; uint16_t port; ...; };
struct lm_entry { void *value; uint8_t kind; uint8_t length; struct lm_addr address; ...; };
struct lm_query { uint32_t instance_id; const struct lm_addr *address; struct lm_entry *entry; ...; };
struct lm_silence { ...; };
struct lm_pacing { uint32_t interval_ns; ...; };
struct lm_paced_flow { uint32_t flow, next; };
struct lm_replay { ...; };
struct lm_peers { struct lm_table *refused; ...; };
"""

ENGINE = """
    lm_engine_new lm_engine_offload lm_engine_open lm_engine_listen lm_engine_start lm_engine_stop lm_engine_free
    lm_engine_set_uplinks lm_data_port_send_control lm_data_port_socket lm_engine_mark_move lm_engine_repeat_last
    lm_engine_set_eids lm_engine_set_guard lm_engine_install_sealed lm_engine_install_many lm_engine_remove
    lm_engine_drop_pending lm_asking_add lm_asking_clear lm_asking_send lm_engine_wake_fd lm_engine_has_reports
    lm_engine_drain lm_engine_counters lm_engine_used
    lm_source_set_near lm_source_set_check lm_engine_heard lm_path_mtu_report_large lm_path_mtu_set
    lm_engine_mtus lm_engine_traffic lm_counters_name lm_silence_set_patience lm_status_bits_use
    lm_echo_nonce_use lm_echo_nonce_ask lm_lane_set_all lm_explain lm_mark_steering_load
    lm_mark_steering_attach lm_bpf_object_load lm_bpf_object_uses_tcx lm_reflect_reason lm_reflect_start
    lm_reflect_stop lm_reflect_state lm_reflect_settle lm_engine_rest
    lm_rendezvous_identity lm_rendezvous_choose
"""

# Sealed packets: the interface of engine/sealing.c, and the pure functions below it.
SEALED = """
    lm_engine_install_session lm_engine_forget_session lm_engine_forget_peer lm_engine_set_clear_refused
    lm_engine_send_keepalive lm_engine_say lm_engine_sessions lm_engine_wear_session lm_aead_is_built lm_aead_library
    lm_aead_name lm_aead_chosen lm_aead_new_by lm_aead_free lm_aead_seal lm_aead_open
    lm_replay_init lm_replay_may lm_replay_mark lm_session_new lm_session_free lm_session_may_send
    lm_session_may_receive lm_session_is_rekey_due lm_session_take lm_session_seal lm_session_open
    lm_session_covers lm_peers_new lm_peers_free lm_peers_install lm_peers_forget lm_peers_forget_peer
    lm_peers_find_session lm_peers_sender lm_peers_confirm lm_peers_may_send lm_peers_set_sources
    lm_engine_set_sources lm_map_version_use lm_map_version_is_newer lm_dialect_install lm_dialect_forget
    lm_dialect_used lm_dialect_session lm_dialect_seal lm_dialect_open_one
"""

# Pure functions: called only by the tests, which compare them with the oracle in tests/datapath/oracle.
PURE = """
    lm_hash lm_cable_driver_is_whole lm_peer_check_nonce lm_address_may_be_eid lm_packet_parse
    lm_packet_flow_hash lm_lisp_header_parse lm_lisp_header_write lm_lisp_header_put_status
    lm_lisp_header_put_nonce lm_lisp_header_put_versions
    lm_packet_strip lm_icmp_build lm_fragment_count lm_fragment_write
    lm_segment_complete_vnet lm_segments_read lm_segment_write lm_coalesce_start lm_coalesce_join
    lm_coalesce_finish lm_locators_new lm_locators_free
    lm_locator_set_take lm_locator_choose lm_silence_sent lm_silence_tick lm_silence_due lm_silence_arrived
    lm_silence_watch lm_pacing_count lm_pacing_read lm_pacing_wait_ns
    lm_table_new lm_table_free lm_table_count lm_table_find lm_table_insert lm_table_remove
    lm_table_lookup lm_table_lookup_many lm_table_settle lm_table_memory lm_table_next lm_table_has_instance
"""


class Headers:
    """The C headers, and the parts that cffi can read: a declaration is written once, in C."""

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[2] / C_DIRECTORY
        texts = [path.read_text() for room in ROOMS for path in sorted((root / room).glob("*.h"))]
        self._text = re.sub(r"/\*.*?\*/", "", "\n".join(texts), flags=re.DOTALL)

    def enum(self, name: str) -> str:
        """The enumerators; the compiler gives their values."""
        found = self._cut(rf"^enum {name} \{{(.*?)\}};", name)
        names = [part.partition("=")[0].strip() for part in found[1].split(",")]
        return f"enum {name} {{ {', '.join(filter(None, names))}, ... }};"

    def struct(self, name: str) -> str:
        """The members; the compiler gives sizes and offsets, and the length of an array with a named bound."""
        found = self._cut(rf"^struct {name} \{{.*?^\}};", name)[0]
        return re.sub(r"\[[A-Z]\w*\]", "[...]", found).replace("};", "    ...;\n};")

    def function(self, name: str) -> str:
        """The declaration."""
        found = self._cut(rf"^(?!static\b)[a-z][\w *]*\b{name}\([^;{{]*\);", name)[0]
        return re.sub(r"\[[A-Z]\w*\]", "[]", found)  # of a parameter

    def _cut(self, pattern: str, name: str) -> re.Match[str]:
        found = re.search(pattern, self._text, re.MULTILINE | re.DOTALL)
        if found is None:
            raise ValueError(f"{name}: no header in {C_DIRECTORY} declares it")
        return found


def declarations() -> str:
    """All declarations of C that Python may use, for cffi. ValueError for a name that no header has."""
    headers = Headers()
    parts = [f"#define {name} ..." for name in NUMBERS.split()]
    parts += map(headers.enum, ENUMS.split())
    parts += map(headers.struct, STRUCTS.split())
    parts.append(PARTS)
    parts += map(headers.function, (ENGINE + SEALED + PURE).split())
    return "\n".join(parts)


# The flags are for our own code, not for the generated glue.
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
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "lispmob.datapath._lispdp",
    PREAMBLE,
    sources=sources(),
    include_dirs=[C_DIRECTORY, DIRECTORY],
    extra_compile_args=[*C_FLAGS, *(CRYPTO_FLAGS if _HAS_LIBCRYPTO else ())],
    extra_link_args=["-pthread", *(CRYPTO_LINKS if _HAS_LIBCRYPTO else ())],
    py_limited_api=True,
)
