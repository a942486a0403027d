/* What is on the cable behind a device: whole packets, or whatever the kernel had in hand. */
#ifndef LM_CABLE_H
#define LM_CABLE_H

#include <stdbool.h>

/*
 * True when the device fills in what is left open (checksums, runs that are to be cut up) before anything leaves: real
 * hardware does. Virtual cables hand it over as it is, and so do devices in front of others, such as bridges. `fd` is any
 * socket. False where the kernel does not tell.
 */
bool lm_cable_is_whole(int fd, const char *interface);
/* The same by what ethtool says: the driver's name, and the place on a bus. */
bool lm_cable_driver_is_whole(const char *driver, const char *bus);

#endif
