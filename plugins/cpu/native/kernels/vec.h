/* Sixteen lanes, whatever the registers are: the words in which every kernel is written once.
 *
 * vf: 16 floats. vi: 16 int32. vb: 64 bytes as they lie in a packed weight, 4 to a lane.
 * vd: a running integer dot product, which some tiers keep in 16 bits for up to 32 products a
 * lane (DOT_FLUSH quads of 4) before it is widened. Each tier's header defines the same names.
 */
#ifndef LLAMA_VEC_H
#define LLAMA_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

#if defined(LLAMA_TIER_AVX512)
#include "vec_avx512.h"
#elif defined(LLAMA_TIER_AVX2)
#include "vec_avx2.h"
#elif defined(LLAMA_TIER_NEON)
#include "vec_neon.h"
#else
#include "vec_portable.h"
#endif

/* The first n lanes, zeros past them. */
INLINE vf vf_load_part(const float *p, int32_t n) {
    float lanes[LANES] = {0};
    memcpy(lanes, p, (size_t)n * sizeof(float));
    return vf_load(lanes);
}

INLINE void vf_store_part(float *p, vf v, int32_t n) {
    float lanes[LANES];
    vf_store(lanes, v);
    memcpy(p, lanes, (size_t)n * sizeof(float));
}

/* Sum and greatest of the lanes, always in the same tree. */
INLINE float vf_sum(vf v) {
    float a[LANES];
    vf_store(a, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) a[i] += a[i + half];
    return a[0];
}

/* A NaN in any lane is what comes out. */
INLINE float vf_greatest(vf v) {
    float a[LANES];
    vf_store(a, v);
    float most = a[0];
    for (int i = 1; i < LANES; i++) most = a[i] > most || a[i] != a[i] ? a[i] : most;
    return most;
}

/* exp to about one unit in the last place; 0 below -87.3, infinite above 88.7, NaN stays. After
 * Cody and Waite: x = n ln 2 + r, a polynomial for exp(r), and n added to the exponent. */
INLINE vf vf_exp(vf x) {
    vf kept = vf_above(vf_set(-87.33654f), x);
    vf high = vf_above(x, vf_set(88.72283f));
    vf at = vf_least(vf_set(88.72283f), vf_most(vf_set(-87.33654f), x));
    vf n = vf_round(vf_mul(at, vf_set(1.44269504f)));
    vf r = vf_fma(n, vf_set(-0.693359375f), at);
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    vf y = vf_set(1.9875691500e-4f);
    y = vf_fma(y, r, vf_set(1.3981999507e-3f));
    y = vf_fma(y, r, vf_set(8.3334519073e-3f));
    y = vf_fma(y, r, vf_set(4.1665795894e-2f));
    y = vf_fma(y, r, vf_set(1.6666665459e-1f));
    y = vf_fma(y, r, vf_set(5.0000001201e-1f));
    y = vf_add(vf_fma(y, vf_mul(r, r), r), vf_set(1.0f));
    y = vf_scale2(y, n);
    y = vf_pick(kept, vf_zero(), y);
    return vf_pick(high, vf_set(INFINITY), y);
}

INLINE vf vf_sigmoid(vf x) {
    vf raised = vf_exp(vf_sub(vf_zero(), vf_abs(x)));
    vf below = vf_add(vf_set(1.0f), raised);
    vf negative = vf_above(vf_zero(), x);
    return vf_div(vf_pick(negative, raised, vf_set(1.0f)), below);
}

/* Small numbers by a polynomial, since 1 - exp(-2x) would lose them. */
INLINE vf vf_tanh(vf x) {
    vf size = vf_abs(x);
    vf raised = vf_exp(vf_mul(size, vf_set(-2.0f)));
    vf large = vf_div(vf_sub(vf_set(1.0f), raised), vf_add(vf_set(1.0f), raised));
    large = vf_pick(vf_above(vf_zero(), x), vf_sub(vf_zero(), large), large);
    vf z = vf_mul(x, x);
    vf y = vf_set(-5.70498872745e-3f);
    y = vf_fma(y, z, vf_set(2.06390887954e-2f));
    y = vf_fma(y, z, vf_set(-5.37397155531e-2f));
    y = vf_fma(y, z, vf_set(1.33314422036e-1f));
    y = vf_fma(y, z, vf_set(-3.33332819422e-1f));
    vf small = vf_fma(vf_mul(y, z), x, x);
    return vf_pick(vf_above(vf_set(0.625f), size), small, large);
}

#endif
