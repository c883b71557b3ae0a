/* Sixteen lanes in two AVX2 registers. Needs FMA and F16C. */
#include <immintrin.h>

typedef struct { __m256 lo, hi; } vf;
typedef struct { __m256i lo, hi; } vi;
typedef struct { __m256i lo, hi; } vb;
typedef struct { __m256i lo, hi; } vd; /* 32 int16 of a dot product of 4-bit codes */

INLINE vf vf_zero(void) { return (vf){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
INLINE vf vf_set(float x) { __m256 v = _mm256_set1_ps(x); return (vf){v, v}; }
INLINE vf vf_load(const float *p) { return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INLINE void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v.lo); _mm256_storeu_ps(p + 8, v.hi); }
INLINE vf vf_add(vf a, vf b) { return (vf){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
INLINE vf vf_sub(vf a, vf b) { return (vf){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
INLINE vf vf_mul(vf a, vf b) { return (vf){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
INLINE vf vf_div(vf a, vf b) { return (vf){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
INLINE vf vf_fma(vf a, vf b, vf c) {
    return (vf){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
/* The second operand wins where either is NaN. */
INLINE vf vf_most(vf a, vf b) { return (vf){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
INLINE vf vf_least(vf a, vf b) { return (vf){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
INLINE vf vf_abs(vf a) {
    __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return (vf){_mm256_and_ps(a.lo, m), _mm256_and_ps(a.hi, m)};
}
INLINE vf vf_round(vf a) {
    return (vf){_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
/* a > b as a mask of lanes; false where either is NaN. */
INLINE vf vf_above(vf a, vf b) {
    return (vf){_mm256_cmp_ps(a.lo, b.lo, _CMP_GT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_GT_OQ)};
}
INLINE vf vf_pick(vf mask, vf yes, vf no) {
    return (vf){_mm256_blendv_ps(no.lo, yes.lo, mask.lo), _mm256_blendv_ps(no.hi, yes.hi, mask.hi)};
}
/* a * 2^n for whole n in -127..128, the result normal, in two steps so that 2^128 is reached. */
INLINE __m256 scale2_(__m256 a, __m256 n) {
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);
    __m256 x = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    __m256 y = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(a, x), y);
}
INLINE vf vf_scale2(vf a, vf n) { return (vf){scale2_(a.lo, n.lo), scale2_(a.hi, n.hi)}; }

INLINE vf vf_f16(const uint16_t *p) {
    return (vf){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
INLINE __m256 bf16_(const uint16_t *p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
INLINE vf vf_bf16(const uint16_t *p) { return (vf){bf16_(p), bf16_(p + 8)}; }
INLINE vf vf_s8(const int8_t *p) {
    return (vf){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p))),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8))))};
}

INLINE vi vi_zero(void) { return (vi){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
INLINE vi vi_set(int32_t x) { __m256i v = _mm256_set1_epi32(x); return (vi){v, v}; }
INLINE vi vi_add(vi a, vi b) { return (vi){_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
INLINE vi vi_sub(vi a, vi b) { return (vi){_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
INLINE vi vi_mul(vi a, vi b) { return (vi){_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)}; }
INLINE vf vf_from(vi a) { return (vf){_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
INLINE void vi_store(int32_t *p, vi v) {
    _mm256_storeu_si256((__m256i *)p, v.lo);
    _mm256_storeu_si256((__m256i *)(p + 8), v.hi);
}
/* Sixteen numbers, rounded to nearest even, to signed bytes; they lie in -127..127. */
INLINE void vf_store_s8(int8_t *p, vf v) {
    __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(v.lo), _mm256_cvtps_epi32(v.hi));
    words = _mm256_permute4x64_epi64(words, 0xd8);
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)p, bytes);
}

INLINE vb vb_load(const void *p) {
    const uint8_t *q = p;
    return (vb){_mm256_loadu_si256((const __m256i *)q), _mm256_loadu_si256((const __m256i *)(q + 32))};
}
/* Bits of each byte from `shift` on. */
INLINE vb vb_bits(vb a, const int shift, const int mask) {
    __m256i m = _mm256_set1_epi8((char)mask);
    return (vb){_mm256_and_si256(_mm256_srli_epi16(a.lo, shift), m),
                _mm256_and_si256(_mm256_srli_epi16(a.hi, shift), m)};
}
INLINE vb vb_quad(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, 4);
    __m256i v = _mm256_set1_epi32(four);
    return (vb){v, v};
}
/* Byte `kk` of each lane, without and with sign. */
INLINE vi vb_byte(vb a, int kk) {
    __m256i m = _mm256_set1_epi32(255);
    return (vi){_mm256_and_si256(_mm256_srli_epi32(a.lo, 8 * kk), m),
                _mm256_and_si256(_mm256_srli_epi32(a.hi, 8 * kk), m)};
}
INLINE vi vb_sbyte(vb a, int kk) {
    return (vi){_mm256_srai_epi32(_mm256_slli_epi32(a.lo, 24 - 8 * kk), 24),
                _mm256_srai_epi32(_mm256_slli_epi32(a.hi, 24 - 8 * kk), 24)};
}
INLINE __m256 pick16_(__m256 low, __m256 high, __m256i at) {
    __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(at, 28)); /* bit 3 becomes the sign */
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, at), _mm256_permutevar8x32_ps(high, at), upper);
}
/* table[lane] for lanes in 0..15. */
INLINE vf vf_table(vf table, vi at) {
    return (vf){pick16_(table.lo, table.hi, at.lo), pick16_(table.lo, table.hi, at.hi)};
}

/* Dot products. 4-bit codes: a pair of products is at most 2 * 15 * 127, so eight of them fit in
 * 16 bits. 8-bit ones: maddubs takes one side unsigned, and |w| * ±x of two pairs is at most
 * 2 * 128 * 127 = 32512, which fits as well. */
#define DOT_BIAS 0
#define CODE_PANELS 1
#define CODE_ROWS 6 /* twelve of sixteen registers add up */
#define WIDE_CODE_ROWS 4
INLINE vd vd_first(vb w, vb x) {
    return (vd){_mm256_maddubs_epi16(w.lo, x.lo), _mm256_maddubs_epi16(w.hi, x.hi)};
}
INLINE void vd_keep(vd *v) { __asm__("" : "+x"(v->lo), "+x"(v->hi)); }
INLINE vd vd_dot4(vd s, vb w, vb x) {
    return (vd){_mm256_add_epi16(s.lo, _mm256_maddubs_epi16(w.lo, x.lo)),
                _mm256_add_epi16(s.hi, _mm256_maddubs_epi16(w.hi, x.hi))};
}
INLINE vi vd_flush(vi s, vd d) {
    __m256i one = _mm256_set1_epi16(1);
    return (vi){_mm256_add_epi32(s.lo, _mm256_madd_epi16(d.lo, one)),
                _mm256_add_epi32(s.hi, _mm256_madd_epi16(d.hi, one))};
}
INLINE __m256i dot8_(__m256i s, __m256i w, __m256i x) {
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(s, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
/* The same by activations of 7 bits, where no sign has to move: a weight lifted by 128 is unsigned,
 * and a pair of products is at most 2 * 255 * 63 = 32130. */
#define LIFTS
INLINE vb vb_lift(vb w) {
    const __m256i top = _mm256_set1_epi8(-128);
    return (vb){_mm256_xor_si256(w.lo, top), _mm256_xor_si256(w.hi, top)};
}
INLINE __m256i dot7_(__m256i s, __m256i w, __m256i x) {
    return _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}
/* Each sum is pinned where it is: left alone, the compiler adds up in another order and spills. */
INLINE vi vi_dot8(vi s, vb w, vb x) {
    vi sum = {dot8_(s.lo, w.lo, x.lo), dot8_(s.hi, w.hi, x.hi)};
    __asm__("" : "+x"(sum.lo), "+x"(sum.hi));
    return sum;
}
INLINE vi vi_dot7(vi s, vb w, vb x) {
    vi sum = {dot7_(s.lo, w.lo, x.lo), dot7_(s.hi, w.hi, x.hi)};
    __asm__("" : "+x"(sum.lo), "+x"(sum.hi));
    return sum;
}
