/* y = x wᵀ + b, compiled once for each tier under the name LINEAR.

   Sums run in 32 lanes that are added in a fixed order, whatever the number of rows: a row gets the
   same bits alone and among others. The compiler turns the lanes into vectors of the tier's width;
   since the order is written down, every width gives the same numbers. */

#include <stddef.h>
#include <stdint.h>

#define LANES 32

static float dot(const float *restrict a, const float *restrict b, size_t n) {
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            lanes[lane] += a[i + lane] * b[i + lane];
    for (size_t lane = 0; i < n; i++, lane++)
        lanes[lane] += a[i] * b[i];
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t lane = 0; lane < half; lane++)
            lanes[lane] += lanes[lane + half];
    return lanes[0];
}

void LINEAR(const float *restrict x, const float *restrict w, const float *restrict bias,
            float *restrict y, size_t rows, size_t inputs, size_t outputs) {
    /* A row of weights is read once for all rows of x. */
    for (size_t n = 0; n < outputs; n++) {
        const float add = bias ? bias[n] : 0.0f;
        for (size_t t = 0; t < rows; t++)
            y[t * outputs + n] = dot(x + t * inputs, w + n * inputs, inputs) + add;
    }
}
