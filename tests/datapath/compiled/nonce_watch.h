/*
 * The linker's --wrap puts these between the engine and the functions that seal and send. The first two end the program
 * when a key seals a second packet with the same IV. The last two refuse bursts of messages with every error that makes
 * the engine keep a packet, or send it another way.
 */
#ifndef NONCE_WATCH_H
#define NONCE_WATCH_H

#include <stdatomic.h>
#include <stdbool.h>

/* Packets that were sealed, all with different pairs of key and IV. */
unsigned long nonce_watch_sealed(void);
/* Messages that the kernel was to cut into several packets, as the engine sends runs. */
unsigned long nonce_watch_runs(void);
/* Refuse messages from now on, or not. */
void nonce_watch_refuse(bool refuses);

#endif
