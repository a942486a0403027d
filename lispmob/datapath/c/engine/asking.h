/*
 * Map-Requests that the control plane has prepared: complete but for the two EIDs. The thread that finds no mapping for a
 * packet fills in its addresses and sends one at once, and the report of the miss has its nonce. Each is sent once. When
 * none is left, the report has no nonce, and the control plane asks.
 *
 * Which Map-Resolver is asked, from which locator, how often and with what authentication is decided by the control
 * plane (control/lookups/prepared.py). Here an EID is asked for once in LM_ASKING_AGAIN_NS: the control plane repeats requests.
 */
#ifndef LM_ASKING_H
#define LM_ASKING_H

#include <pthread.h>

#include "base/address.h"

#define LM_ASKING_OCTETS 1024u
#define LM_ASKING_MAX 16u
#define LM_ASKING_RECENT 64u              /* EIDs that were asked for last */
#define LM_ASKING_AGAIN_NS 10000000000ull /* ours: as long as the control plane repeats its requests */

/* `message`: an ECM with a Map-Request, whose EIDs are zeros. It ends with the EID that is asked for. */
struct lm_asking_spec {
    uint64_t nonce; /* of the Map-Request, and not 0 */
    uint32_t instance_id;
    uint8_t family;                    /* of the EIDs */
    int fd, ifindex;                   /* the socket of the control port, and the uplink */
    struct lm_addr source, resolver;   /* the locator to send from, and the Map-Resolver */
    uint16_t port;                     /* its port */
    uint16_t length, inner, source_at; /* octets of the message; where the inner IP header and the source EID begin */
    uint8_t message[LM_ASKING_OCTETS];
};

struct lm_asked {
    uint64_t at; /* 0: free */
    uint32_t instance_id;
    struct lm_addr eid;
};

struct lm_asking {
    pthread_mutex_t lock;
    struct lm_asking_spec *prepared; /* oldest first */
    size_t count;
    struct lm_asked recent[LM_ASKING_RECENT];
    size_t next;
};

struct lm_engine;

/* 0, or a negative errno. */
int lm_asking_open(struct lm_asking *asking);
void lm_asking_close(struct lm_asking *asking);
/* Adds a prepared Map-Request; false: it is not usable, or there are LM_ASKING_MAX already. */
bool lm_asking_add(struct lm_engine *e, const struct lm_asking_spec *spec);
/* Forgets all of them. */
void lm_asking_clear(struct lm_engine *e);
/* Asks for the mapping of `eid` in the name of `source`; returns the nonce of the Map-Request, or 0: not sent. */
uint64_t lm_asking_send(struct lm_engine *e, uint32_t instance_id, const struct lm_addr *source,
                        const struct lm_addr *eid, uint64_t now);

#endif
