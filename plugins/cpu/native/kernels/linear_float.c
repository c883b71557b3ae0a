/* Matrix products whose activations are floats, on every kind of packed matrix.
 *
 * One arithmetic for one row, few and many: each of a panel's 16 outputs is a lane, and its sum
 * runs over the columns in order. Dense matrices add up 256 columns at a time; those with scales a
 * unit at a time, after which the scale is applied. How many rows or panels a tile holds decides
 * only how often a weight is loaded.
 *
 * Legend: P panels and R rows of a tile, k column.
 */
#include "tier.h"

#define RUN 256 /* columns in one partial sum */

typedef struct tile {
    vf at[8]; /* [P][R], P * R at most 8 */
} tile;

INLINE vf dense_lanes(int kind, const uint8_t *panel, int32_t k) {
    if (kind == M_F32) return vf_load((const float *)panel + (size_t)k * PANEL);
    if (kind == M_F16) return vf_f16((const uint16_t *)panel + (size_t)k * PANEL);
    return vf_bf16((const uint16_t *)panel + (size_t)k * PANEL);
}

INLINE void dense(const matrix *m, int kind, const uint8_t *panel, const float *x, size_t x_stride,
                  const int P, const int R, tile *total) {
    const size_t ahead = 4096;
    for (int32_t from = 0; from < m->cols; from += RUN) {
        int32_t to = m->cols - from < RUN ? m->cols : from + RUN;
        tile part;
        UNROLL for (int i = 0; i < P * R; i++) part.at[i] = vf_zero();
        for (int32_t k = from; k < to; k++) {
            UNROLL for (int p = 0; p < P; p++) {
                const uint8_t *w = panel + (size_t)p * m->panel_bytes;
                if (R == 1 && (kind == M_F32 || k % 2 == 0))
                    __builtin_prefetch(w + (size_t)k * (kind == M_F32 ? 64 : 32) + ahead);
                vf lanes = dense_lanes(kind, w, k);
                UNROLL for (int r = 0; r < R; r++)
                    part.at[p * R + r] =
                        vf_fma(lanes, vf_set(x[(size_t)r * x_stride + (size_t)k]), part.at[p * R + r]);
            }
        }
        UNROLL for (int i = 0; i < P * R; i++) total->at[i] = vf_add(total->at[i], part.at[i]);
    }
}

INLINE vf small_lanes(const matrix *m, const void *small, int32_t panel, int32_t g) {
    size_t at = ((size_t)panel * (size_t)m->groups + (size_t)g) * PANEL;
    return m->wide ? vf_load((const float *)small + at) : vf_f16((const uint16_t *)small + at);
}

/* Codes of columns k.., eight of them, as floats, the zero taken away. */
INLINE void code_lanes(const matrix *m, int kind, const uint8_t *w, int32_t k, vf out[8]) {
    const vi zero = vi_set(m->zero);
    const int bits = kind == M_CODES8 ? 8 : kind == M_CODES2 ? 2 : kind == M_CODES1 ? 1 : 4;
    const int32_t within = 8 / bits; /* quads of columns in the bytes of a lane */
    const vf table = vf_load(m->table);
    UNROLL for (int q = 0; q < 2; q++) {
        const int32_t quad = k / 4 + q;
        vb held = vb_load(w + (size_t)(quad / within) * 64);
        if (bits < 8) held = vb_bits(held, quad % within * bits, (1 << bits) - 1);
        UNROLL for (int i = 0; i < 4; i++) {
            vi code = bits == 8 ? vb_sbyte(held, i) : vb_byte(held, i);
            if (bits == 1) code = vi_add(code, code); /* the zero is in halves */
            vf number = kind == M_TABLE4 ? vf_table(table, code) : vf_from(vi_sub(code, zero));
            out[4 * q + i] = bits == 1 ? vf_mul(number, vf_set(0.5f)) : number;
        }
    }
}

/* x is padded with zeros up to m->padded. */
INLINE void coded(const matrix *m, int kind, int32_t panel, const float *x, size_t x_stride,
                  const int R, tile *total) {
    const uint8_t *w = m->data + (size_t)panel * m->panel_bytes;
    const int32_t unit = m->group < RUN ? m->group : RUN;
    for (int32_t start = 0, g = 0; start < m->padded; start += m->group, g++) {
        int32_t end = m->padded - start < m->group ? m->padded : start + m->group;
        vf scale = small_lanes(m, m->scales, panel, g);
        for (int32_t from = start; from < end; from += unit) {
            int32_t to = end - from < unit ? end : from + unit;
            tile part, sums;
            UNROLL for (int r = 0; r < R; r++) part.at[r] = sums.at[r] = vf_zero();
            for (int32_t k = from; k < to; k += 8) {
                vf lanes[8];
                code_lanes(m, kind, w, k, lanes);
                UNROLL for (int i = 0; i < 8; i++) UNROLL for (int r = 0; r < R; r++) {
                    vf one = vf_set(x[(size_t)r * x_stride + (size_t)(k + i)]);
                    part.at[r] = vf_fma(lanes[i], one, part.at[r]);
                    if (m->minimums) sums.at[r] = vf_add(sums.at[r], one);
                }
            }
            UNROLL for (int r = 0; r < R; r++)
                total->at[r] = vf_fma(scale, part.at[r], total->at[r]);
            if (m->minimums) {
                vf least = small_lanes(m, m->minimums, panel, g);
                UNROLL for (int r = 0; r < R; r++)
                    total->at[r] = vf_fma(least, sums.at[r], total->at[r]);
            }
        }
    }
}

INLINE void finish(const matrix *m, int32_t panel, vf total, float *y, const float *bias) {
    int32_t first = panel * PANEL, n = m->rows - first < PANEL ? m->rows - first : PANEL;
    if (n == PANEL) {
        vf_store(y + first, bias ? vf_add(total, vf_load(bias + first)) : total);
        return;
    }
    if (bias) total = vf_add(total, vf_load_part(bias + first, n));
    vf_store_part(y + first, total, n);
}

INLINE void product(const matrix *m, int kind, int32_t panel, const int P, const float *x,
                    size_t x_stride, const int R, float *y, size_t y_stride, const float *bias) {
    tile total;
    UNROLL for (int i = 0; i < P * R; i++) total.at[i] = vf_zero();
    if (kind == M_F32 || kind == M_F16 || kind == M_BF16)
        dense(m, kind, m->data + (size_t)panel * m->panel_bytes, x, x_stride, P, R, &total);
    else
        coded(m, kind, panel, x, x_stride, R, &total);
    UNROLL for (int p = 0; p < P; p++) UNROLL for (int r = 0; r < R; r++)
        finish(m, panel + p, total.at[p * R + r], y + (size_t)r * y_stride, bias);
}

INLINE void panels_of(const matrix *m, int kind, int32_t panel, int32_t panels, const float *x,
                      size_t x_stride, int32_t rows, float *y, size_t y_stride, const float *bias) {
    const int is_dense = kind == M_F32 || kind == M_F16 || kind == M_BF16;
    int32_t r = 0, end = panel + panels;
    for (; r + 4 <= rows; r += 4)
        for (int32_t p = panel; p < end; p++)
            product(m, kind, p, 1, x + (size_t)r * x_stride, x_stride, 4, y + (size_t)r * y_stride,
                    y_stride, bias);
    for (; r < rows; r++) {
        const float *xr = x + (size_t)r * x_stride;
        float *yr = y + (size_t)r * y_stride;
        int32_t p = panel;
        if (is_dense)
            for (; p + 4 <= end; p += 4) product(m, kind, p, 4, xr, x_stride, 1, yr, y_stride, bias);
        for (; p < end; p++) product(m, kind, p, 1, xr, x_stride, 1, yr, y_stride, bias);
    }
}

void T(linear_float)(const matrix *m, int32_t panel, int32_t panels, const float *x,
                     size_t x_stride, int32_t rows, float *y, size_t y_stride, const float *bias) {
#define KIND(kind) \
    case kind: panels_of(m, kind, panel, panels, x, x_stride, rows, y, y_stride, bias); return
    switch (m->kind) {
        KIND(M_F32);
        KIND(M_F16);
        KIND(M_BF16);
        KIND(M_CODES8);
        KIND(M_CODES4);
        KIND(M_TABLE4);
        KIND(M_CODES2);
        KIND(M_CODES1);
    }
#undef KIND
}
