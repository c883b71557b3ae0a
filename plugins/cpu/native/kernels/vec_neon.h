/* Sixteen lanes in four NEON registers. Needs the dot-product extension. */
#include <arm_neon.h>

typedef struct { float32x4_t r[4]; } vf;
typedef struct { int32x4_t r[4]; } vi;
typedef struct { uint8x16_t r[4]; } vb;
typedef vi vd;

#define PART for (int j = 0; j < 4; j++)

INLINE vf vf_set(float x) { vf o; PART o.r[j] = vdupq_n_f32(x); return o; }
INLINE vf vf_zero(void) { return vf_set(0); }
INLINE vf vf_load(const float *p) { vf o; PART o.r[j] = vld1q_f32(p + 4 * j); return o; }
INLINE void vf_store(float *p, vf v) { PART vst1q_f32(p + 4 * j, v.r[j]); }
INLINE vf vf_add(vf a, vf b) { PART a.r[j] = vaddq_f32(a.r[j], b.r[j]); return a; }
INLINE vf vf_sub(vf a, vf b) { PART a.r[j] = vsubq_f32(a.r[j], b.r[j]); return a; }
INLINE vf vf_mul(vf a, vf b) { PART a.r[j] = vmulq_f32(a.r[j], b.r[j]); return a; }
INLINE vf vf_div(vf a, vf b) { PART a.r[j] = vdivq_f32(a.r[j], b.r[j]); return a; }
INLINE vf vf_fma(vf a, vf b, vf c) { PART c.r[j] = vfmaq_f32(c.r[j], a.r[j], b.r[j]); return c; }
INLINE vf vf_most(vf a, vf b) { PART a.r[j] = vmaxq_f32(a.r[j], b.r[j]); return a; }
INLINE vf vf_least(vf a, vf b) { PART a.r[j] = vminq_f32(a.r[j], b.r[j]); return a; }
INLINE vf vf_abs(vf a) { PART a.r[j] = vabsq_f32(a.r[j]); return a; }
INLINE vf vf_round(vf a) { PART a.r[j] = vrndnq_f32(a.r[j]); return a; }
INLINE vf vf_above(vf a, vf b) {
    PART a.r[j] = vreinterpretq_f32_u32(vcgtq_f32(a.r[j], b.r[j]));
    return a;
}
INLINE vf vf_pick(vf mask, vf yes, vf no) {
    PART no.r[j] = vbslq_f32(vreinterpretq_u32_f32(mask.r[j]), yes.r[j], no.r[j]);
    return no;
}
INLINE vf vf_scale2(vf a, vf n) {
    PART {
        int32x4_t whole = vcvtq_s32_f32(n.r[j]), half = vshrq_n_s32(whole, 1);
        int32x4_t rest = vsubq_s32(whole, half), bias = vdupq_n_s32(127);
        float32x4_t x = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
        float32x4_t y = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
        a.r[j] = vmulq_f32(vmulq_f32(a.r[j], x), y);
    }
    return a;
}

INLINE vf vf_f16(const uint16_t *p) {
    vf o;
    PART o.r[j] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * j)));
    return o;
}
INLINE vf vf_bf16(const uint16_t *p) {
    vf o;
    PART o.r[j] = vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vld1_u16(p + 4 * j)), 16));
    return o;
}
INLINE vf vf_s8(const int8_t *p) {
    vf o;
    int8x16_t bytes = vld1q_s8(p);
    int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    o.r[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
    o.r[1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(low)));
    o.r[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
    o.r[3] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)));
    return o;
}

INLINE vi vi_set(int32_t x) { vi o; PART o.r[j] = vdupq_n_s32(x); return o; }
INLINE vi vi_zero(void) { return vi_set(0); }
INLINE vi vi_add(vi a, vi b) { PART a.r[j] = vaddq_s32(a.r[j], b.r[j]); return a; }
INLINE vi vi_mul(vi a, vi b) { PART a.r[j] = vmulq_s32(a.r[j], b.r[j]); return a; }
INLINE vi vi_sub(vi a, vi b) { PART a.r[j] = vsubq_s32(a.r[j], b.r[j]); return a; }
INLINE vf vf_from(vi a) { vf o; PART o.r[j] = vcvtq_f32_s32(a.r[j]); return o; }
INLINE void vi_store(int32_t *p, vi v) { PART vst1q_s32(p + 4 * j, v.r[j]); }
INLINE void vf_store_s8(int8_t *p, vf v) {
    int16x8_t low = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(v.r[0])), vqmovn_s32(vcvtnq_s32_f32(v.r[1])));
    int16x8_t high = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(v.r[2])), vqmovn_s32(vcvtnq_s32_f32(v.r[3])));
    vst1q_s8(p, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
}

INLINE vb vb_load(const void *p) { vb o; PART o.r[j] = vld1q_u8((const uint8_t *)p + 16 * j); return o; }
INLINE vb vb_bits(vb a, const int shift, const int mask) {
    PART a.r[j] = vandq_u8(vshlq_u8(a.r[j], vdupq_n_s8((int8_t)-shift)), vdupq_n_u8((uint8_t)mask));
    return a;
}
INLINE vb vb_quad(const int8_t *p) {
    vb o;
    int32_t four;
    memcpy(&four, p, 4);
    PART o.r[j] = vreinterpretq_u8_s32(vdupq_n_s32(four));
    return o;
}
INLINE vi vb_byte(vb a, int kk) {
    vi o;
    PART o.r[j] = vreinterpretq_s32_u32(vandq_u32(
        vshlq_u32(vreinterpretq_u32_u8(a.r[j]), vdupq_n_s32(-8 * kk)), vdupq_n_u32(255)));
    return o;
}
INLINE vi vb_sbyte(vb a, int kk) {
    vi o;
    PART o.r[j] = vshrq_n_s32(vshlq_s32(vreinterpretq_s32_u8(a.r[j]), vdupq_n_s32(24 - 8 * kk)), 24);
    return o;
}
INLINE vf vf_table(vf table, vi at) {
    float values[16], out[16];
    int32_t which[16];
    vf_store(values, table);
    vi_store(which, at);
    for (int i = 0; i < 16; i++) out[i] = values[which[i] & 15];
    return vf_load(out);
}

#define DOT_BIAS 0
#define CODE_PANELS 1
#define CODE_ROWS 4 /* sixteen of 32 registers add up */
#define WIDE_CODE_ROWS 4
INLINE vi vi_dot8(vi s, vb w, vb x) {
    PART s.r[j] = vdotq_s32(s.r[j], vreinterpretq_s8_u8(w.r[j]), vreinterpretq_s8_u8(x.r[j]));
    return s;
}
INLINE vd vd_first(vb w, vb x) { return vi_dot8(vi_zero(), w, x); }
INLINE void vd_keep(vd *v) { PART __asm__("" : "+w"(v->r[j])); }
INLINE vd vd_dot4(vd s, vb w, vb x) { return vi_dot8(s, w, x); } /* codes up to 15 are signed too */
INLINE vi vd_flush(vi s, vd d) { return vi_add(s, d); }
