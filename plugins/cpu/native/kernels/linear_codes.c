/* Matrix products of integer codes: activations of 8 or 7 bits by weights of 8, 4, 2 or 1 bits.
 *
 * The sums within a unit, the smaller of group and block, are exact integers, so no order can
 * change them. What is rounded follows the columns: sums take the smaller one's scale in a
 * multiply-add, and what those of one larger span add up to takes the larger one's scale in another:
 *
 *   group = block   y += (scale_w * scale_x) * sum
 *   group < block   part += scale_w * sum, and at the end of a block  y += scale_x * part
 *   block < group   part += scale_x * sum, and at the end of a group  y += scale_w * part
 *
 * A minimum adds `minimum * sum(x)` beside `scale_w * sum` in the same places. One arithmetic for one
 * row, few and many: how many rows a tile holds decides only how often a weight is loaded.
 *
 * Legend: P panels and R rows of a tile, k column.
 */
#include "tier.h"

#define AHEAD 4096 /* bytes: a batch of 8 runs at twice the speed of one without, on Zen 5 */

typedef enum nesting { ALIKE, BLOCKS_OF_GROUPS, GROUPS_OF_BLOCKS } nesting;

#define MOST (CODE_PANELS * CODE_ROWS)
#define P CODE_PANELS

typedef struct lanes {
    vf of[P];
} lanes;

INLINE lanes small_lanes(const matrix *m, const void *small, int32_t panel, int32_t g) {
    lanes found;
    UNROLL for (int p = 0; p < P; p++) {
        size_t at = ((size_t)(panel + p) * (size_t)m->groups + (size_t)g) * PANEL;
        found.of[p] = m->wide ? vf_load((const float *)small + at) : vf_f16((const uint16_t *)small + at);
    }
    return found;
}

/* Codes of one bit count in halves, so that their zero may lie between them. */
INLINE lanes scale_lanes(const matrix *m, const int halves, int32_t panel, int32_t g) {
    lanes found = small_lanes(m, m->scales, panel, g);
    UNROLL for (int p = 0; halves && p < P; p++) found.of[p] = vf_mul(found.of[p], vf_set(0.5f));
    return found;
}

/* What a tile is compiled for: codes of these bits, signed ones whose zero is 0 (most of 8 bits are),
 * such ones by activations of 7 bits, and 4 bits in units of 32 columns or in others. */
typedef enum layout { EIGHT, SIGNED, LIFTED, FOUR, FOUR_ODD, TWO, ONE } layout;

#ifndef LIFTS /* where bytes multiply as they are, nothing is gained */
#define vb_lift(w) (w)
#define vi_dot7 vi_dot8
#endif

INLINE int bits_of(const layout kind) { return kind <= LIFTED ? 8 : kind == TWO ? 2 : kind == ONE ? 1 : 4; }

/* Four columns: the q-th of those that a byte holds codes of. Without `vd_keep` the compiler adds in
 * an order of its own, and spills what it holds back. */
INLINE void quad(const int bits, const int q, const vb held[], const int8_t *x, size_t x_stride,
                 const int first, const int R, vd part[]) {
    vb codes_of[P];
    UNROLL for (int p = 0; p < P; p++) codes_of[p] = vb_bits(held[p], q * bits, (1 << bits) - 1);
    UNROLL for (int r = 0; r < R; r++) {
        vb four = vb_quad(x + (size_t)r * x_stride + 4 * q);
        UNROLL for (int p = 0; p < P; p++) {
            vd *at = part + r * P + p;
            *at = first ? vd_first(codes_of[p], four) : vd_dot4(*at, codes_of[p], four);
            vd_keep(at);
        }
    }
}

/* The columns that 64 bytes of a panel hold. */
INLINE void load(const int bits, const uint8_t *w, size_t apart, const int8_t *x, size_t x_stride,
                 const int first, const int R, vd part[]) {
    vb held[P];
    UNROLL for (int p = 0; p < P; p++) held[p] = vb_load(w + (size_t)p * apart);
    quad(bits, 0, held, x, x_stride, first, R, part);
    quad(bits, 1, held, x, x_stride, 0, R, part);
    if (bits < 4) quad(bits, 2, held, x, x_stride, 0, R, part);
    if (bits < 4) quad(bits, 3, held, x, x_stride, 0, R, part);
    if (bits < 2) quad(bits, 4, held, x, x_stride, 0, R, part);
    if (bits < 2) quad(bits, 5, held, x, x_stride, 0, R, part);
    if (bits < 2) quad(bits, 6, held, x, x_stride, 0, R, part);
    if (bits < 2) quad(bits, 7, held, x, x_stride, 0, R, part);
}

/* Up to 32 columns, as many as a running dot product holds; the first of them clears it. */
INLINE void strip(const layout kind, const uint8_t *w, size_t apart, const int8_t *x,
                  size_t x_stride, int32_t width, const int R, vd part[]) {
    const int bits = bits_of(kind);
    load(bits, w, apart, x, x_stride, 1, R, part);
    if (kind == TWO) load(bits, w + 64, apart, x + 16, x_stride, 0, R, part);
    if (kind == FOUR) {
        load(bits, w + 64, apart, x + 8, x_stride, 0, R, part);
        load(bits, w + 128, apart, x + 16, x_stride, 0, R, part);
        load(bits, w + 192, apart, x + 24, x_stride, 0, R, part);
    }
    for (int32_t k = 8; kind == FOUR_ODD && k < 32 && k < width; k += 8)
        load(bits, w + (size_t)k * 8, apart, x + k, x_stride, 0, R, part);
}

/* sum(code * x) of `width` columns of bytes; `totals` are the rows' sum(x). */
INLINE void sums_of_bytes(const layout kind, const uint8_t *w, size_t apart, const int8_t *x,
                          size_t x_stride, const int32_t *totals, size_t sum_stride, int32_t width,
                          const int R, vi sums[]) {
    UNROLL for (int i = 0; i < R * P; i++) /* what lifting adds is taken away beforehand */
        sums[i] = kind == LIFTED ? vi_set(-128 * totals[(size_t)(i / P) * sum_stride]) : vi_zero();
    for (int32_t k = 0; k < width; k += 4) {
        vb four[P];
        UNROLL for (int p = 0; p < P; p++) {
            four[p] = vb_load(w + (size_t)p * apart + (size_t)k * 16);
            if (kind == LIFTED) four[p] = vb_lift(four[p]);
        }
        UNROLL for (int i = 0; i < R * P; i++) {
            const vb by = vb_quad(x + (size_t)(i / P) * x_stride + k);
            sums[i] = kind == LIFTED ? vi_dot7(sums[i], four[i % P], by) : vi_dot8(sums[i], four[i % P], by);
        }
    }
}

/* The same of codes that share bytes, as they are stored. */
INLINE void sums_of(const layout kind, const uint8_t *w, size_t apart, const int8_t *x,
                    size_t x_stride, int32_t width, const int R, vi sums[]) {
    vd part[MOST];
    strip(kind, w, apart, x, x_stride, width, R, part);
    UNROLL for (int i = 0; i < R * P; i++) sums[i] = vd_flush(vi_zero(), part[i]);
    for (int32_t k = 32; k < width; k += 32) {
        strip(kind, w + (size_t)k * 2 * (size_t)bits_of(kind), apart, x + k, x_stride, width - k, R, part);
        UNROLL for (int i = 0; i < R * P; i++) sums[i] = vd_flush(sums[i], part[i]);
    }
}

/* `first` where the panels come from memory: what lies ahead in them is called for. */
INLINE void product(const matrix *m, const layout kind, const nesting form, const int minimums,
                    int32_t panel, const codes *x, int32_t row, const int R, int first, float *y,
                    size_t y_stride, const float *bias) {
    const size_t column = 2 * (size_t)bits_of(kind), scale_stride = x->scale_stride;
    const size_t apart = m->panel_bytes;
    const uint8_t *w = m->data + (size_t)panel * apart;
    const int8_t *code = x->codes + (size_t)row * x->code_stride;
    const float *scales = x->scales + (size_t)row * scale_stride;
    const int32_t *totals = x->sums + (size_t)row * x->sum_stride;
    const vi zero = vi_set(m->zero + (kind == EIGHT ? DOT_BIAS : 0));
    const int32_t unit = x->unit;
    vf total[MOST], part[MOST];
    UNROLL for (int i = 0; i < R * P; i++) total[i] = part[i] = vf_zero();
    int32_t g = 0, group_end = m->group, block_end = x->block;
    lanes scale = scale_lanes(m, kind == ONE, panel, 0), least = scale;
    if (minimums) least = small_lanes(m, m->minimums, panel, 0);
    for (int32_t from = 0; from < m->padded; from += unit, totals++) {
        const int32_t width = m->padded - from < unit ? m->padded - from : unit;
        if (from >= group_end) {
            if (form == GROUPS_OF_BLOCKS) {
                UNROLL for (int i = 0; i < R * P; i++) {
                    total[i] = vf_fma(part[i], scale.of[i % P], total[i]);
                    part[i] = vf_zero();
                }
            }
            g++, group_end += m->group;
            scale = scale_lanes(m, kind == ONE, panel, g);
            if (minimums) least = small_lanes(m, m->minimums, panel, g);
        }
        if (from >= block_end) {
            if (form == BLOCKS_OF_GROUPS) {
                UNROLL for (int i = 0; i < R * P; i++) {
                    vf scale_x = vf_set(scales[(size_t)(i / P) * scale_stride]);
                    total[i] = vf_fma(part[i], scale_x, total[i]);
                    part[i] = vf_zero();
                }
            }
            scales++, block_end += x->block;
        }
        const uint8_t *at = w + (size_t)from * column;
        if (first) {
            UNROLL for (int p = 0; p < P; p++)
                for (size_t i = 0; i < (size_t)width * column; i += 64)
                    __builtin_prefetch(at + (size_t)p * apart + i + AHEAD);
        }
        vi sums[MOST];
        if (kind <= LIFTED)
            sums_of_bytes(kind, at, apart, code + from, x->code_stride, totals, x->sum_stride, width, R, sums);
        else
            sums_of(kind, at, apart, code + from, x->code_stride, width, R, sums);
        UNROLL for (int i = 0; i < R * P; i++) {
            const vi sum_x = vi_set(totals[(size_t)(i / P) * x->sum_stride]);
            if (kind == ONE) sums[i] = vi_add(sums[i], sums[i]);
            if (kind != SIGNED && kind != LIFTED) sums[i] = vi_sub(sums[i], vi_mul(sum_x, zero));
            const vf sum = vf_from(sums[i]);
            const vf scale_x = vf_set(scales[(size_t)(i / P) * scale_stride]);
            const vf scale_w = scale.of[i % P], least_w = least.of[i % P];
            if (form == ALIKE) total[i] = vf_fma(sum, vf_mul(scale_w, scale_x), total[i]);
            if (form == BLOCKS_OF_GROUPS) part[i] = vf_fma(sum, scale_w, part[i]);
            if (form == GROUPS_OF_BLOCKS) part[i] = vf_fma(sum, scale_x, part[i]);
            if (!minimums) continue;
            if (form == BLOCKS_OF_GROUPS)
                part[i] = vf_fma(vf_from(sum_x), least_w, part[i]);
            else
                total[i] = vf_fma(vf_mul(vf_from(sum_x), scale_x), least_w, total[i]);
        }
    }
    UNROLL for (int i = 0; i < R * P; i++) {
        if (form == BLOCKS_OF_GROUPS)
            total[i] = vf_fma(part[i], vf_set(scales[(size_t)(i / P) * scale_stride]), total[i]);
        if (form == GROUPS_OF_BLOCKS) total[i] = vf_fma(part[i], scale.of[i % P], total[i]);
        const int32_t start = (panel + i % P) * PANEL, left = m->rows - start;
        float *out = y + (size_t)(i / P) * y_stride + start;
        if (left >= PANEL)
            vf_store(out, bias ? vf_add(total[i], vf_load(bias + start)) : total[i]);
        else if (left > 0)
            vf_store_part(out, bias ? vf_add(total[i], vf_load_part(bias + start, left)) : total[i], left);
    }
}

/* ---- one function for each layout, form and number of rows -------------------------------------- */

typedef void (*tile)(const matrix *m, int32_t panel, const codes *x, int32_t row, int first,
                     float *y, size_t y_stride, const float *bias);

#define TILE(name, kind, form, minimums, R)                                                       \
    static __attribute__((noinline)) void name##R(const matrix *m, int32_t panel, const codes *x, \
                                                  int32_t row, int first, float *y,               \
                                                  size_t y_stride, const float *bias) {           \
        product(m, kind, form, minimums, panel, x, row, R, first, y, y_stride, bias);             \
    }
#define NAME(name, kind, form, minimums, R) name##R,
#define TILES(EACH, name, ...)    \
    EACH(TILE, name, __VA_ARGS__) \
    static const tile name[] = {EACH(NAME, name, __VA_ARGS__)};
#define FORMS(EACH, name, kind, minimums)                        \
    TILES(EACH, name##_alike, kind, ALIKE, minimums)             \
    TILES(EACH, name##_blocks, kind, BLOCKS_OF_GROUPS, minimums) \
    TILES(EACH, name##_groups, kind, GROUPS_OF_BLOCKS, minimums) \
    static const tile *const name[] = {name##_alike, name##_blocks, name##_groups};

#define UP_TO_1(X, ...) X(__VA_ARGS__, 1)
#define UP_TO_4(X, ...) UP_TO_1(X, __VA_ARGS__) X(__VA_ARGS__, 2) X(__VA_ARGS__, 3) X(__VA_ARGS__, 4)
#define UP_TO_6(X, ...) UP_TO_4(X, __VA_ARGS__) X(__VA_ARGS__, 5) X(__VA_ARGS__, 6)
#define UP_TO_(rows) UP_TO_##rows
#define UP_TO(rows) UP_TO_(rows)

/* Where minimums are common, with and without them apart; elsewhere a tile looks. */
#define LOOK (m->minimums != NULL)
FORMS(UP_TO(CODE_ROWS), four_bits, FOUR, 0)
FORMS(UP_TO(CODE_ROWS), four_bits_min, FOUR, 1)
FORMS(UP_TO(CODE_ROWS), two_bits, TWO, LOOK)
FORMS(UP_TO(CODE_ROWS), one_bit, ONE, LOOK)
FORMS(UP_TO(WIDE_CODE_ROWS), eight_bits, EIGHT, LOOK)
FORMS(UP_TO(WIDE_CODE_ROWS), signed_bytes, SIGNED, 0)
FORMS(UP_TO_1, four_bits_odd, FOUR_ODD, LOOK)
#ifdef LIFTS
FORMS(UP_TO(WIDE_CODE_ROWS), lifted_bytes, LIFTED, 0)
#else
#define lifted_bytes signed_bytes
#endif

void T(linear_codes)(const matrix *m, int32_t panel, int32_t panels, const codes *x, int32_t row,
                     int32_t rows, float *y, size_t y_stride, const float *bias) {
    const int odd = m->kind == M_CODES4 && (x->unit % 32 || m->padded % 32);
    const nesting form = x->block == m->group  ? ALIKE
                         : x->block > m->group ? BLOCKS_OF_GROUPS
                                               : GROUPS_OF_BLOCKS;
    const int is_signed = m->kind == M_CODES8 && !DOT_BIAS && !m->zero && !m->minimums;
    const tile *run = is_signed && x->most < 64 ? lifted_bytes[form]
                      : is_signed               ? signed_bytes[form]
                      : m->kind == M_CODES8     ? eight_bits[form]
                      : m->kind == M_CODES2     ? two_bits[form]
                      : m->kind == M_CODES1     ? one_bit[form]
                      : odd                     ? four_bits_odd[form]
                      : m->minimums             ? four_bits_min[form]
                                                : four_bits[form];
    const int32_t most = odd ? 1 : m->kind == M_CODES8 ? WIDE_CODE_ROWS : CODE_ROWS;
    const int32_t tiles = (rows + most - 1) / most;
    for (int32_t p = panel; p < panel + panels; p += P)
        for (int32_t t = 0, r = 0; t < tiles; t++) {
            const int32_t n = (rows - r) / (tiles - t); /* as even as can be */
            run[n - 1](m, p, x, row + r, !t, y + (size_t)r * y_stride, y_stride, bias);
            r += n;
        }
}
