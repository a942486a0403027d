#include "table/cable.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

/* Virtual devices between guests and hosts. They are on a bus, as hardware is, but pass packets on unchanged. */
static const char *const between_guests[] = {"virtio_net", "vmxnet3", "xen_netfront", "vif",       "hv_netvsc",
                                             "netvsc",     "ibmveth", "veth",         "netdevsim", "mac80211_hwsim"};

bool lm_cable_driver_is_whole(const char *driver, const char *bus)
{
    if (bus[0] == '\0' || strcmp(bus, "N/A") == 0 || strcmp(bus, "tun") == 0 || strcmp(bus, "tap") == 0)
        return false; /* no hardware */
    for (size_t i = 0; i < sizeof between_guests / sizeof *between_guests; i++)
        if (strcmp(driver, between_guests[i]) == 0)
            return false;
    return driver[0] != '\0';
}

bool lm_cable_is_whole(int fd, const char *interface)
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    struct ifreq request = {.ifr_data = (void *)&info};
    strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
    if (ioctl(fd, SIOCETHTOOL, &request))
        return false;
    info.driver[sizeof info.driver - 1] = info.bus_info[sizeof info.bus_info - 1] = '\0';
    return lm_cable_driver_is_whole(info.driver, info.bus_info);
}
