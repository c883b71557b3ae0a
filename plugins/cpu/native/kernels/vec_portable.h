/* Sixteen lanes in the vectors of GCC and clang, which lower them to whatever the baseline has. */

typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));
typedef uint32_t vu __attribute__((vector_size(64)));
typedef int16_t vh __attribute__((vector_size(64)));
typedef uint16_t vuh __attribute__((vector_size(64)));
typedef struct { vu at; } vb; /* four bytes to a lane, the first one lowest */
typedef vi vd;

INLINE vf vf_set(float x) { return x - (vf){0}; }
INLINE vf vf_zero(void) { return (vf){0}; }
INLINE vf vf_load(const float *p) { vf r; memcpy(&r, p, 64); return r; }
INLINE void vf_store(float *p, vf v) { memcpy(p, &v, 64); }
INLINE vf vf_add(vf a, vf b) { return a + b; }
INLINE vf vf_sub(vf a, vf b) { return a - b; }
INLINE vf vf_mul(vf a, vf b) { return a * b; }
INLINE vf vf_div(vf a, vf b) { return a / b; }
/* Two roundings: fmaf is a library call where the processor has none. */
INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
INLINE vf vf_above(vf a, vf b) { return (vf)(a > b); }
INLINE vf vf_pick(vf mask, vf yes, vf no) { return (vf)(((vi)mask & (vi)yes) | (~(vi)mask & (vi)no)); }
INLINE vf vf_most(vf a, vf b) { return vf_pick(vf_above(a, b), a, b); }
INLINE vf vf_least(vf a, vf b) { return vf_pick(vf_above(b, a), a, b); }
INLINE vf vf_abs(vf a) { return (vf)((vi)a & 0x7fffffff); }
/* To nearest even: adding and taking away 1.5 * 2^23 leaves no fraction; larger numbers have none. */
INLINE vf vf_round(vf a) {
    const vf magic = vf_set(12582912.0f);
    return vf_pick(vf_above(vf_set(4194304.0f), vf_abs(a)), (a + magic) - magic, a);
}
/* The magic number again: its low bits hold n, and a NaN gives some number rather than a trap. */
INLINE vf vf_scale2(vf a, vf n) {
    vi whole = ((vi)(n + vf_set(12582912.0f)) & 0x7fffff) - 0x400000;
    vi half = whole >> 1, rest = whole - half;
    return a * (vf)((half + 127) << 23) * (vf)((rest + 127) << 23);
}

INLINE vf vf_f16(const uint16_t *p) {
    vu h;
    for (int i = 0; i < 16; i++) h[i] = p[i];
    vu size = h & 0x7fffu, sign = (h & 0x8000u) << 16;
    vf small = __builtin_convertvector((vi)size, vf) * 5.9604644775390625e-8f; /* steps of 2^-24 */
    vu large = (size << 13) + 0x38000000u + ((vu)(size >= 0x7c00u) & 0x38000000u);
    return (vf)(sign | (vu)vf_pick((vf)(size < 0x400u), small, (vf)large));
}
INLINE vf vf_bf16(const uint16_t *p) {
    vu r;
    for (int i = 0; i < 16; i++) r[i] = p[i];
    return (vf)(r << 16);
}
INLINE vf vf_s8(const int8_t *p) {
    vi r;
    for (int i = 0; i < 16; i++) r[i] = p[i];
    return __builtin_convertvector(r, vf);
}

INLINE vi vi_set(int32_t x) { return x - (vi){0}; }
INLINE vi vi_zero(void) { return (vi){0}; }
INLINE vi vi_add(vi a, vi b) { return a + b; }
INLINE vi vi_mul(vi a, vi b) { return a * b; }
INLINE vi vi_sub(vi a, vi b) { return a - b; }
INLINE vf vf_from(vi a) { return __builtin_convertvector(a, vf); }
INLINE void vi_store(int32_t *p, vi v) { memcpy(p, &v, 64); }
INLINE void vf_store_s8(int8_t *p, vf v) {
    vi whole = ((vi)(v + vf_set(12582912.0f)) & 0x7fffff) - 0x400000;
    for (int i = 0; i < 16; i++) p[i] = (int8_t)whole[i];
}

INLINE vb vb_load(const void *p) { vb r; memcpy(&r.at, p, 64); return r; }
INLINE vb vb_bits(vb a, const int shift, const int mask) {
    return (vb){a.at >> shift & (uint32_t)mask * 0x01010101u};
}
INLINE vb vb_quad(const int8_t *p) {
    uint32_t four = (uint32_t)(uint8_t)p[0] | (uint32_t)(uint8_t)p[1] << 8 |
                    (uint32_t)(uint8_t)p[2] << 16 | (uint32_t)(uint8_t)p[3] << 24;
    return (vb){four - (vu){0}};
}
INLINE vi vb_byte(vb a, int kk) { return (vi)(a.at >> 8 * kk & 255u); }
INLINE vi vb_sbyte(vb a, int kk) { return (vi)(a.at << (24 - 8 * kk)) >> 24; }
INLINE vf vf_table(vf table, vi at) {
    vf r;
    for (int i = 0; i < 16; i++) r[i] = table[at[i] & 15];
    return r;
}

#define DOT_BIAS 0
#define CODE_PANELS 1
#define CODE_ROWS 1 /* speed is for the other tiers */
#define WIDE_CODE_ROWS 1
/* Bytes of even and odd place as 16 bits. A product of two is at most 128 * 127, so two fit. */
INLINE vh even_(vu a) { return (vh)((vuh)a << 8) >> 8; }
INLINE vh odd_(vu a) { return (vh)a >> 8; }
INLINE vi vi_dot8(vi s, vb w, vb x) {
    vu pairs = (vu)(even_(w.at) * even_(x.at) + odd_(w.at) * odd_(x.at));
    return s + ((vi)(pairs << 16) >> 16) + ((vi)pairs >> 16);
}
INLINE vd vd_first(vb w, vb x) { return vi_dot8(vi_zero(), w, x); }
INLINE void vd_keep(vd *v) { (void)v; }
INLINE vd vd_dot4(vd s, vb w, vb x) { return vi_dot8(s, w, x); }
INLINE vi vd_flush(vi s, vd d) { return s + d; }
