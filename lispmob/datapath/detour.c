#include "detour.h"

#include <net/if.h>
#include <stdio.h>
#include <string.h>

#define DESTINATION_DIGITS 32
#define FIELDS 10

const char *lm_detour_interface(char *line, const char *device)
{
    const char *field[FIELDS] = {NULL};
    size_t count = 0;
    char *rest = NULL;
    for (char *word = strtok_r(line, " \t\n", &rest); word && count < FIELDS; word = strtok_r(NULL, " \t\n", &rest))
        field[count++] = word;
    if (count < FIELDS || strlen(field[0]) != DESTINATION_DIGITS)
        return NULL;
    const char *name = field[FIELDS - 1];
    bool is_of_the_link = strncmp(field[0], "ff", 2) == 0 ||
                          (strncmp(field[0], "fe", 2) == 0 && field[0][2] && strchr("89ab", field[0][2]));
    bool is_ours = strcmp(name, "lo") == 0 || (device[0] && strncmp(name, device, strlen(device)) == 0);
    return is_of_the_link || is_ours ? NULL : name;
}

bool lm_detour_is_possible(const char *device)
{
    FILE *routes = fopen("/proc/thread-self/net/ipv6_route", "re");
    char line[512], first[IF_NAMESIZE] = "";
    bool is_forked = !routes;
    while (routes && !is_forked && fgets(line, sizeof line, routes)) {
        const char *name = lm_detour_interface(line, device);
        if (name && first[0] == 0)
            (void)snprintf(first, sizeof first, "%s", name);
        is_forked = name && strcmp(name, first) != 0;
    }
    if (routes)
        (void)fclose(routes);
    return is_forked;
}
