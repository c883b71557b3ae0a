/* Matrix products of integer codes: 8-bit activations by 8- or 4-bit weights.
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

/* Eight columns of 4-bit codes. Without `vd_keep` the compiler adds in an order of its own, and
 * spills what it holds back. */
INLINE void eight(const uint8_t *w, size_t apart, const int8_t *x, size_t x_stride, const int first,
                  const int R, vd part[]) {
    vb both[P], half[P];
    UNROLL for (int p = 0; p < P; p++) half[p] = vb_low(both[p] = vb_load(w + (size_t)p * apart));
    UNROLL for (int r = 0; r < R; r++) {
        vb four = vb_quad(x + (size_t)r * x_stride);
        UNROLL for (int p = 0; p < P; p++) {
            vd *at = part + r * P + p;
            *at = first ? vd_first(half[p], four) : vd_dot4(*at, half[p], four);
            vd_keep(at);
        }
    }
    UNROLL for (int p = 0; p < P; p++) half[p] = vb_high(both[p]);
    UNROLL for (int r = 0; r < R; r++) {
        vb four = vb_quad(x + (size_t)r * x_stride + 4);
        UNROLL for (int p = 0; p < P; p++) {
            vd *at = part + r * P + p;
            *at = vd_dot4(*at, half[p], four);
            vd_keep(at);
        }
    }
}

/* What a tile is compiled for: 8-bit codes, 4-bit ones in units of 32 columns, and in other units. */
typedef enum layout { EIGHT, FOUR, FOUR_ODD } layout;

/* Up to 32 columns, as many as a running dot product holds; the first of them clears it. */
INLINE void strip(const layout kind, const uint8_t *w, size_t apart, const int8_t *x,
                  size_t x_stride, int32_t width, const int R, vd part[]) {
    eight(w, apart, x, x_stride, 1, R, part);
    if (kind == FOUR) {
        eight(w + 64, apart, x + 8, x_stride, 0, R, part);
        eight(w + 128, apart, x + 16, x_stride, 0, R, part);
        eight(w + 192, apart, x + 24, x_stride, 0, R, part);
    }
    for (int32_t k = 8; kind == FOUR_ODD && k < 32 && k < width; k += 8)
        eight(w + (size_t)k * 8, apart, x + k, x_stride, 0, R, part);
}

/* sum(code * x) of `width` columns, codes as they are stored. */
INLINE void sums_of(const layout kind, const uint8_t *w, size_t apart, const int8_t *x,
                    size_t x_stride, int32_t width, const int R, vi sums[]) {
    if (kind == EIGHT) {
        UNROLL for (int i = 0; i < R * P; i++) sums[i] = vi_zero();
        for (int32_t k = 0; k < width; k += 4) {
            vb four[P];
            UNROLL for (int p = 0; p < P; p++) four[p] = vb_load(w + (size_t)p * apart + (size_t)k * 16);
            UNROLL for (int i = 0; i < R * P; i++)
                sums[i] = vi_dot8(sums[i], four[i % P], vb_quad(x + (size_t)(i / P) * x_stride + k));
        }
        return;
    }
    vd part[MOST];
    strip(kind, w, apart, x, x_stride, width, R, part);
    UNROLL for (int i = 0; i < R * P; i++) sums[i] = vd_flush(vi_zero(), part[i]);
    for (int32_t k = 32; k < width; k += 32) {
        strip(kind, w + (size_t)k * 8, apart, x + k, x_stride, width - k, R, part);
        UNROLL for (int i = 0; i < R * P; i++) sums[i] = vd_flush(sums[i], part[i]);
    }
}

/* `first` where the panels come from memory: what lies ahead in them is called for. */
INLINE void product(const matrix *m, const layout kind, const nesting form, const int minimums,
                    int32_t panel, const codes *x, int32_t row, const int R, int first, float *y,
                    size_t y_stride, const float *bias) {
    const size_t column = kind == EIGHT ? 16 : 8, scale_stride = x->scale_stride;
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
    lanes scale = small_lanes(m, m->scales, panel, 0), least = scale;
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
            scale = small_lanes(m, m->scales, panel, g);
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
        sums_of(kind, at, apart, code + from, x->code_stride, width, R, sums);
        UNROLL for (int i = 0; i < R * P; i++) {
            const vi sum_x = vi_set(totals[(size_t)(i / P) * x->sum_stride]);
            const vf sum = vf_from(vi_sub(sums[i], vi_mul(sum_x, zero)));
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
#define TILES(name, ...)                 \
    EACH_ROWS(TILE, name, __VA_ARGS__)   \
    static const tile name[] = {EACH_ROWS(NAME, name, __VA_ARGS__)};
#define FORMS(name, kind)                                \
    TILES(name##_alike, kind, ALIKE, 0)                  \
    TILES(name##_blocks, kind, BLOCKS_OF_GROUPS, 0)      \
    TILES(name##_groups, kind, GROUPS_OF_BLOCKS, 0)      \
    TILES(name##_alike_min, kind, ALIKE, 1)              \
    TILES(name##_blocks_min, kind, BLOCKS_OF_GROUPS, 1)  \
    TILES(name##_groups_min, kind, GROUPS_OF_BLOCKS, 1)  \
    static const tile *const name[2][3] = {              \
        {name##_alike, name##_blocks, name##_groups},    \
        {name##_alike_min, name##_blocks_min, name##_groups_min}};

#if CODE_ROWS == 6
#define EACH_ROWS(X, ...)                                                   \
    X(__VA_ARGS__, 1) X(__VA_ARGS__, 2) X(__VA_ARGS__, 3) X(__VA_ARGS__, 4) \
    X(__VA_ARGS__, 5) X(__VA_ARGS__, 6)
#else
#define EACH_ROWS(X, ...) \
    X(__VA_ARGS__, 1) X(__VA_ARGS__, 2) X(__VA_ARGS__, 3) X(__VA_ARGS__, 4)
#endif

FORMS(eight_bits, EIGHT)
FORMS(four_bits, FOUR)
FORMS(four_bits_odd, FOUR_ODD)

void T(linear_codes)(const matrix *m, int32_t panel, int32_t panels, const codes *x, int32_t row,
                     int32_t rows, float *y, size_t y_stride, const float *bias) {
    const int wide = m->kind == M_CODES8, odd = x->unit % 32 || m->padded % 32;
    const nesting form = x->block == m->group  ? ALIKE
                         : x->block > m->group ? BLOCKS_OF_GROUPS
                                               : GROUPS_OF_BLOCKS;
    const tile *run = (wide ? eight_bits : odd ? four_bits_odd : four_bits)[m->minimums != NULL][form];
    const int32_t most = wide ? WIDE_CODE_ROWS : CODE_ROWS, tiles = (rows + most - 1) / most;
    for (int32_t p = panel; p < panel + panels; p += P)
        for (int32_t t = 0, r = 0; t < tiles; t++) {
            const int32_t n = (rows - r) / (tiles - t); /* as even as can be */
            run[n - 1](m, p, x, row + r, !t, y + (size_t)r * y_stride, y_stride, bias);
            r += n;
        }
}
