/* Packed matrices: from what a caller hands over to what the kernels read. */
#ifndef LLAMA_MATRIX_H
#define LLAMA_MATRIX_H

#include "kernels.h"
#include "llama_cpu.h"

/* Raised with every change in how a matrix lies packed, since packed matrices are kept in files. */
#define PACKING 2

/* Pack; `why` says what is wrong with the source. The caller has entered the pool. */
int32_t matrix_pack(llama_pool *pool, const llama_weight_source *source, matrix *out,
                    const char **why);
/* The same in parts: room for `rows` rows like those of the source, then the rows in turn. */
int32_t matrix_begin(const llama_weight_source *source, int32_t rows, matrix *out,
                     const char **why);
int32_t matrix_fill(llama_pool *pool, const llama_weight_source *source, matrix *m,
                    const char **why);
/* A packed matrix as it lies, and one in memory that is the caller's. */
void matrix_show(const matrix *m, llama_packed *out);
int32_t matrix_adopt(const llama_packed *from, matrix *out, const char **why);
void matrix_free(matrix *m);
/* One row in floats, scale * (code - zero) + minimum. */
void matrix_row(const matrix *m, int32_t row, float *out);
int64_t matrix_bytes(const matrix *m);
int has_nan(const float *x, size_t count);

#endif
