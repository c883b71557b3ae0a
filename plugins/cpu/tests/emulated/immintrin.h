/* Stands in for the compiler's own header where AVX-512 is emulated: SIMDe's plain C under the
 * native names, and the few intrinsics that it lacks. For tests alone.
 */
#ifndef LLAMA_EMULATED_IMMINTRIN_H
#define LLAMA_EMULATED_IMMINTRIN_H

#define SIMDE_ENABLE_NATIVE_ALIASES
#define SIMDE_NO_INLINE /* the kernels are large enough: to compile them inlined takes ten minutes */
#include <math.h>
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#include <string.h>

#ifndef _MM_FROUND_NO_EXC
#define _MM_FROUND_NO_EXC SIMDE_MM_FROUND_NO_EXC
#endif

/* Sixteen lanes of FROM to sixteen of TO, lane by lane. */
#define EMULATED(RESULT, name, GIVEN, FROM, TO, lane)  \
    static inline RESULT name(GIVEN given) {         \
        FROM x[16];                                  \
        TO y[16];                                    \
        RESULT result;                               \
        memcpy(x, &given, sizeof x);                 \
        for (int i = 0; i < 16; i++) y[i] = (lane);  \
        memcpy(&result, y, sizeof result);           \
        return result;                               \
    }

EMULATED(__m512, _mm512_cvtepi32_ps, __m512i, int32_t, float, (float)x[i])
EMULATED(__m512i, _mm512_cvtepi8_epi32, __m128i, int8_t, int32_t, x[i])
EMULATED(__m512i, _mm512_cvtepu16_epi32, __m256i, uint16_t, int32_t, x[i])
EMULATED(__m512i, _mm512_cvtps_epi32, __m512, float, int32_t, (int32_t)lrintf(x[i]))
EMULATED(__m512, _mm512_cvtph_ps, __m256i, uint16_t, float,
      simde_float16_to_float32(simde_uint16_as_float16(x[i])))

static inline __m512i _mm512_srai_epi32(__m512i a, unsigned count) {
    int32_t x[16];
    memcpy(x, &a, sizeof x);
    for (int i = 0; i < 16; i++) x[i] >>= count;
    memcpy(&a, x, sizeof x);
    return a;
}

#endif
