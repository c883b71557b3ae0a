/* What a tier offers: a table of functions, all of them over plain arrays.
 *
 * A kernel computes rows, panels or tasks that it is given; it knows no threads, no graph and no
 * memory of its own. Within a tier a row's result depends on that row alone.
 */
#ifndef LLAMA_KERNELS_H
#define LLAMA_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define PANEL 16        /* rows of a matrix that lie side by side */
#define MAX_HEAD 1024   /* widest attention head */
#define SEGMENT 512     /* keys under one softmax; longer pasts are merged in order */
#define QUERIES 8       /* that read the same keys together */

enum matrix_kind { M_F32, M_F16, M_BF16, M_CODES8, M_CODES4, M_TABLE4, M_CODES2, M_CODES1 };

/* A packed matrix. Panel p holds rows 16p.. of it, column by column:
 *   M_F32, M_F16, M_BF16  [cols][16]
 *   M_CODES8              [padded / 4][16 rows][4 columns] signed bytes
 *   M_CODES4, M_TABLE4    [padded / 8][16 rows][4 columns], columns 0-3 in the low half of a byte,
 *                         4-7 in the high one
 *   M_CODES2, M_CODES1    likewise [padded / 16] and [padded / 32]; padded is a multiple of 32, and
 *                         the zero of one bit is counted in halves
 * Scales and minimums are [panels][groups][16], in 16 bits where that loses nothing. */
typedef struct matrix {
    int32_t kind;
    int32_t rows, cols;
    int32_t filled;   /* rows that have been packed */
    int32_t borrowed; /* the memory is the caller's */
    int32_t padded; /* columns rounded up to 8 */
    int32_t panels;
    int32_t group, groups; /* columns under one scale */
    int32_t zero;          /* what is taken from a code as stored */
    int32_t wide;          /* scales and minimums are 32 bits */
    size_t panel_bytes;
    uint8_t *data;
    void *scales;
    void *minimums; /* or NULL */
    float table[16];
} matrix;

/* Rows of activations in 8 or 7 bits: codes, a scale a block, and sums of codes a unit. */
typedef struct codes {
    int8_t *codes;   /* [rows][code_stride] */
    float *scales;   /* [rows][scale_stride] */
    int32_t *sums;   /* [rows][sum_stride] */
    size_t code_stride, scale_stride, sum_stride;
    int32_t block, unit; /* columns; the smaller divides the larger, the unit is a multiple of 8 */
    int32_t most;        /* the largest code: 127 or 63 */
} codes;

/* Where the keys and values of one layer lie. Keys: [block][kv head][chunk][head_dim][16 keys],
 * values: [block][kv head][key][padded head], both in the type of the cache. */
typedef struct kv_layer {
    int32_t type; /* of llama_kv_type */
    int32_t kv_heads, head_dim, block_size;
    int32_t chunks;   /* of 16 keys in a block */
    int32_t padded;   /* head_dim rounded up to 16 */
    size_t key_head, value_head;     /* numbers of one head in a block */
    uint8_t *keys, *values;
    float *key_scales, *value_scales; /* q8: [block][kv head][chunks * 16] */
} kv_layer;

/* Queries of one key head: rows of one sequence, or heads of one row. */
typedef struct attend_args {
    const kv_layer *kv;
    const int32_t *table; /* block ids of the sequence */
    int32_t head;         /* key head */
    int32_t count;
    const float *q[QUERIES];
    float *out[QUERIES];
    int32_t first[QUERIES], last[QUERIES]; /* positions seen, both included */
    float scale, softcap;
} attend_args;

typedef struct kernels {
    const char *name;
    void (*linear_float)(const matrix *m, int32_t panel, int32_t panels, const float *x,
                         size_t x_stride, int32_t rows, float *y, size_t y_stride,
                         const float *bias);
    void (*linear_codes)(const matrix *m, int32_t panel, int32_t panels, const codes *x,
                         int32_t row, int32_t rows, float *y, size_t y_stride, const float *bias);
    void (*quantize)(const float *x, int32_t cols, const codes *out, int32_t row);
    void (*round_blocks)(const float *x, int32_t cols, int32_t block, int32_t most, float *y);
    void (*round_static)(const float *x, int32_t cols, float step, float *y);
    void (*rms_norm)(const float *x, int32_t width, const float *weight, int32_t part, float eps,
                     float offset, float *y);
    void (*layer_norm)(const float *x, int32_t width, const float *weight, const float *bias,
                       float eps, float *y);
    void (*rope)(const float *x, int32_t width, int32_t head_dim, int32_t half, const float *cosine,
                 const float *sine, float *y);
    void (*activation)(int32_t fn, const float *x, int32_t width, float *y);
    void (*glu)(int32_t fn, const float *gate, const float *up, int32_t width, float *y);
    void (*add)(const float *x, const float *z, int32_t width, float *y);
    void (*mul)(const float *x, const float *z, float by, int32_t width, float *y);
    void (*softcap)(const float *x, float cap, int32_t width, float *y);
    void (*add_scaled)(const float *x, float by, int32_t width, float *y); /* y += by * x */
    void (*softmax)(const float *x, int32_t width, float *y);
    float (*dot)(const float *x, const float *w, int32_t width);
    void (*remember)(const kv_layer *kv, int32_t block, int32_t offset, int32_t head,
                     const float *key, const float *value);
    void (*attend)(const attend_args *a);
} kernels;

extern const kernels llama_kernels_portable;
#ifdef LLAMA_HAVE_AVX2
extern const kernels llama_kernels_avx2;
#endif
#ifdef LLAMA_HAVE_AVX512
extern const kernels llama_kernels_avx512;
#endif
#ifdef LLAMA_HAVE_NEON
extern const kernels llama_kernels_neon;
#endif

#endif
