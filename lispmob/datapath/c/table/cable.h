/* Whether a device completes packets before it sends them, or passes on what the kernel left partial. */
#ifndef LM_CABLE_H
#define LM_CABLE_H

#include <stdbool.h>

/*
 * True when the device completes packets before it sends them: it computes partial checksums, and cuts runs. Hardware
 * does. Virtual links do not, nor do devices in front of others, such as bridges. `fd` is any socket. False if the
 * kernel does not say.
 */
bool lm_cable_is_whole(int fd, const char *interface);
/* The same from what ethtool reports: the name of the driver, and the place on a bus (empty: no hardware). */
bool lm_cable_driver_is_whole(const char *driver, const char *bus);

#endif
