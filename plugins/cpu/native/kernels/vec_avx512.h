/* Sixteen lanes in one AVX-512 register. Needs F, BW, DQ, VL and VNNI. */
#include <immintrin.h>

typedef __m512 vf;
typedef __m512i vi;
typedef __m512i vb;
typedef __m512i vd;

INLINE vf vf_zero(void) { return _mm512_setzero_ps(); }
INLINE vf vf_set(float x) { return _mm512_set1_ps(x); }
INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
INLINE vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
INLINE vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
INLINE vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
INLINE vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf vf_most(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE vf vf_least(vf a, vf b) { return _mm512_min_ps(a, b); }
INLINE vf vf_abs(vf a) { return _mm512_abs_ps(a); }
INLINE vf vf_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf vf_above(vf a, vf b) {
    return _mm512_castsi512_ps(_mm512_movm_epi32(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ)));
}
INLINE vf vf_pick(vf mask, vf yes, vf no) {
    return _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(mask)), no, yes);
}
INLINE vf vf_scale2(vf a, vf n) { return _mm512_scalef_ps(a, n); }

INLINE vf vf_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
INLINE vf vf_bf16(const uint16_t *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
INLINE vf vf_s8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

INLINE vi vi_zero(void) { return _mm512_setzero_si512(); }
INLINE vi vi_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
INLINE vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
INLINE vi vi_mul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
INLINE vf vf_from(vi a) { return _mm512_cvtepi32_ps(a); }
INLINE void vi_store(int32_t *p, vi v) { _mm512_storeu_si512(p, v); }
INLINE void vf_store_s8(int8_t *p, vf v) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
}

INLINE vb vb_load(const void *p) { return _mm512_loadu_si512(p); }
INLINE vb vb_bits(vb a, const int shift, const int mask) {
    return _mm512_and_si512(_mm512_srli_epi16(a, (unsigned)shift), _mm512_set1_epi8((char)mask));
}
INLINE vb vb_quad(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
}
INLINE vi vb_byte(vb a, int kk) {
    return _mm512_and_si512(_mm512_srli_epi32(a, (unsigned)(8 * kk)), _mm512_set1_epi32(255));
}
INLINE vi vb_sbyte(vb a, int kk) {
    return _mm512_srai_epi32(_mm512_slli_epi32(a, (unsigned)(24 - 8 * kk)), 24);
}
INLINE vf vf_table(vf table, vi at) { return _mm512_permutexvar_ps(at, table); }

/* vpdpbusd takes the weight unsigned: signed codes are moved up by 128, and the kernels take
 * DOT_BIAS times the sum of x away again. */
#define DOT_BIAS 128
#define CODE_PANELS 2
#define CODE_ROWS 6 /* twelve sums: a product takes 4 to 5 cycles, and two start in each */
#define WIDE_CODE_ROWS 6
INLINE vd vd_first(vb w, vb x) { return _mm512_dpbusd_epi32(_mm512_setzero_si512(), w, x); }
INLINE void vd_keep(vd *v) { __asm__("" : "+v"(*v)); }
INLINE vd vd_dot4(vd s, vb w, vb x) { return _mm512_dpbusd_epi32(s, w, x); }
INLINE vi vd_flush(vi s, vd d) { return _mm512_add_epi32(s, d); }
INLINE vi vi_dot8(vi s, vb w, vb x) {
    return _mm512_dpbusd_epi32(s, _mm512_xor_si512(w, _mm512_set1_epi8((char)0x80)), x);
}
