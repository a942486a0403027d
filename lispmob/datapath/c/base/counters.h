/* The counters: one for each thing that can happen to a packet. Every drop adds 1 to one of them. */
#ifndef LM_COUNTERS_H
#define LM_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#define LM_COUNTERS(X)                                                                                                 \
    X(data_packets)         /* inner packets handed to the TUN device */                                               \
    X(data_octets)          /* their octets */                                                                         \
    X(data_short)           /* shorter than a data header and an IPv4 header */                                        \
    X(data_key)             /* the KK bits name a key that we do not hold, or one that is too old */                   \
    X(data_replay)          /* a sealed packet that was received before, or is too old to be checked */                \
    X(data_tag)             /* a sealed packet whose tag is wrong: changed on the way, or sealed with another key */   \
    X(data_obfuscated)      /* opened by a key of RFC 8061 or lispers.net, which does not authenticate the sender */   \
    X(data_clear)           /* arrived in clear from an EID whose packets must be sealed */                            \
    X(data_keepalive)       /* sealed packets without content, which show that the peer is alive */                    \
    X(data_iid)             /* Instance-ID that is not ours */                                                         \
    X(data_inner)           /* inner version, lengths or header checksum; control that is not UDP 4342 */              \
    X(data_notours)         /* inner destination is not our EID, or a tunnel inside the tunnel */                      \
    X(data_source)          /* inner source is bogus, ours, or its mapping names another sender */                     \
    X(data_denied)          /* inner destination is one that this proxy forwards nothing to */                         \
    X(data_local)           /* came from this host itself, or pretends to */                                           \
    X(data_near)            /* inner source is in the network of an uplink, so it is no peer's */                      \
    X(data_unknown)         /* inner source without a mapping: delivered, and its mapping is asked for */              \
    X(data_unknown_limited) /* lost: a sender without a mapping exceeded its rate */                                   \
    X(data_moved)           /* of data_source those delivered later, when the mapping confirmed the sender */          \
    X(data_control_limited) /* control messages in Instance-ID 0xFFFFFF above the rate that a peer needs */            \
    X(data_ecn_drop)        /* congestion was marked on a packet that cannot carry the mark (RFC 6040) */              \
    X(data_ttl)             /* time to live reached 0 in the tunnel */                                                 \
    X(data_ecn_odd)         /* ECN combinations that RFC 6040 wants counted; delivered */                              \
    X(data_nonce)           /* N was set: delivered */                                                                 \
    X(data_lsb)             /* L was set: delivered; the ebpf tier counts only changed bits */                         \
    X(data_version)         /* V was set: delivered; the versions count only in sealed packets */                      \
    X(data_version_old)     /* of these, sealed: the peer has an old mapping of ours, and gets the new one */          \
    X(data_version_news)    /* of these, sealed: the peer has a newer mapping than we know, which is asked for */      \
    X(data_policy)          /* lost: sealed, with a Map-Version of ours that does not exist */                         \
    X(data_control)         /* control messages in Instance-ID 0xFFFFFF, passed on to the control plane */             \
    X(peer_asked)           /* locators asked whether they accept partial checksums and runs */                        \
    X(peer_answered)        /* such requests of others that were answered */                                           \
    X(peer_proven)          /* locators that answered */                                                               \
    X(peer_refused)         /* answers that prove nothing: late, forged, or from no locator of ours */                 \
    X(in_truncated)         /* larger than any IP packet, or its ancillary data was cut */                             \
    X(in_refused)           /* the TUN device refused the packet (is it down?) */                                      \
    X(out_packets)          /* inner packets that left through an uplink */                                            \
    X(out_obfuscated)       /* of these, datagrams that left by a key of RFC 8061 or lispers.net */                    \
    X(out_octets)           /* their octets */                                                                         \
    X(out_inner)            /* the TUN device gave something that is not an IP packet */                               \
    X(out_notlisp)          /* multicast, link-local, loopback, broadcast or our own EID as destination */             \
    X(out_source)           /* source is not our EID */                                                                \
    X(out_guard)            /* to a guarded address, or LISP traffic of our own RLOC: a tunnel in the tunnel */        \
    X(out_ttl)              /* time to live was 0 already */                                                           \
    X(out_miss)             /* misses reported to the control plane (once per EID while pending) */                    \
    X(out_pending)          /* packets kept until the mapping arrives; not a loss */                                   \
    X(out_pending_full)     /* lost: too many packets waited for a mapping */                                          \
    X(out_pending_aged)     /* lost: waited too long for a mapping */                                                  \
    X(out_pending_failed)   /* lost: the mapping could not be resolved */                                              \
    X(out_key_wait)         /* packets kept until there is a key to seal them with; not a loss */                      \
    X(out_unsealed)         /* lost: must not leave in clear, and no key came in time */                               \
    X(out_unproven)         /* lost: to a locator that only the peer has announced, which has not answered yet */      \
    X(out_drop)             /* the mapping says drop */                                                                \
    X(out_native)           /* the mapping says forward natively, but the packet came to the TUN device */             \
    X(out_nolocator)        /* no usable locator, or none of a family that an uplink has */                            \
    X(out_mark_fallback)    /* packets whose mark names no usable uplink, sent the default way; not a loss */          \
    X(out_mark_drop)        /* lost: the mark names no usable uplink, and the configuration says drop */               \
    X(out_stalled)          /* packets kept until an uplink arrives; not a loss */                                     \
    X(out_stalled_full)     /* lost: too many packets waited for an uplink */                                          \
    X(out_stalled_aged)     /* lost: waited too long for an uplink */                                                  \
    X(out_forbidden)        /* times that a firewall of this host refused (EPERM); the packet is counted apart */      \
    X(out_failover)         /* packets that left through another uplink because theirs refused */                      \
    X(out_held)             /* packets kept until their uplink has room; not a loss */                                 \
    X(out_busy)             /* lost: too many packets waited for room in an uplink's queue */                          \
    X(out_busy_aged)        /* lost: waited too long for room in an uplink's queue */                                  \
    X(out_repeated)         /* TCP packets sent again, because their flow takes another path now */                    \
    X(out_copies)           /* packets that also left by a second uplink, as a rule with copies asks */                \
    X(out_uncopied)         /* packets of such a rule that left once: in clear, or there is no second uplink */        \
    X(out_toobig)           /* lost: larger than the path MTU; the source got an ICMP error, unless limited */         \
    X(out_fragmented)       /* inner packets that we sent in fragments */                                              \
    X(out_outer_fragmented) /* outer packets that the kernel fragments (IPv6 minimum MTU) */                           \
    X(icmp_sent)            /* ICMP errors written to the TUN device */                                                \
    X(icmp_limited)         /* ICMP errors not sent: rate limit */                                                     \
    X(icmp_forbidden)       /* ICMP errors not sent: about an ICMP error, a multicast or a later fragment */           \
    X(mtu_learned)          /* path MTUs learned from ICMP, or from an uplink that refused a size */                   \
    X(mtu_ignored)          /* "too big" not accepted: about no packet of ours, or nothing new */                      \
    X(mtu_unproven)         /* "too big" that may be true: a probe checks it */                                        \
    X(out_large)            /* reports of large packets, which may exceed the path MTU */                              \
    X(punt_lost)            /* reports to the control plane lost, because it does not keep up */                       \
    X(uplink_refused)       /* an uplink's socket could not be opened */                                               \
    X(kernel_out_packets)   /* of out_packets those that the BPF programs moved (ebpf tier) */                         \
    X(kernel_data_packets)  /* of data_packets those that the BPF programs moved */                                    \
    X(tun_gone)             /* the TUN device was removed while in use */

enum lm_counter {
#define LM_ENUM(name) LM_##name,
    LM_COUNTERS(LM_ENUM)
#undef LM_ENUM
        LM_COUNTER_COUNT
};

struct lm_counters {
    _Atomic uint64_t value[LM_COUNTER_COUNT];
};

static inline void lm_count_many(struct lm_counters *c, enum lm_counter which, uint64_t by)
{
    atomic_fetch_add_explicit(&c->value[which], by, memory_order_relaxed);
}

static inline void lm_count(struct lm_counters *c, enum lm_counter which)
{
    lm_count_many(c, which, 1);
}

/* Returns the name of a counter; NULL after the last. */
const char *lm_counters_name(unsigned index);

#endif
