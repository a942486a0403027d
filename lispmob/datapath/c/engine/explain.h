/*
 * Says what would happen to a packet of a flow, without sending one. The same code decides, on the same table and
 * uplinks. Nothing is counted, reported or stored.
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

enum lm_flow_verdict {
    LM_FLOW_SENT,       /* sent by `ifindex` from `local` to `remote` */
    LM_FLOW_NOT_LISP,   /* its destination is multicast, link-local or one of our addresses */
    LM_FLOW_GUARDED,    /* it belongs to the tunnel itself, or to its control plane */
    LM_FLOW_SOURCE,     /* its source is not one of our EIDs */
    LM_FLOW_MISS,       /* no mapping: it waits for one */
    LM_FLOW_DROP,       /* the mapping says drop */
    LM_FLOW_PROHIBIT,   /* the mapping says drop, with a reason */
    LM_FLOW_NATIVE,     /* the mapping says native, but the packet came to the TUN: dropped */
    LM_FLOW_NO_LOCATOR, /* no locator has the family of an uplink */
    LM_FLOW_NO_UPLINK,  /* it waits for an uplink */
    LM_FLOW_MARK,       /* its mark names no usable uplink, and such packets are dropped */
    LM_FLOW_DOUBT,      /* sent, but no locator answers: the sender gets an ICMP error */
    LM_FLOW_NO_KEY,     /* it must be sealed: it waits for a key, or is dropped if there will be none */
};

struct lm_answer {
    int verdict; /* enum lm_flow_verdict */
    bool has_entry;
    struct lm_prefix entry; /* the mapping that was found */
    uint64_t flow;          /* the flow hash, which all choices use; 0: the packet is not for the overlay */
    bool by_mark;           /* the lane chose the uplink; false: priority and weight did */
    int ifindex;
    int copy_ifindex;                     /* the uplink of the second copy of each packet; 0: no copies */
    struct lm_addr local, remote, mapped; /* `mapped`: the locator of the mapping, when `remote` is a relay */
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
