/* Packed matrices: from what a caller hands over to what the kernels read. */
#ifndef LLAMA_MATRIX_H
#define LLAMA_MATRIX_H

#include "kernels.h"
#include "llama_cpu.h"

/* Pack; `why` says what is wrong with the source. The caller has entered the pool. */
int32_t matrix_pack(llama_pool *pool, const llama_weight_source *source, matrix *out,
                    const char **why);
void matrix_free(matrix *m);
/* One row in floats, scale * (code - zero) + minimum. */
void matrix_row(const matrix *m, int32_t row, float *out);
int64_t matrix_bytes(const matrix *m);

#endif
