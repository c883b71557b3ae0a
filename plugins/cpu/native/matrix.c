/* Packing of matrices into panels of 16 rows, and reading single rows back.
 *
 * Legend: N rows, K columns, G groups of columns under one scale.
 */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "matrix.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "pool.h"

#define HUGE_PAGE ((size_t)2 << 20)

typedef struct packing {
    const llama_weight_source *source;
    matrix *to;
    int32_t first; /* panel of `to` where the source begins */
    atomic_int nan, bad_code;
} packing;

static float from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, size = h & 0x7fffu, u;
    float small = (float)size * 5.9604644775390625e-8f, value;
    u = (size << 13) + (size >= 0x7c00u ? 0x70000000u : 0x38000000u);
    if (size < 0x400u) memcpy(&u, &small, 4);
    u |= sign;
    memcpy(&value, &u, 4);
    return value;
}

static float from_bf16(uint16_t b) {
    uint32_t u = (uint32_t)b << 16;
    float value;
    memcpy(&value, &u, 4);
    return value;
}

/* The 16 bits that mean exactly x, or -1. */
static int32_t exact_f16(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    uint32_t sign = u >> 16 & 0x8000u, size = u & 0x7fffffffu, half;
    if (size >= 0x47800000u) return -1;
    if (size >= 0x38800000u)
        half = (size - 0x38000000u) >> 13;
    else
        half = (uint32_t)(fabsf(x) * 16777216.0f);
    half |= sign;
    return from_f16((uint16_t)half) == x ? (int32_t)half : -1;
}

static int is_nan16(uint16_t x, int32_t kind) {
    return (x & 0x7fffu) > (kind == LLAMA_W_F16 ? 0x7c00u : 0x7f80u);
}

static void pack_dense(packing *p, int32_t panel) {
    const llama_weight_source *s = p->source;
    const size_t K = (size_t)s->cols;
    const int wide = s->kind == LLAMA_W_F32;
    uint8_t *to = p->to->data + (size_t)(p->first + panel) * p->to->panel_bytes;
    for (int32_t i = 0; i < PANEL && panel * PANEL + i < s->rows; i++) {
        size_t row = (size_t)(panel * PANEL + i) * K;
        for (size_t k = 0; k < K; k++) {
            if (wide) {
                float x = ((const float *)s->data)[row + k];
                if (x != x) atomic_store(&p->nan, 1);
                ((float *)to)[k * PANEL + (size_t)i] = x;
            } else {
                uint16_t x = ((const uint16_t *)s->data)[row + k];
                if (is_nan16(x, s->kind)) atomic_store(&p->nan, 1);
                ((uint16_t *)to)[k * PANEL + (size_t)i] = x;
            }
        }
    }
}

/* Of a code as it lies. */
static int32_t stored_bits(int32_t kind) {
    return kind == M_CODES8 ? 8 : kind == M_CODES2 ? 2 : kind == M_CODES1 ? 1 : 4;
}

/* Up to four codes of a row into the bytes that they share with those of the next quads. */
static inline uint32_t pack_quad(uint8_t *at, const uint8_t *from, size_t count, uint32_t low, int32_t left,
                                 uint8_t flip) {
    uint32_t codes = 0, there, flips = 0;
    memcpy(&codes, from, count);
    memset(&flips, flip, count);
    memcpy(&there, at, 4);
    there |= ((codes ^ flips) & low) << left; /* within each byte, since no code leaves its own */
    memcpy(at, &there, 4);
    return codes;
}

static void pack_codes(packing *p, int32_t panel) {
    const llama_weight_source *s = p->source;
    const matrix *m = p->to;
    uint8_t *to = m->data + (size_t)(p->first + panel) * m->panel_bytes;
    const uint8_t flip = s->kind == LLAMA_W_AFFINE && m->kind == M_CODES8 ? 128 : 0; /* less 128 */
    const int32_t bits = stored_bits(m->kind), within = 8 / bits;
    const uint32_t each = 0x01010101u, low = each * ((1u << bits) - 1u);
    uint32_t seen = 0;
    for (int32_t i = 0; i < PANEL && panel * PANEL + i < s->rows; i++) {
        const uint8_t *from = (const uint8_t *)s->data + (size_t)(panel * PANEL + i) * (size_t)s->cols;
        const int32_t quads = s->cols / 4, rest = s->cols % 4;
        for (int32_t quad = 0; quad < quads + (rest != 0); quad++) {
            uint8_t *at = to + (size_t)(quad / within) * 64 + (size_t)i * 4;
            const int32_t left = quad % within * bits;
            seen |= quad < quads ? pack_quad(at, from + quad * 4, 4, low, left, flip)
                                 : pack_quad(at, from + quad * 4, (size_t)rest, low, left, flip);
        }
    }
    if (seen & ~(each * ((1u << s->bits) - 1u))) atomic_store(&p->bad_code, 1);
}

static void pack_small(packing *p, int32_t panel, const float *from, void *to) {
    const llama_weight_source *s = p->source;
    const matrix *m = p->to;
    for (int32_t g = 0; g < m->groups; g++)
        for (int32_t i = 0; i < PANEL && panel * PANEL + i < s->rows; i++) {
            float x = from[(size_t)(panel * PANEL + i) * (size_t)m->groups + (size_t)g];
            size_t at = ((size_t)(p->first + panel) * (size_t)m->groups + (size_t)g) * PANEL + (size_t)i;
            if (x != x) atomic_store(&p->nan, 1);
            if (m->wide)
                ((float *)to)[at] = x;
            else
                ((uint16_t *)to)[at] = (uint16_t)exact_f16(x);
        }
}

static void pack_panel(void *context, int32_t panel, int32_t thread) {
    packing *p = context;
    (void)thread;
    if (p->source->kind < LLAMA_W_AFFINE) {
        pack_dense(p, panel);
        return;
    }
    pack_codes(p, panel);
    pack_small(p, panel, p->source->scales, p->to->scales);
    if (p->source->minimums) pack_small(p, panel, p->source->minimums, p->to->minimums);
}

static int fits_f16(const float *x, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (exact_f16(x[i]) < 0) return 0;
    return 1;
}

int has_nan(const float *x, size_t count) {
    for (size_t i = 0; x && i < count; i++)
        if (x[i] != x[i]) return 1;
    return 0;
}

static const char *fault(const llama_weight_source *s) {
    if (!s->data || s->rows < 1 || s->cols < 1) return "a matrix needs rows, columns and data";
    if (s->cols > INT32_MAX - 8) return "a matrix has too many columns";
    if (s->kind < LLAMA_W_F32 || s->kind > LLAMA_W_TABLE) return "the kind of a matrix is unknown";
    if (s->kind < LLAMA_W_AFFINE) return NULL;
    if (!s->scales) return "codes need scales";
    if (s->group < 1 || (s->group % 8 && s->group < s->cols))
        return "a group must be a multiple of 8 columns, or the whole row";
    if (s->kind == LLAMA_W_TABLE)
        return !s->table || s->bits != 4 || s->minimums ? "a table has 16 numbers and no minimums" : NULL;
    if (s->bits < 1 || s->bits > 8) return "codes have 1 to 8 bits";
    if (s->bits == 1 && s->zero && (s->cols % 32 || (s->group % 32 && s->group < s->cols)))
        return "codes of one bit have a zero only in groups of 32 columns";
    return s->zero < 0 || s->zero > 255 ? "the zero of a code must lie in 0 to 255" : NULL;
}

static void lay_out(const llama_weight_source *s, int32_t rows, matrix *m) {
    *m = (matrix){.rows = rows, .cols = s->cols};
    m->panels = rows / PANEL + (rows % PANEL != 0);
    m->padded = (s->cols + 7) / 8 * 8;
    const size_t width = s->kind == LLAMA_W_F32 ? 4 : 2;
    if (s->kind < LLAMA_W_AFFINE) {
        m->kind = s->kind == LLAMA_W_F32 ? M_F32 : s->kind == LLAMA_W_F16 ? M_F16 : M_BF16;
        m->panel_bytes = (size_t)s->cols * PANEL * width;
        return;
    }
    m->kind = s->kind == LLAMA_W_TABLE ? M_TABLE4 : s->bits > 4 ? M_CODES8 : M_CODES4;
    if (m->kind == M_CODES4 && s->bits <= 2 && s->cols % 32 == 0 && (s->group % 32 == 0 || s->group >= s->cols))
        m->kind = s->bits == 1 ? M_CODES1 : M_CODES2;
    m->panel_bytes = (size_t)m->padded * PANEL / 8 * (size_t)stored_bits(m->kind);
    m->group = s->group >= s->cols ? m->padded : s->group;
    m->groups = (m->padded + m->group - 1) / m->group;
    m->zero = s->kind == LLAMA_W_TABLE ? 0 : s->zero - (m->kind == M_CODES8 ? 128 : 0);
    if (s->kind == LLAMA_W_TABLE) memcpy(m->table, s->table, sizeof m->table);
}

/* Panels that there is room for: a tile may take two at a time. */
static size_t even_panels(const matrix *m) { return (size_t)m->panels + (size_t)(m->panels % 2); }

static size_t num_small(const matrix *m) { return even_panels(m) * (size_t)m->groups * PANEL; }

/* Zeroed, aligned to a cache line, and with a margin that prefetching may touch. Much of it in huge
 * pages, where the system has them: reading it from end to end then looks up fewer addresses. */
static void *room(size_t bytes) {
    void *p = NULL;
    bytes = (bytes + 127) / 64 * 64;
    const int is_large = bytes >= 4 * HUGE_PAGE;
    if (posix_memalign(&p, is_large ? HUGE_PAGE : 64, bytes)) return NULL;
#if defined(__linux__)
    if (is_large) madvise(p, bytes, MADV_HUGEPAGE); /* a wish: what it answers changes nothing */
#endif
    return memset(p, 0, bytes);
}

int32_t matrix_begin(const llama_weight_source *source, int32_t rows, matrix *out,
                     const char **why) {
    *why = rows < 1 ? "a matrix needs rows, columns and data" : fault(source);
    if (*why) return LLAMA_ARGUMENT;
    lay_out(source, rows, out);
    out->data = room(even_panels(out) * out->panel_bytes);
    const int has_minimums = out->groups && source->minimums != NULL;
    if (out->groups) out->scales = room(num_small(out) * 2);
    if (has_minimums) out->minimums = room(num_small(out) * 2);
    if (out->data && (!out->groups || out->scales) && (!has_minimums || out->minimums))
        return LLAMA_OK;
    matrix_free(out);
    return LLAMA_MEMORY;
}

/* The same numbers in 32 bits. */
static void *widened(const void *narrow, size_t count) {
    float *wide = room(count * 4);
    for (size_t i = 0; wide && i < count; i++) wide[i] = from_f16(((const uint16_t *)narrow)[i]);
    return wide;
}

static int widen(matrix *m) {
    const size_t count = num_small(m);
    void *scales = widened(m->scales, count), *minimums = m->minimums ? widened(m->minimums, count) : NULL;
    if (!scales || (m->minimums && !minimums)) {
        free(scales);
        free(minimums);
        return 0;
    }
    free(m->scales);
    free(m->minimums);
    m->scales = scales;
    m->minimums = minimums;
    m->wide = 1;
    return 1;
}

static const char *part_fault(const llama_weight_source *s, const matrix *m) {
    matrix like;
    lay_out(s, s->rows, &like);
    if (m->borrowed || like.kind != m->kind || like.cols != m->cols || like.group != m->group ||
        like.zero != m->zero || memcmp(like.table, m->table, sizeof like.table) ||
        (like.groups && !s->minimums) != (like.groups && !m->minimums))
        return "a part of a matrix is not encoded like the one before it";
    if (m->filled % PANEL || s->rows > m->rows - m->filled)
        return "a part of a matrix begins or ends where it should not";
    return NULL;
}

int32_t matrix_fill(llama_pool *pool, const llama_weight_source *source, matrix *m,
                    const char **why) {
    *why = fault(source);
    if (!*why) *why = part_fault(source, m);
    if (*why) return LLAMA_ARGUMENT;
    const size_t count = (size_t)source->rows * (size_t)m->groups;
    const int32_t is_nan = has_nan(m->table, 16);
    const int narrow = !count || (fits_f16(source->scales, count) &&
                                  (!m->minimums || fits_f16(source->minimums, count)));
    if (!narrow && !m->wide && !widen(m)) return LLAMA_MEMORY;
    packing p = {.source = source, .to = m, .first = m->filled / PANEL, .nan = is_nan};
    pool_run(pool, pack_panel, &p, source->rows / PANEL + (source->rows % PANEL != 0),
             ENOUGH);
    if (p.nan) *why = "a number in it is not a number (NaN)";
    if (p.bad_code) *why = "a code has more bits than it should";
    if (!*why) m->filled += source->rows;
    return p.nan ? LLAMA_NAN : p.bad_code ? LLAMA_ARGUMENT : LLAMA_OK;
}

int32_t matrix_pack(llama_pool *pool, const llama_weight_source *source, matrix *out,
                    const char **why) {
    int32_t status = matrix_begin(source, source->rows, out, why);
    if (status) return status;
    status = matrix_fill(pool, source, out, why);
    if (status) matrix_free(out);
    return status;
}

void matrix_show(const matrix *m, llama_packed *out) {
    *out = (llama_packed){
        .kind = m->kind, .rows = m->rows, .cols = m->cols, .group = m->group, .zero = m->zero,
        .wide = m->wide, .data = m->data, .scales = m->scales, .minimums = m->minimums,
        .data_bytes = (int64_t)(even_panels(m) * m->panel_bytes),
        .small_bytes = (int64_t)(num_small(m) * (m->wide ? 4 : 2))};
    memcpy(out->table, m->table, sizeof out->table);
}

static int aligned(const void *p) { return (uintptr_t)p % 64 == 0; }

/* Whether `bytes` are `many` times `each`, without a product that may overflow. */
static int holds(int64_t bytes, size_t many, size_t each) {
    return bytes > 0 && (size_t)bytes % many == 0 && (size_t)bytes / many == each;
}

int32_t matrix_adopt(const llama_packed *from, matrix *out, const char **why) {
    static const int32_t kinds[] = {[M_F32] = LLAMA_W_F32, [M_F16] = LLAMA_W_F16,
        [M_BF16] = LLAMA_W_BF16, [M_CODES8] = LLAMA_W_AFFINE, [M_CODES4] = LLAMA_W_AFFINE,
        [M_TABLE4] = LLAMA_W_TABLE, [M_CODES2] = LLAMA_W_AFFINE, [M_CODES1] = LLAMA_W_AFFINE};
    *why = "a packed matrix makes no sense";
    if (from->kind < M_F32 || from->kind > M_CODES1 || from->rows < 1 || from->cols < 1 ||
        from->cols > INT32_MAX - 8)
        return LLAMA_ARGUMENT;
    const int has_codes = from->kind >= M_CODES8;
    const llama_weight_source like = {
        .kind = kinds[from->kind], .cols = from->cols, .bits = stored_bits(from->kind),
        .group = from->group, .table = from->table};
    if (has_codes && (from->group < 8 || from->group % 8)) return LLAMA_ARGUMENT;
    lay_out(&like, from->rows, out);
    if (out->kind != from->kind) return LLAMA_ARGUMENT;
    out->zero = from->zero;
    out->wide = from->wide != 0;
    out->filled = out->rows;
    out->borrowed = 1;
    if (from->zero < -128 || from->zero > 255 || !from->data || !aligned(from->data) ||
        !holds(from->data_bytes, even_panels(out), out->panel_bytes))
        return LLAMA_ARGUMENT;
    if (has_codes && (!from->scales || !aligned(from->scales) || !aligned(from->minimums) ||
                      !holds(from->small_bytes, even_panels(out),
                             (size_t)out->groups * PANEL * (out->wide ? 4 : 2))))
        return LLAMA_ARGUMENT;
    *why = NULL;
    out->data = (uint8_t *)from->data; /* never written to: only what is owned is packed */
    out->scales = has_codes ? (void *)from->scales : NULL;
    out->minimums = has_codes ? (void *)from->minimums : NULL;
    return LLAMA_OK;
}

void matrix_free(matrix *m) {
    if (!m->borrowed) {
        free(m->data);
        free(m->scales);
        free(m->minimums);
    }
    *m = (matrix){0};
}

static float small_at(const matrix *m, const void *from, size_t at) {
    return m->wide ? ((const float *)from)[at] : from_f16(((const uint16_t *)from)[at]);
}

static int32_t code_at(const matrix *m, const uint8_t *panel, int32_t i, int32_t k) {
    if (m->kind == M_CODES8) return (int8_t)panel[(size_t)(k / 4) * 64 + (size_t)(i * 4 + k % 4)];
    const int32_t bits = stored_bits(m->kind), quad = k / 4, within = 8 / bits;
    const uint8_t held = panel[(size_t)(quad / within) * 64 + (size_t)(i * 4 + k % 4)];
    return held >> quad % within * bits & ((1 << bits) - 1);
}

void matrix_row(const matrix *m, int32_t row, float *out) {
    const int32_t panel = row / PANEL, i = row % PANEL;
    const uint8_t *from = m->data + (size_t)panel * m->panel_bytes;
    for (int32_t k = 0; k < m->cols; k++) {
        const size_t dense = (size_t)k * PANEL + (size_t)i;
        if (m->kind == M_F32) {
            out[k] = ((const float *)from)[dense];
        } else if (m->kind == M_F16) {
            out[k] = from_f16(((const uint16_t *)from)[dense]);
        } else if (m->kind == M_BF16) {
            out[k] = from_bf16(((const uint16_t *)from)[dense]);
        } else {
            size_t g = (size_t)panel * (size_t)m->groups + (size_t)(k / m->group);
            size_t at = g * PANEL + (size_t)i;
            int32_t code = code_at(m, from, i, k);
            float x = m->kind == M_TABLE4   ? m->table[code]
                      : m->kind == M_CODES1 ? (float)code - 0.5f * (float)m->zero
                                            : (float)(code - m->zero);
            x *= small_at(m, m->scales, at);
            out[k] = m->minimums ? x + small_at(m, m->minimums, at) : x;
        }
    }
}

int64_t matrix_bytes(const matrix *m) {
    const size_t small = (size_t)m->panels * (size_t)m->groups * PANEL * (m->wide ? 4 : 2);
    return (int64_t)((size_t)m->panels * m->panel_bytes + (m->minimums ? 2 : 1) * small);
}
