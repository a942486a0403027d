/* Whether a device sends complete packets, or passes on what the kernel left open. */
#ifndef LM_CABLE_H
#define LM_CABLE_H

#include <stdbool.h>

/*
 * True when the device completes packets (open checksums, joined runs) before sending: real hardware does. Virtual
 * links pass them on as they are, and so do devices in front of others, such as bridges. `fd` is any socket. False if
 * the kernel does not say.
 */
bool lm_cable_is_whole(int fd, const char *interface);
/* The same from the output of ethtool: the driver's name, and the place on a bus. */
bool lm_cable_driver_is_whole(const char *driver, const char *bus);

#endif
