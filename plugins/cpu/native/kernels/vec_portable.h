/* Sixteen lanes in plain C: loops that a compiler turns into whatever the baseline offers. */

typedef struct { float at[16]; } vf;
typedef struct { int32_t at[16]; } vi;
typedef struct { uint8_t at[64]; } vb;
typedef vi vd;

#define LANE for (int i = 0; i < 16; i++)

INLINE uint32_t bits_(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
INLINE float float_(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }

INLINE vf vf_set(float x) { vf r; LANE r.at[i] = x; return r; }
INLINE vf vf_zero(void) { return vf_set(0); }
INLINE vf vf_load(const float *p) { vf r; memcpy(r.at, p, 64); return r; }
INLINE void vf_store(float *p, vf v) { memcpy(p, v.at, 64); }
INLINE vf vf_add(vf a, vf b) { vf r; LANE r.at[i] = a.at[i] + b.at[i]; return r; }
INLINE vf vf_sub(vf a, vf b) { vf r; LANE r.at[i] = a.at[i] - b.at[i]; return r; }
INLINE vf vf_mul(vf a, vf b) { vf r; LANE r.at[i] = a.at[i] * b.at[i]; return r; }
INLINE vf vf_div(vf a, vf b) { vf r; LANE r.at[i] = a.at[i] / b.at[i]; return r; }
/* Two roundings: fmaf is a library call where the processor has none. */
INLINE vf vf_fma(vf a, vf b, vf c) { vf r; LANE r.at[i] = a.at[i] * b.at[i] + c.at[i]; return r; }
INLINE vf vf_most(vf a, vf b) { vf r; LANE r.at[i] = a.at[i] > b.at[i] ? a.at[i] : b.at[i]; return r; }
INLINE vf vf_least(vf a, vf b) { vf r; LANE r.at[i] = a.at[i] < b.at[i] ? a.at[i] : b.at[i]; return r; }
INLINE vf vf_abs(vf a) { vf r; LANE r.at[i] = float_(bits_(a.at[i]) & 0x7fffffffu); return r; }
/* To nearest even: adding and taking away 1.5 * 2^23 leaves no fraction; larger numbers have none. */
INLINE float round_(float x) {
    float shifted = (x + 12582912.0f) - 12582912.0f;
    return float_(bits_(x) & 0x7fffffffu) < 4194304.0f ? shifted : x;
}
INLINE vf vf_round(vf a) { vf r; LANE r.at[i] = round_(a.at[i]); return r; }
INLINE vf vf_above(vf a, vf b) { vf r; LANE r.at[i] = float_(a.at[i] > b.at[i] ? 0xffffffffu : 0); return r; }
INLINE vf vf_pick(vf mask, vf yes, vf no) {
    vf r;
    LANE {
        uint32_t m = bits_(mask.at[i]);
        r.at[i] = float_((bits_(yes.at[i]) & m) | (bits_(no.at[i]) & ~m));
    }
    return r;
}
/* The magic number again: its low bits hold n, and no conversion of a NaN is undefined. */
INLINE int32_t whole_(float n) { return (int32_t)(bits_(n + 12582912.0f) & 0x7fffffu) - 0x400000; }
INLINE vf vf_scale2(vf a, vf n) {
    vf r;
    LANE {
        int32_t whole = whole_(n.at[i]);
        int32_t half = whole / 2, rest = whole - half;
        r.at[i] = a.at[i] * float_((uint32_t)(half + 127) << 23) * float_((uint32_t)(rest + 127) << 23);
    }
    return r;
}

INLINE float half_(uint16_t h) {
    uint32_t size = h & 0x7fffu, sign = (uint32_t)(h & 0x8000u) << 16;
    float small = (float)size * 5.9604644775390625e-8f; /* below 2^-14 the step is 2^-24 */
    uint32_t large = (size << 13) + (size >= 0x7c00u ? 0x70000000u : 0x38000000u);
    return float_(sign | (size < 0x400u ? bits_(small) : large));
}
INLINE vf vf_f16(const uint16_t *p) { vf r; LANE r.at[i] = half_(p[i]); return r; }
INLINE vf vf_bf16(const uint16_t *p) { vf r; LANE r.at[i] = float_((uint32_t)p[i] << 16); return r; }
INLINE vf vf_s8(const int8_t *p) { vf r; LANE r.at[i] = (float)p[i]; return r; }

INLINE vi vi_set(int32_t x) { vi r; LANE r.at[i] = x; return r; }
INLINE vi vi_zero(void) { return vi_set(0); }
INLINE vi vi_add(vi a, vi b) { vi r; LANE r.at[i] = a.at[i] + b.at[i]; return r; }
INLINE vi vi_sub(vi a, vi b) { vi r; LANE r.at[i] = a.at[i] - b.at[i]; return r; }
INLINE vf vf_from(vi a) { vf r; LANE r.at[i] = (float)a.at[i]; return r; }
INLINE void vi_store(int32_t *p, vi v) { memcpy(p, v.at, 64); }
INLINE void vf_store_s8(int8_t *p, vf v) {
    LANE {
        float x = round_(v.at[i]);
        p[i] = (int8_t)(x >= -127.0f && x <= 127.0f ? x : 0.0f); /* a NaN is in the scale already */
    }
}

INLINE vb vb_load(const void *p) { vb r; memcpy(r.at, p, 64); return r; }
INLINE vb vb_low(vb a) { vb r; for (int i = 0; i < 64; i++) r.at[i] = a.at[i] & 15; return r; }
INLINE vb vb_high(vb a) { vb r; for (int i = 0; i < 64; i++) r.at[i] = a.at[i] >> 4; return r; }
INLINE vb vb_quad(const int8_t *p) { vb r; LANE memcpy(r.at + 4 * i, p, 4); return r; }
INLINE vi vb_byte(vb a, int kk) { vi r; LANE r.at[i] = a.at[4 * i + kk]; return r; }
INLINE vi vb_sbyte(vb a, int kk) { vi r; LANE r.at[i] = (int8_t)a.at[4 * i + kk]; return r; }
INLINE vf vf_table(vf table, vi at) { vf r; LANE r.at[i] = table.at[at.at[i]]; return r; }

#define DOT_BIAS 0
INLINE vd vd_zero(void) { return vi_zero(); }
INLINE vd vd_dot4(vd s, vb w, vb x) {
    LANE for (int k = 0; k < 4; k++) s.at[i] += (int32_t)w.at[4 * i + k] * (int8_t)x.at[4 * i + k];
    return s;
}
INLINE vi vd_flush(vi s, vd d) { return vi_add(s, d); }
INLINE vi vi_dot8(vi s, vb w, vb x) {
    LANE for (int k = 0; k < 4; k++) s.at[i] += (int32_t)(int8_t)w.at[4 * i + k] * (int8_t)x.at[4 * i + k];
    return s;
}
