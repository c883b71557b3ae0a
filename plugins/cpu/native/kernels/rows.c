/* Functions of one row: norms, turns, activations, sums. Legend: a row has `width` numbers.
 *
 * The last few numbers of a row go through the same lanes as the others, so that a number's bits
 * depend on its own row alone.
 */
#include "tier.h"

#include "../llama_cpu.h"

/* Calls `body` with v the lanes at i, for whole lanes and then for the part that is left. */
#define ROW(x, width, y, body)                                          \
    do {                                                                \
        int32_t i = 0;                                                  \
        for (; i + LANES <= (width); i += LANES) {                      \
            vf v = vf_load((x) + i);                                    \
            const int32_t n = LANES;                                    \
            (void)n;                                                    \
            body;                                                       \
            vf_store((y) + i, v);                                       \
        }                                                               \
        if (i < (width)) {                                              \
            const int32_t n = (width)-i;                                \
            vf v = vf_load_part((x) + i, n);                            \
            body;                                                       \
            vf_store_part((y) + i, v, n);                               \
        }                                                               \
    } while (0)

#define OTHER(z) (n == LANES ? vf_load((z) + i) : vf_load_part((z) + i, n))

static float sum(const float *x, int32_t width) {
    vf total = vf_zero();
    int32_t i = 0;
    for (; i + LANES <= width; i += LANES) total = vf_add(total, vf_load(x + i));
    if (i < width) total = vf_add(total, vf_load_part(x + i, width - i));
    return vf_sum(total);
}

float T(dot)(const float *x, const float *w, int32_t width) {
    vf total = vf_zero();
    int32_t i = 0;
    for (; i + LANES <= width; i += LANES) total = vf_fma(vf_load(x + i), vf_load(w + i), total);
    if (i < width) {
        vf a = vf_load_part(x + i, width - i), b = vf_load_part(w + i, width - i);
        total = vf_fma(a, b, total);
    }
    return vf_sum(total);
}

void T(rms_norm)(const float *x, int32_t width, const float *weight, int32_t part, float eps,
                 float offset, float *y) {
    for (int32_t at = 0; at < width; at += part) {
        float mean = T(dot)(x + at, x + at, part) / (float)part;
        vf scale = vf_set(sqrtf(mean + eps)), more = vf_set(offset);
        ROW(x + at, part, y + at, v = vf_mul(vf_div(v, scale), vf_add(OTHER(weight), more)));
    }
}

void T(layer_norm)(const float *x, int32_t width, const float *weight, const float *bias, float eps,
                   float *y) {
    vf mean = vf_set(sum(x, width) / (float)width);
    ROW(x, width, y, v = vf_sub(v, mean));
    vf scale = vf_set(sqrtf(T(dot)(y, y, width) / (float)width + eps));
    ROW(y, width, y, v = vf_mul(vf_div(v, scale), OTHER(weight)));
    if (bias) ROW(y, width, y, v = vf_add(v, OTHER(bias)));
}

void T(rope)(const float *x, int32_t width, int32_t head_dim, int32_t half, const float *cosine,
             const float *sine, float *y) {
    for (int32_t at = 0; at < width; at += head_dim) {
        const float *a = x + at, *b = x + at + half;
        for (int32_t i = 0; i < half; i += LANES) {
            int32_t n = half - i < LANES ? half - i : LANES;
            vf c = vf_load_part(cosine + i, n), s = vf_load_part(sine + i, n);
            vf p = vf_load_part(a + i, n), q = vf_load_part(b + i, n);
            vf_store_part(y + at + i, vf_sub(vf_mul(p, c), vf_mul(q, s)), n);
            vf_store_part(y + at + half + i, vf_add(vf_mul(q, c), vf_mul(p, s)), n);
        }
        if (y != x)
            memcpy(y + at + 2 * half, x + at + 2 * half,
                   (size_t)(head_dim - 2 * half) * sizeof(float));
    }
}

/* The exact one goes through the C library: no checkpoint that is fast to run asks for it. */
static vf gelu(vf x) {
    float lanes[LANES];
    vf_store(lanes, x);
    for (int i = 0; i < LANES; i++)
        lanes[i] = lanes[i] * 0.5f * (1.0f + erff(lanes[i] / 1.41421356f));
    return vf_load(lanes);
}

INLINE vf gelu_tanh(vf x) {
    vf cube = vf_mul(vf_mul(vf_mul(vf_set(0.044715f), x), x), x);
    vf inner = vf_mul(vf_set(0.7978845608f), vf_add(x, cube));
    return vf_mul(vf_mul(x, vf_set(0.5f)), vf_add(vf_set(1.0f), vf_tanh(inner)));
}

INLINE vf activate(int32_t fn, vf x) {
    switch (fn) {
    case LLAMA_SILU: return vf_mul(x, vf_sigmoid(x));
    case LLAMA_GELU: return gelu(x);
    case LLAMA_GELU_TANH: return gelu_tanh(x);
    case LLAMA_RELU: return vf_most(vf_zero(), x);
    case LLAMA_SIGMOID: return vf_sigmoid(x);
    default: return vf_tanh(x);
    }
}

void T(activation)(int32_t fn, const float *x, int32_t width, float *y) {
    ROW(x, width, y, v = activate(fn, v));
}

void T(glu)(int32_t fn, const float *gate, const float *up, int32_t width, float *y) {
    ROW(gate, width, y, v = vf_mul(activate(fn, v), OTHER(up)));
}

void T(add)(const float *x, const float *z, int32_t width, float *y) {
    ROW(x, width, y, v = vf_add(v, OTHER(z)));
}

void T(mul)(const float *x, const float *z, float by, int32_t width, float *y) {
    vf factor = vf_set(by);
    if (z)
        ROW(x, width, y, v = vf_mul(vf_mul(v, factor), OTHER(z)));
    else
        ROW(x, width, y, v = vf_mul(v, factor));
}

void T(softcap)(const float *x, float cap, int32_t width, float *y) {
    vf c = vf_set(cap);
    ROW(x, width, y, v = vf_mul(vf_tanh(vf_div(v, c)), c));
}

void T(add_scaled)(const float *x, float by, int32_t width, float *y) {
    vf factor = vf_set(by);
    ROW(x, width, y, v = vf_add(OTHER(y), vf_mul(factor, v)));
}

void T(softmax)(const float *x, int32_t width, float *y) {
    float most = x[0];
    for (int32_t i = 1; i < width; i++) most = x[i] > most || x[i] != x[i] ? x[i] : most;
    vf peak = vf_set(most);
    ROW(x, width, y, v = vf_exp(vf_sub(v, peak)));
    vf total = vf_set(sum(y, width));
    ROW(y, width, y, v = vf_div(v, total));
}
