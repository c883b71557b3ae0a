/* Matrix products of integer codes: 8-bit activations by 8- or 4-bit weights.
 *
 * The sums within a unit are exact integers, so no order can change them; what is rounded is one
 * multiply-add a unit, in the order of the columns:
 *
 *   y += (scale_w * scale_x) * sum(code * x)     and, where there are minimums,
 *   y += minimum * (scale_x * sum(x))
 *
 * One arithmetic for one row, few and many. Legend: R rows of a tile, k column.
 */
#include "tier.h"

typedef struct tile {
    vf at[4];
} tile;

INLINE vf small_lanes(const matrix *m, const void *small, int32_t panel, int32_t g) {
    size_t at = ((size_t)panel * (size_t)m->groups + (size_t)g) * PANEL;
    return m->wide ? vf_load((const float *)small + at) : vf_f16((const uint16_t *)small + at);
}

/* sum(code * x) over columns from..to, codes as they are stored. */
INLINE void unit_sums(int kind, const uint8_t *w, const int8_t *x, size_t x_stride, int32_t from,
                      int32_t to, const int R, vi sums[4]) {
    if (kind == M_CODES8) {
        for (int32_t k = from; k < to; k += 4) {
            vb four = vb_load(w + (size_t)k * 16);
            UNROLL for (int r = 0; r < R; r++)
                sums[r] = vi_dot8(sums[r], four, vb_quad(x + (size_t)r * x_stride + k));
        }
        return;
    }
    for (int32_t start = from; start < to; start += 32) {
        int32_t end = to - start < 32 ? to : start + 32;
        vd part[4];
        UNROLL for (int r = 0; r < R; r++) part[r] = vd_zero();
        for (int32_t k = start; k < end; k += 8) {
            vb both = vb_load(w + (size_t)k * 8), low = vb_low(both), high = vb_high(both);
            UNROLL for (int r = 0; r < R; r++) {
                const int8_t *at = x + (size_t)r * x_stride + k;
                part[r] = vd_dot4(vd_dot4(part[r], low, vb_quad(at)), high, vb_quad(at + 4));
            }
        }
        UNROLL for (int r = 0; r < R; r++) sums[r] = vd_flush(sums[r], part[r]);
    }
}

INLINE void product(const matrix *m, int kind, int32_t panel, const codes *x, int32_t row,
                    const int R, float *y, size_t y_stride, const float *bias) {
    const uint8_t *w = m->data + (size_t)panel * m->panel_bytes;
    const int8_t *code = x->codes + (size_t)row * x->code_stride;
    const float *scales = x->scales + (size_t)row * x->scale_stride;
    const int32_t *totals = x->sums + (size_t)row * x->sum_stride;
    const int32_t zero = m->zero + (kind == M_CODES8 ? DOT_BIAS : 0);
    const int32_t unit = x->unit;
    tile total;
    UNROLL for (int r = 0; r < R; r++) total.at[r] = vf_zero();
    int32_t u = 0, g = 0, b = 0, group_end = m->group, block_end = x->block;
    vf scale = small_lanes(m, m->scales, panel, 0);
    for (int32_t from = 0; from < m->padded; from += unit, u++) {
        int32_t to = m->padded - from < unit ? m->padded : from + unit;
        if (from >= group_end) {
            g++, group_end += m->group;
            scale = small_lanes(m, m->scales, panel, g);
        }
        if (from >= block_end) b++, block_end += x->block;
        if (R == 1) {
            const uint8_t *ahead = w + (size_t)from * (kind == M_CODES8 ? 16 : 8) + 4096;
            for (int32_t i = 0; i < (to - from) * (kind == M_CODES8 ? 16 : 8); i += 64)
                __builtin_prefetch(ahead + i);
        }
        vi sums[4];
        UNROLL for (int r = 0; r < R; r++)
            sums[r] = vi_set(-zero * totals[(size_t)r * x->sum_stride + (size_t)u]);
        unit_sums(kind, w, code, x->code_stride, from, to, R, sums);
        UNROLL for (int r = 0; r < R; r++) {
            vf both = vf_mul(scale, vf_set(scales[(size_t)r * x->scale_stride + (size_t)b]));
            total.at[r] = vf_fma(vf_from(sums[r]), both, total.at[r]);
        }
        if (m->minimums) {
            vf least = small_lanes(m, m->minimums, panel, g);
            UNROLL for (int r = 0; r < R; r++) {
                float sum = scales[(size_t)r * x->scale_stride + (size_t)b] *
                            (float)totals[(size_t)r * x->sum_stride + (size_t)u];
                total.at[r] = vf_fma(least, vf_set(sum), total.at[r]);
            }
        }
    }
    int32_t first = panel * PANEL, n = m->rows - first < PANEL ? m->rows - first : PANEL;
    UNROLL for (int r = 0; r < R; r++) {
        float *out = y + (size_t)r * y_stride + first;
        vf done = total.at[r];
        if (bias) done = vf_add(done, vf_load_part(bias + first, n));
        if (n == PANEL)
            vf_store(out, done);
        else
            vf_store_part(out, done, n);
    }
}

INLINE void panels_of(const matrix *m, int kind, int32_t panel, int32_t panels, const codes *x,
                      int32_t row, int32_t rows, float *y, size_t y_stride, const float *bias) {
    int32_t r = 0, end = panel + panels;
#define TILE(R)                                                                             \
    for (int32_t p = panel; p < end; p++)                                                   \
        product(m, kind, p, x, row + r, R, y + (size_t)r * y_stride, y_stride, bias)
    for (; r + 4 <= rows; r += 4) TILE(4);
    if (rows - r == 3) TILE(3);
    if (rows - r == 2) TILE(2);
    if (rows - r == 1) TILE(1);
#undef TILE
}

void T(linear_codes)(const matrix *m, int32_t panel, int32_t panels, const codes *x, int32_t row,
                     int32_t rows, float *y, size_t y_stride, const float *bias) {
    if (m->kind == M_CODES8)
        panels_of(m, M_CODES8, panel, panels, x, row, rows, y, y_stride, bias);
    else
        panels_of(m, M_CODES4, panel, panels, x, row, rows, y, y_stride, bias);
}
