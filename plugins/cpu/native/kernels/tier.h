/* Names of this tier's functions: the same source is compiled once for each. */
#ifndef LLAMA_TIER_H
#define LLAMA_TIER_H

#include "../kernels.h"
#include "vec.h"

#if defined(LLAMA_TIER_AVX512)
#define T(name) name##_avx512
#define TIER_NAME "avx512"
#elif defined(LLAMA_TIER_AVX2)
#define T(name) name##_avx2
#define TIER_NAME "avx2"
#elif defined(LLAMA_TIER_NEON)
#define T(name) name##_neon
#define TIER_NAME "neon"
#else
#define T(name) name##_portable
#define TIER_NAME "portable"
#endif

void T(linear_float)(const matrix *m, int32_t panel, int32_t panels, const float *x,
                     size_t x_stride, int32_t rows, float *y, size_t y_stride, const float *bias);
void T(linear_codes)(const matrix *m, int32_t panel, int32_t panels, const codes *x, int32_t row,
                     int32_t rows, float *y, size_t y_stride, const float *bias);
void T(quantize)(const float *x, int32_t cols, const codes *out, int32_t row);
void T(round_blocks)(const float *x, int32_t cols, int32_t block, int32_t most, float *y);
void T(round_static)(const float *x, int32_t cols, float step, float *y);
void T(rms_norm)(const float *x, int32_t width, const float *weight, int32_t part, float eps,
                 float offset, float *y);
void T(layer_norm)(const float *x, int32_t width, const float *weight, const float *bias, float eps,
                   float *y);
void T(rope)(const float *x, int32_t width, int32_t head_dim, int32_t half, const float *cosine,
             const float *sine, float *y);
void T(activation)(int32_t fn, const float *x, int32_t width, float *y);
void T(glu)(int32_t fn, const float *gate, const float *up, int32_t width, float *y);
void T(add)(const float *x, const float *z, int32_t width, float *y);
void T(mul)(const float *x, const float *z, float by, int32_t width, float *y);
void T(softcap)(const float *x, float cap, int32_t width, float *y);
void T(add_scaled)(const float *x, float by, int32_t width, float *y);
void T(softmax)(const float *x, int32_t width, float *y);
float T(dot)(const float *x, const float *w, int32_t width);
void T(remember)(const kv_layer *kv, int32_t block, int32_t offset, int32_t head, const float *key,
                 const float *value);
void T(attend)(const attend_args *a);

#define UNROLL _Pragma("GCC unroll 16")

#endif
