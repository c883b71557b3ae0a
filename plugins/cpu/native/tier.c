/* Chooses a tier. Compiled without any tier's flags, so that it runs everywhere. */
#include "tier.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "llama_cpu.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* Which register files the operating system saves: bit 1 SSE, 2 AVX, 5 to 7 AVX-512. */
static uint32_t saved_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int runs_avx(int want_512) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const uint32_t fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
    const uint32_t first = fma | osxsave | avx | f16c;
    if ((c & first) != first || (saved_state() & 0x6) != 0x6) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1u << 5)) return 0; /* AVX2 */
    if (!want_512) return 1;
    const uint32_t f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, vnni = 1u << 11;
    return (b & f_dq_bw_vl) == f_dq_bw_vl && (c & vnni) && (saved_state() & 0xe0) == 0xe0;
}
#endif

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#define HWCAP_DOT (1ul << 20) /* ASIMDDP */
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

static int always(void) { return 1; }

#ifdef LLAMA_HAVE_AVX2
static int runs_avx2(void) { return runs_avx(0); }
#endif
#if defined(LLAMA_EMULATED_AVX512)
static int runs_avx512(void) { return 1; }
#elif defined(LLAMA_HAVE_AVX512)
static int runs_avx512(void) { return runs_avx(1); }
#endif
#ifdef LLAMA_HAVE_NEON
static int runs_neon(void) {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_DOT) != 0;
#elif defined(__APPLE__)
    int found = 0;
    size_t size = sizeof found;
    return !sysctlbyname("hw.optional.arm.FEAT_DotProd", &found, &size, NULL, 0) && found;
#else
    return 0;
#endif
}
#endif

/* Best first. */
static const struct tier {
    const kernels *table;
    int (*runs)(void);
} tiers[] = {
#ifdef LLAMA_HAVE_AVX512
    {&llama_kernels_avx512, runs_avx512},
#endif
#ifdef LLAMA_HAVE_AVX2
    {&llama_kernels_avx2, runs_avx2},
#endif
#ifdef LLAMA_HAVE_NEON
    {&llama_kernels_neon, runs_neon},
#endif
    {&llama_kernels_portable, always},
};
#define NUM_TIERS ((int32_t)(sizeof tiers / sizeof *tiers))

static _Atomic(const kernels *) chosen;

const char *llama_tier_name(int32_t index) {
    return index >= 0 && index < NUM_TIERS ? tiers[index].table->name : NULL;
}

static const kernels *find(const char *name) {
    for (int32_t i = 0; i < NUM_TIERS; i++)
        if (!strcmp(tiers[i].table->name, name)) return tiers[i].runs() ? tiers[i].table : NULL;
    return NULL;
}

static const kernels *at_start(void) {
    const char *forced = getenv("LLAMA_CPU_TIER");
    if (forced && *forced) return find(forced);
    for (int32_t i = 0; i < NUM_TIERS; i++)
        if (tiers[i].runs()) return tiers[i].table;
    return NULL;
}

int32_t llama_tier_runs(const char *name) { return name && find(name) != NULL; }

const kernels *llama_kernels(void) {
    const kernels *now = atomic_load(&chosen);
    if (!now) {
        now = at_start();
        atomic_store(&chosen, now);
    }
    return now;
}

const char *llama_tier(void) {
    const kernels *now = llama_kernels();
    return now ? now->name : NULL;
}

int32_t llama_tier_use(const char *name) {
    const kernels *found = name ? find(name) : at_start();
    if (!found) return LLAMA_TIER;
    atomic_store(&chosen, found);
    return LLAMA_OK;
}
