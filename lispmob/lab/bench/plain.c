/* The reference of what a TUN device costs without any art: one read, one send, one receive, one write for each packet.
 * Usage: plain DEVICE OWN-ADDRESS PEER-ADDRESS PORT. Prints "ready" and runs until it is killed. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISP_HEADER 8

static int tun, udp;
static struct sockaddr_in peer = {.sin_family = AF_INET};

static void *send_packets(void *unused)
{
    static unsigned char packet[LISP_HEADER + 65536]; /* the header stays zero: no flag is set */
    for (;;) {
        ssize_t length = read(tun, packet + LISP_HEADER, sizeof packet - LISP_HEADER);
        if (length <= 0)
            return unused;
        (void)sendto(udp, packet, (size_t)length + LISP_HEADER, 0, (struct sockaddr *)&peer, sizeof peer);
    }
}

static void receive_packets(void)
{
    static unsigned char packet[LISP_HEADER + 65536];
    for (;;) {
        ssize_t length = recv(udp, packet, sizeof packet, 0);
        if (length > LISP_HEADER && write(tun, packet + LISP_HEADER, (size_t)length - LISP_HEADER) < 0)
            continue; /* a packet that the host does not like is lost */
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in own = {.sin_family = AF_INET};
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int size = 4 << 20, off = 1;
    pthread_t sender;
    if (argc != 5)
        return 2;
    strncpy(request.ifr_name, argv[1], IFNAMSIZ - 1);
    own.sin_port = peer.sin_port = htons((unsigned short)atoi(argv[4]));
    if (inet_pton(AF_INET, argv[2], &own.sin_addr) != 1 || inet_pton(AF_INET, argv[3], &peer.sin_addr) != 1)
        return 2;
    tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (tun < 0 || udp < 0 || ioctl(tun, TUNSETIFF, &request) || bind(udp, (struct sockaddr *)&own, sizeof own)) {
        perror("plain");
        return 1;
    }
    (void)setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    (void)setsockopt(udp, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    (void)setsockopt(udp, SOL_SOCKET, SO_NO_CHECK, &off, sizeof off);
    if (pthread_create(&sender, NULL, send_packets, NULL))
        return 1;
    puts("ready");
    fflush(stdout);
    receive_packets();
    return 0;
}
