#include "table/pieces.h"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#define V6_MTU_MIN 1280 /* RFC 8200 section 5: routers do not fragment IPv6, so the fragments must fit every path */

/* Held from begin to end. Otherwise one thread could restore the socket while another one has not sent yet. */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static int get(int fd, int level, int option)
{
    int value = 0;
    socklen_t size = sizeof value;
    return getsockopt(fd, level, option, &value, &size) ? 0 : value;
}

static void set(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof value);
}

struct lm_pieces lm_pieces_begin(int fd, bool is_v4)
{
    pthread_mutex_lock(&turn);
    struct lm_pieces begun = {.fd = fd, .is_v4 = is_v4};
    if (is_v4) {
        set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT);
        return begun;
    }
    begun.dont_fragment = get(fd, IPPROTO_IPV6, IPV6_DONTFRAG);
    set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT);
    set(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 0);
    set(fd, IPPROTO_IPV6, IPV6_MTU, V6_MTU_MIN);
    return begun;
}

void lm_pieces_end(const struct lm_pieces *begun)
{
    /* Outside of this, sockets for data do not fragment (table/uplink.h, control_port/port.py). */
    if (begun->is_v4) {
        set(begun->fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    } else {
        set(begun->fd, IPPROTO_IPV6, IPV6_MTU, 0);
        set(begun->fd, IPPROTO_IPV6, IPV6_DONTFRAG, begun->dont_fragment);
        set(begun->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
    }
    pthread_mutex_unlock(&turn);
}
