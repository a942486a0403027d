#include "ebpf/bpf_object.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <net/if.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "table/uplink.h"

#define TCX_INGRESS 46 /* enum bpf_attach_type of Linux 6.6 */
#define TCX_EGRESS 47
#define FILTER_HANDLE 0x4341u /* these two identify our filters after a crash */
#define FILTER_PRIORITY 4341u
#define LOG_SIZE 4096

/* The functions of libbpf 1.0 and later that we use, as <bpf/libbpf.h> declares them. */
struct bpf_object;
struct bpf_program;
struct bpf_map;
struct tc_hook {
    size_t size;
    int ifindex;
    int point; /* 1: ingress, 2: egress */
    uint32_t parent;
};
struct tc_opts {
    size_t size;
    int prog_fd;
    uint32_t flags, prog_id, handle, priority;
};
#define FLAG_REPLACE 1u

struct libbpf {
    void *handle;
    void *(*set_print)(int (*print)(int, const char *, va_list));
    struct bpf_object *(*open_file)(const char *, const void *);
    int (*load)(struct bpf_object *);
    void (*close)(struct bpf_object *);
    int (*map_fd)(const struct bpf_object *, const char *);
    struct bpf_map *(*map)(const struct bpf_object *, const char *);
    int (*set_max_entries)(struct bpf_map *, uint32_t);
    struct bpf_program *(*program)(const struct bpf_object *, const char *);
    int (*set_autoload)(struct bpf_program *, bool);
    int (*program_fd)(const struct bpf_program *);
    int (*processors)(void);
    int (*hook_create)(struct tc_hook *);
    int (*attach)(const struct tc_hook *, struct tc_opts *);
    int (*detach)(const struct tc_hook *, const struct tc_opts *);
};

struct attachment {
    int ifindex; /* 0: none */
    int link;    /* -1: a filter */
};

struct lm_bpf_object {
    struct libbpf bpf;
    int maps[LM_MAP_COUNT], encap, uplink, news; /* programs: of the TUN, of the uplinks, of the link watch */
    unsigned processors;
    bool has_tcx, is_rtr;
    struct attachment device, uplinks[LM_PATHS_MAX];
};

static const char *const map_names[LM_MAP_COUNT] = {"state",     "remotes", "used",    "counts",
                                                    "table",     "sets",    "uplinks", "heard",
                                                    "addresses", "ways",    "origins", "last_packets"};

/*
 * The last message of libbpf before it gives up, which is the reason. Only the control side loads, so one load runs at
 * a time.
 */
static char said[LOG_SIZE];

static int note(int level, const char *format, va_list arguments)
{
    size_t length = strlen(said);
    if (level > 0) /* LIBBPF_WARN */
        return 0;
    if (length > LOG_SIZE / 2)
        length = 0;
    (void)vsnprintf(said + length, LOG_SIZE - length, format, arguments);
    return 0;
}

static bool find(void *handle, void *into, const char *name)
{
    void *found = dlsym(handle, name);
    memcpy(into, &found, sizeof found); /* ISO C has no cast from an object to a function */
    return found != NULL;
}

static bool open_library(struct libbpf *b)
{
    b->handle = dlopen("libbpf.so.1", RTLD_NOW | RTLD_LOCAL);
    return b->handle && find(b->handle, &b->set_print, "libbpf_set_print") &&
           find(b->handle, &b->open_file, "bpf_object__open_file") && find(b->handle, &b->load, "bpf_object__load") &&
           find(b->handle, &b->close, "bpf_object__close") &&
           find(b->handle, &b->map_fd, "bpf_object__find_map_fd_by_name") &&
           find(b->handle, &b->map, "bpf_object__find_map_by_name") &&
           find(b->handle, &b->set_max_entries, "bpf_map__set_max_entries") &&
           find(b->handle, &b->program, "bpf_object__find_program_by_name") &&
           find(b->handle, &b->set_autoload, "bpf_program__set_autoload") &&
           find(b->handle, &b->program_fd, "bpf_program__fd") &&
           find(b->handle, &b->processors, "libbpf_num_possible_cpus") &&
           find(b->handle, &b->hook_create, "bpf_tc_hook_create") && find(b->handle, &b->attach, "bpf_tc_attach") &&
           find(b->handle, &b->detach, "bpf_tc_detach");
}

static struct tc_hook hook_of(int ifindex, bool is_egress)
{
    return (struct tc_hook){.size = sizeof(struct tc_hook), .ifindex = ifindex, .point = is_egress ? 2 : 1};
}

static void filter_remove(struct libbpf *b, int ifindex, bool is_egress)
{
    struct tc_hook hook = hook_of(ifindex, is_egress);
    const struct tc_opts opts = {.size = sizeof opts, .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY};
    (void)b->detach(&hook, &opts);
}

static int filter_add(struct libbpf *b, int ifindex, bool is_egress, int program)
{
    struct tc_hook hook = hook_of(ifindex, is_egress);
    struct tc_opts opts = {.size = sizeof opts,
                           .prog_fd = program,
                           .flags = FLAG_REPLACE,
                           .handle = FILTER_HANDLE,
                           .priority = FILTER_PRIORITY};
    int error = b->hook_create(&hook);
    if (error && error != -EEXIST)
        return error;
    return b->attach(&hook, &opts);
}

static int link_create(int ifindex, bool is_egress, int program)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.link_create.prog_fd = (uint32_t)program;
    attributes.link_create.target_fd = (uint32_t)ifindex; /* an interface, for this kind of link */
    attributes.link_create.attach_type = is_egress ? TCX_EGRESS : TCX_INGRESS;
    long made = syscall(__NR_bpf, BPF_LINK_CREATE, &attributes, sizeof attributes);
    return made < 0 ? -errno : (int)made;
}

static int attach(struct lm_bpf_object *t, struct attachment *to, int ifindex, bool is_egress, int program)
{
    int link = -1, error = -EINVAL;
    if (t->has_tcx) {
        link = link_create(ifindex, is_egress, program);
        error = link < 0 ? link : 0;
    }
    if (error == -EINVAL) /* the error of older kernels for an unknown kind of link */
        error = filter_add(&t->bpf, ifindex, is_egress, program);
    if (!error)
        *to = (struct attachment){.ifindex = ifindex, .link = link < 0 ? -1 : link};
    return error;
}

static void detach(struct lm_bpf_object *t, struct attachment *from, bool is_egress)
{
    if (from->ifindex == 0)
        return;
    if (from->link >= 0)
        close(from->link);
    else
        filter_remove(&t->bpf, from->ifindex, is_egress);
    *from = (struct attachment){0};
}

/* Removes filters that a crash has left. Links leave none. */
static void sweep(struct libbpf *b)
{
    struct if_nameindex *all = if_nameindex();
    for (struct if_nameindex *interface = all; interface && interface->if_index; interface++)
        filter_remove(b, (int)interface->if_index, false);
    if_freenameindex(all);
}

static int keep(int fd)
{
    return fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static const char *const uplink_programs[] = {"lm_decap", "lm_relay"}; /* of a node, of an RTR */

/* Loads only the programs that are used, to save memory. */
static int choose(struct lm_bpf_object *t, struct bpf_object *object)
{
    struct bpf_program *unused = t->bpf.program(object, uplink_programs[!t->is_rtr]);
    int error = unused ? t->bpf.set_autoload(unused, false) : -ENOENT;
    if (!error && !t->is_rtr)
        error = t->bpf.set_max_entries(t->bpf.map(object, "origins"), 1);
    return error ? error : t->bpf.set_max_entries(t->bpf.map(object, "counts"), t->processors);
}

static bool take(struct lm_bpf_object *t, struct bpf_object *object)
{
    struct bpf_program *encap = t->bpf.program(object, "lm_encap");
    struct bpf_program *uplink = t->bpf.program(object, uplink_programs[t->is_rtr]);
    struct bpf_program *news = t->bpf.program(object, "lm_link_news");
    bool is_whole = encap && uplink && news && (t->encap = keep(t->bpf.program_fd(encap))) >= 0 &&
                    (t->uplink = keep(t->bpf.program_fd(uplink))) >= 0 &&
                    (t->news = keep(t->bpf.program_fd(news))) >= 0;
    for (int i = 0; i < LM_MAP_COUNT && is_whole; i++)
        is_whole = (t->maps[i] = keep(t->bpf.map_fd(object, map_names[i]))) >= 0;
    return is_whole;
}

static bool load(struct lm_bpf_object *t, const char *path, char *why, size_t size)
{
    struct bpf_object *object = t->bpf.open_file(path, NULL);
    if (!object) {
        (void)snprintf(why, size, "%s: %s", path, strerror(errno));
        return false;
    }
    int processors = t->bpf.processors();
    t->processors = processors > 0 ? (unsigned)processors : 1;
    int error = choose(t, object);
    if (!error)
        error = t->bpf.load(object);
    bool is_loaded = !error && take(t, object);
    if (error == -EPERM)
        (void)snprintf(why, size, "bpf(2) is refused: it needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
    else if (error)
        (void)snprintf(why, size, "the kernel does not take the programs (%s): %.200s", strerror(-error), said);
    else if (!is_loaded)
        (void)snprintf(why, size, "%s is not what belongs to this program", path);
    t->bpf.close(object);
    return is_loaded;
}

/*
 * Returns memory to the system: loading takes more than a megabyte (the types of the kernel), which the process would
 * keep.
 */
static void give_back(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}

struct lm_bpf_object *lm_bpf_object_load(const char *path, bool allows_tcx, bool is_rtr, char *why, size_t size)
{
    struct lm_bpf_object *t = calloc(1, sizeof *t);
    if (!t) {
        (void)snprintf(why, size, "no memory");
        return NULL;
    }
    t->encap = t->uplink = t->news = -1;
    for (int i = 0; i < LM_MAP_COUNT; i++)
        t->maps[i] = -1;
    t->has_tcx = allows_tcx;
    t->is_rtr = is_rtr;
    if (access(path, R_OK)) {
        (void)snprintf(why, size, "it was built without the BPF programs (%s): that needs clang and libbpf's headers",
                       path);
    } else if (!open_library(&t->bpf)) {
        (void)snprintf(why, size, "libbpf.so.1 is not installed");
    } else {
        said[0] = 0;
        t->bpf.set_print(note);
        if (load(t, path, why, size)) {
            sweep(&t->bpf);
            give_back();
            return t;
        }
    }
    lm_bpf_object_free(t);
    return NULL;
}

void lm_bpf_object_detach(struct lm_bpf_object *t)
{
    detach(t, &t->device, true);
    for (size_t i = 0; i < LM_PATHS_MAX; i++)
        detach(t, &t->uplinks[i], false);
}

void lm_bpf_object_free(struct lm_bpf_object *t)
{
    if (!t)
        return;
    lm_bpf_object_detach(t);
    int *programs[] = {&t->encap, &t->uplink, &t->news};
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
        if (*programs[i] >= 0)
            close(*programs[i]);
    for (int i = 0; i < LM_MAP_COUNT; i++)
        if (t->maps[i] >= 0)
            close(t->maps[i]);
    if (t->bpf.handle)
        dlclose(t->bpf.handle);
    free(t);
}

int lm_bpf_object_map(const struct lm_bpf_object *t, enum lm_map map)
{
    return t->maps[map];
}

int lm_bpf_object_link_news(const struct lm_bpf_object *t)
{
    return t->news;
}

unsigned lm_bpf_object_processors(const struct lm_bpf_object *t)
{
    return t->processors;
}

bool lm_bpf_object_uses_tcx(const struct lm_bpf_object *t)
{
    return t->has_tcx;
}

int lm_bpf_object_attach_device(struct lm_bpf_object *t, int ifindex)
{
    int error = attach(t, &t->device, ifindex, true, t->encap);
    t->has_tcx = t->has_tcx && t->device.link >= 0;
    return error;
}

/*
 * True when the program is still attached. A removed interface has taken its program along, and a new interface may
 * have its number.
 */
static bool is_attached(const struct attachment *to)
{
    struct bpf_link_info info;
    memset(&info, 0, sizeof info);
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.info.bpf_fd = (uint32_t)to->link;
    attributes.info.info_len = sizeof info;
    attributes.info.info = (uint64_t)(uintptr_t)&info;
    if (to->link < 0 || syscall(__NR_bpf, BPF_OBJ_GET_INFO_BY_FD, &attributes, sizeof attributes))
        return false; /* for a filter it is unknown: the filter is attached again, replacing itself */
    return info.xdp.ifindex == (uint32_t)to->ifindex; /* tcx has it in the same place; headers before 6.6 have no tcx */
}

static bool is_other(const struct attachment *attached, const int *ifindexes, size_t count)
{
    bool is_wanted = attached->ifindex == 0;
    for (size_t i = 0; i < count; i++)
        is_wanted = is_wanted || ifindexes[i] == attached->ifindex;
    return !is_wanted;
}

bool lm_bpf_object_has_others(const struct lm_bpf_object *t, const int *ifindexes, size_t count)
{
    bool has_others = false;
    for (size_t i = 0; i < LM_PATHS_MAX; i++)
        has_others = has_others || is_other(&t->uplinks[i], ifindexes, count);
    return has_others;
}

void lm_bpf_object_detach_others(struct lm_bpf_object *t, const int *ifindexes, size_t count)
{
    for (size_t i = 0; i < LM_PATHS_MAX; i++)
        if (is_other(&t->uplinks[i], ifindexes, count))
            detach(t, &t->uplinks[i], false);
}

static struct attachment *room_for(struct lm_bpf_object *t, int ifindex)
{
    struct attachment *room = NULL;
    for (size_t i = 0; i < LM_PATHS_MAX; i++) {
        if (t->uplinks[i].ifindex == ifindex)
            return &t->uplinks[i];
        if (t->uplinks[i].ifindex == 0 && !room)
            room = &t->uplinks[i];
    }
    return room;
}

int lm_bpf_object_attach_uplinks(struct lm_bpf_object *t, const int *ifindexes, size_t count)
{
    int first_error = 0;
    for (size_t k = 0; k < count; k++) {
        struct attachment *room = room_for(t, ifindexes[k]);
        if (!room) { /* removed interfaces may stay for a while, but must not take the place of others */
            lm_bpf_object_detach_others(t, ifindexes, count);
            room = room_for(t, ifindexes[k]);
        }
        if (room && room->ifindex && is_attached(room))
            continue;
        if (room && room->link >= 0)
            detach(t, room, false);
        int error = room ? attach(t, room, ifindexes[k], false, t->uplink) : -E2BIG;
        first_error = first_error ? first_error : error;
    }
    return first_error;
}
