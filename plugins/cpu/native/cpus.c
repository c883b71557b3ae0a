/* How many processors this process may use: those it is bound to, within its cgroup's quota. */
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
#if defined(__linux__)
    cpu_set_t set;
    if (!sched_getaffinity(0, sizeof set, &set)) return CPU_COUNT(&set);
#endif
    return sysconf(_SC_NPROCESSORS_ONLN);
}

#if defined(__linux__)
/* Processors' worth of time in the folder of a cgroup (version 2), or 0 where nothing limits it. */
static long quota_at(const char *folder) {
    char path[512];
    long long most, period;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", folder);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    int found = fscanf(file, "%lld %lld", &most, &period); /* the word `max` gives 0 */
    fclose(file);
    return found == 2 && period > 0 ? (long)((most + period - 1) / period) : 0;
}

/* The tightest quota from our own group up to the root. */
static long quota(void) {
    char line[400], folder[400] = "";
    long least = 0;
    FILE *file = fopen("/proc/self/cgroup", "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, "0::", 3)) {
            line[strcspn(line, "\n")] = 0;
            snprintf(folder, sizeof folder, "%s", line + 3);
        }
    fclose(file);
    for (;;) {
        long here = quota_at(folder);
        if (here > 0 && (!least || here < least)) least = here;
        char *slash = strrchr(folder, '/');
        if (!slash) return least;
        *slash = 0;
    }
}
#else
static long quota(void) { return 0; }
#endif

int32_t llama_cpu_count(void) {
    long count = bound(), limit = quota();
    if (limit > 0 && limit < count) count = limit;
    return count < 1 ? 1 : count > 256 ? 256 : (int32_t)count;
}
