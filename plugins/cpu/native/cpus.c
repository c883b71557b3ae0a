/* How many processors this process may use: those it is bound to, within its cgroup's quota. A test
 * gives LLAMA_BOUND for the first, and LLAMA_ROOT for a tree of files of its own. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include "llama_cpu.h"

static long bound(void) {
#if defined(LLAMA_BOUND)
    return LLAMA_BOUND;
#elif defined(__linux__)
    cpu_set_t set;
    if (!sched_getaffinity(0, sizeof set, &set)) return CPU_COUNT(&set);
#endif
    return sysconf(_SC_NPROCESSORS_ONLN);
}

#if defined(__linux__)
#ifndef LLAMA_ROOT
#define LLAMA_ROOT ""
#endif
#define GROUPS LLAMA_ROOT "/sys/fs/cgroup"
#define OWN_GROUPS LLAMA_ROOT "/proc/self/cgroup"

static int read_numbers(const char *folder, const char *name, int wanted, long long *numbers) {
    char path[640];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    int found = 0;
    while (found < wanted && fscanf(file, "%lld", numbers + found) == 1) found++;
    fclose(file);
    return found == wanted;
}

/* Processors' worth of time in the folder of a cgroup, or 0 where nothing limits it: there version
 * 2 says `max`, and version 1 says -1. */
static long quota_at(const char *folder) {
    long long n[2];
    if (!read_numbers(folder, "cpu.max", 2, n) && (!read_numbers(folder, "cpu.cfs_quota_us", 1, n) ||
                                                   !read_numbers(folder, "cpu.cfs_period_us", 1, n + 1)))
        return 0;
    return n[0] > 0 && n[1] > 0 ? (long)((n[0] + n[1] - 1) / n[1]) : 0;
}

/* The tightest quota from a group up to the root of its tree. A container may not see the folders
 * between, only the root. */
static long tightest(const char *tree, const char *group) {
    char folder[600];
    long least = 0;
    snprintf(folder, sizeof folder, "%s%s", tree, group);
    for (;;) {
        const long here = quota_at(folder);
        if (here > 0 && (!least || here < least)) least = here;
        char *slash = strrchr(folder, '/');
        if (!slash || slash < folder + strlen(tree)) return least;
        *slash = 0;
    }
}

/* Lines are `0::/group` in version 2 and `4:cpu,cpuacct:/group` in version 1. */
static long quota(void) {
    char line[500];
    long least = 0;
    FILE *file = fopen(OWN_GROUPS, "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *kinds = strchr(line, ':'), *group = kinds ? strchr(kinds + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        long here = 0;
        if (!kinds[1]) here = tightest(GROUPS, group);
        else if (!strncmp(kinds + 1, "cpu,", 4) || !strcmp(kinds + 1, "cpu")) here = tightest(GROUPS "/cpu", group);
        if (here > 0 && (!least || here < least)) least = here;
    }
    fclose(file);
    return least;
}
#else
static long quota(void) { return 0; }
#endif

int32_t llama_cpu_count(void) {
    long count = bound(), limit = quota();
    if (limit > 0 && limit < count) count = limit;
    return count < 1 ? 1 : count > 256 ? 256 : (int32_t)count;
}
