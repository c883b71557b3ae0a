/* What Python calls. Every function gives a status and none aborts. */

#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

enum { OK = 0, BAD_SIZE = 1, NO_SUCH_TIER = 2 };
enum { PORTABLE = 0, AVX2 = 1 };

typedef void linear_fn(const float *restrict, const float *restrict, const float *restrict,
                       float *restrict, size_t, size_t, size_t);

linear_fn linear_portable;
#ifdef HAVE_AVX2
linear_fn linear_avx2;
#endif

/* Raise it with every change of what is exported; Python refuses another number. */
EXPORT int32_t llama_abi(void) { return 1; }

/* Whether this build has the tier and this processor runs it. */
EXPORT int32_t has_tier(int32_t tier) {
#ifdef HAVE_AVX2
    if (tier == AVX2)
        return __builtin_cpu_supports("avx2") ? 1 : 0;
#endif
    return tier == PORTABLE;
}

/* x [rows, inputs], w [outputs, inputs], bias [outputs] or NULL, y [rows, outputs]. */
EXPORT int32_t linear(int32_t tier, const float *x, const float *w, const float *bias, float *y,
                      int64_t rows, int64_t inputs, int64_t outputs) {
    if (!x || !w || !y || rows < 0 || inputs < 0 || outputs < 0)
        return BAD_SIZE;
    if (!has_tier(tier))
        return NO_SUCH_TIER;
    linear_fn *run = linear_portable;
#ifdef HAVE_AVX2
    if (tier == AVX2)
        run = linear_avx2;
#endif
    run(x, w, bias, y, (size_t)rows, (size_t)inputs, (size_t)outputs);
    return OK;
}
