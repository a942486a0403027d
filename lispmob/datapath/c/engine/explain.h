/*
 * What would happen to a packet of a flow, without sending one: the same code decides, on the same table and uplinks.
 * Nothing is counted, reported or stored.
 */
#ifndef LM_EXPLAIN_H
#define LM_EXPLAIN_H

#include "table/table.h"
#include "table/uplink.h"

struct lm_engine;

struct lm_question {
    struct lm_addr source, destination;
    uint8_t protocol;
    bool has_ports;
    uint16_t source_port, destination_port;
    int lane; /* the ifindex that a mark names, or one of LM_LANE_* */
};

enum lm_fate {
    LM_FATE_SENT,       /* by `ifindex` from `local` to `remote` */
    LM_FATE_NOT_LISP,   /* its destination is multicast, link-local or one of our addresses */
    LM_FATE_GUARDED,    /* it would be a tunnel in the tunnel */
    LM_FATE_SOURCE,     /* its source is not one of our EIDs */
    LM_FATE_MISS,       /* no mapping: it waits for one */
    LM_FATE_DROP,       /* the mapping says drop */
    LM_FATE_PROHIBIT,   /* the mapping says drop, with a reason */
    LM_FATE_NATIVE,     /* the mapping says native, but the packet came here: dropped */
    LM_FATE_NO_LOCATOR, /* no locator of a family that an uplink has */
    LM_FATE_NO_UPLINK,  /* it waits for an uplink */
    LM_FATE_MARK,       /* its mark names no usable uplink, and such packets are dropped */
    LM_FATE_DOUBT,      /* as LM_FATE_SENT, but no locator answers: the sender gets an ICMP error */
    LM_FATE_NO_KEY,     /* it must not leave in clear: it waits for a key, or is dropped if there will be none */
};

struct lm_answer {
    int fate; /* enum lm_fate */
    bool has_entry;
    struct lm_prefix entry; /* the mapping that was found */
    uint64_t flow;          /* the hash for all choices; 0: it is not for the overlay */
    bool by_mark;           /* the lane chose the uplink; otherwise priority and weight did */
    int ifindex;
    int copy_ifindex;                     /* the uplink of a copy of each packet; 0: none */
    struct lm_addr local, remote, mapped; /* `mapped`: the mapping's locator; `remote` is then the relay */
    uint16_t port;
    bool is_relayed;
    uint8_t seal; /* enum lm_answer_seal */
};

enum lm_answer_seal {
    LM_ANSWER_CLEAR,
    LM_ANSWER_SEALED,
    LM_ANSWER_WAITS,
    LM_ANSWER_UNSEALED,
    LM_ANSWER_RFC8061, /* encrypted, peer unauthenticated */
    LM_ANSWER_LISPERS
};

void lm_explain(struct lm_engine *e, const struct lm_question *question, struct lm_answer *answer);

#endif
