/* Operations on single rows, and attention over a past of several steps, beside plain loops. */
#include "fuzz.h"

double by_function(int32_t fn, double x) {
    switch (fn) {
    case LLAMA_SILU: return x / (1 + exp(-x));
    case LLAMA_GELU: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case LLAMA_GELU_TANH: return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case LLAMA_RELU: return x > 0 ? x : 0;
    case LLAMA_SIGMOID: return 1 / (1 + exp(-x));
    default: return tanh(x);
    }
}

static double expected_of(const llama_op *op, const float *x, int32_t W, int32_t i) {
    double mean = 0, square = 0;
    switch (op->kind) {
    case LLAMA_ACTIVATION: return by_function(op->fn, x[i]);
    case LLAMA_GLU: return by_function(op->fn, x[i]) * x[i];
    case LLAMA_ADD: return (double)x[i] + x[i];
    case LLAMA_MUL: return op->inputs[1] < 0 ? (double)x[i] * op->by : (double)x[i] * x[i] * op->by;
    case LLAMA_SOFTCAP: return op->by * tanh(x[i] / (double)op->by);
    default: break;
    }
    const int32_t part = op->vector_size, first = i / part * part;
    for (int32_t k = 0; k < part; k++) mean += x[first + k], square += (double)x[first + k] * x[first + k];
    mean /= part, square /= part;
    if (op->kind == LLAMA_RMS_NORM)
        return x[i] / sqrt(square + op->eps) * ((double)op->vector[i % part] + op->offset);
    double spread = 0;
    for (int32_t k = 0; k < W; k++) spread += (x[k] - mean) * (x[k] - mean);
    return (x[i] - mean) / sqrt(spread / W + op->eps) * op->vector[i] + op->bias[i];
}

static void count_row(const llama_op *op) {
    static const char *const names[] = {[LLAMA_RMS_NORM] = "rms_norm", [LLAMA_LAYER_NORM] = "layer_norm",
        [LLAMA_ACTIVATION] = "activation", [LLAMA_GLU] = "glu", [LLAMA_ADD] = "add", [LLAMA_MUL] = "mul",
        [LLAMA_SOFTCAP] = "softcap"};
    static const char *const functions[] = {" silu", " gelu", " gelu_tanh", " relu", " sigmoid", " tanh"};
    const int has_function = op->kind == LLAMA_ACTIVATION || op->kind == LLAMA_GLU;
    char name[64];
    snprintf(name, sizeof name, "%s%s", names[op->kind],
             has_function ? functions[op->fn] : op->kind == LLAMA_MUL && op->inputs[1] >= 0 ? " two" : "");
    met(name);
}

void try_rows(llama_pool *pool) {
    const int32_t kinds[] = {LLAMA_RMS_NORM, LLAMA_LAYER_NORM, LLAMA_ACTIVATION, LLAMA_GLU, LLAMA_ADD, LLAMA_MUL,
                             LLAMA_SOFTCAP};
    const int32_t kind = kinds[below(7)], part = 1 + below(70), W = kind == LLAMA_RMS_NORM ? part * (1 + below(4)) : part;
    const int both = kind == LLAMA_GLU || kind == LLAMA_ADD || (kind == LLAMA_MUL && below(2));
    const llama_limits l = begin(pool, W, W, LLAMA_KV_F32, 16, NULL);
    float *vector = room((size_t)part, 4), *bias = room((size_t)part, 4);
    for (int32_t i = 0; i < part; i++) vector[i] = anything(), bias[i] = anything();
    const llama_op op = {.kind = kind, .output = value(W, 0), .inputs = {0, both ? 0 : -1, -1}, .vector = vector,
                         .bias = bias, .vector_size = part, .fn = below(6), .eps = 1e-5f, .offset = (float)below(2),
                         .by = 0.5f + (float)below(8)};
    CHECK(llama_program_add(p, &op));
    finish(op.output, W);
    count_row(&op);
    for (int round = 0; round < 4; round++) {
        const int32_t T = 1 + below(24), from = 0;
        work w = make(&l, &T, 1, &from, NULL);
        fill(w.x, T * W, 3, 127);
        CHECK(step(&w));
        for (int32_t i = 0; i < T * W; i++) /* what cancels is measured against what went in */
            compare("a row", w.logits[i], expected_of(&op, w.x + i / W * W, W, i % W), W > 1 ? 40 : 400);
        drop(&w);
    }
    spoil(&l, NULL, 0);
    free(vector);
    free(bias);
}

typedef struct past {
    int32_t heads, kv_heads, D, window, length[3];
    float scale, softcap;
    float *rows[3]; /* of q, k, v as they came */
} past;

static double score(const past *a, const float *q, const float *k) {
    double sum = 0;
    for (int32_t d = 0; d < a->D; d++) sum += (double)q[d] * k[d];
    sum *= a->scale;
    return a->softcap > 0 ? a->softcap * tanh(sum / a->softcap) : sum;
}

static void check_row(const past *a, int32_t s, int32_t at, int32_t width, const float *found) {
    const int32_t first = a->window && at >= a->window ? at - a->window + 1 : 0;
    for (int32_t h = 0; h < a->heads; h++) {
        const int32_t kh = h / (a->heads / a->kv_heads);
        const float *q = a->rows[s] + at * width + h * a->D;
        double total = 0, most = -INFINITY, sums[64] = {0};
        for (int pass = 0; pass < 2; pass++)
            for (int32_t i = first; i <= at; i++) {
                const float *k = a->rows[s] + i * width + (a->heads + kh) * a->D, *v = k + a->kv_heads * a->D;
                const double x = score(a, q, k);
                if (!pass) most = x > most ? x : most;
                for (int32_t d = 0; pass && d < a->D; d++) sums[d] += exp(x - most) * v[d];
                if (pass) total += exp(x - most);
            }
        for (int32_t d = 0; d < a->D; d++) compare("attention", found[h * a->D + d], sums[d] / total, 12);
    }
}

/* ---- rope ------------------------------------------------------------------------------------------- */

void try_rope(llama_pool *pool) {
    const int32_t half = 1 + below(30), D = 2 * half + below(3), heads = 1 + below(3), W = heads * D;
    const llama_limits l = begin(pool, W, W, LLAMA_KV_F32, 16, NULL);
    float *c = room((size_t)(64 * half), 4), *s = room((size_t)(64 * half), 4);
    for (int32_t i = 0; i < 64 * half; i++) c[i] = anything(), s[i] = anything();
    const int32_t first = 1 + below(63); /* the table grows, too */
    CHECK(llama_program_rope(p, 0, half, first, c, s));
    CHECK(llama_program_rope(p, 0, half, 64 - first, c + first * half, s + first * half));
    const llama_op op = {.kind = LLAMA_ROPE, .output = value(W, 0), .inputs = {0, -1, -1}, .head_dim = D,
                         .rotary_dim = 2 * half};
    CHECK(llama_program_add(p, &op));
    finish(op.output, W);
    met("rope");
    for (int round = 0; round < 3; round++) {
        const int32_t T = 1 + below(24), from = below(40);
        work w = make(&l, &T, 1, &from, NULL);
        fill(w.x, T * W, 3, 127);
        CHECK(step(&w));
        for (int32_t i = 0; i < T * W; i++) {
            const int32_t k = i % W % D, at = (from + i / W) * half + k % half;
            const int32_t partner = k < half ? i + half : i - half;
            const double x = w.x[i], sign = k < half ? -1 : 1;
            const double turned = k < 2 * half ? x * c[at] + sign * w.x[partner] * s[at] : x;
            compare("rope", w.logits[i], turned, 8);
        }
        drop(&w);
    }
    spoil(&l, NULL, 0);
    free(c);
    free(s);
}

/* ---- attention ---------------------------------------------------------------------------------------- */

static const char *const memories[] = {"f32", "f16", "bf16", "q8"};

void try_attention(llama_pool *pool) {
    past a = {.kv_heads = 1 + below(3), .D = 1 + below(40), .window = below(2) ? 1 + below(20) : 0,
              .softcap = below(3) ? 0 : 2};
    a.heads = a.kv_heads * (1 + below(4)), a.scale = 1 / sqrtf((float)a.D) / 4;
    const int32_t q = a.heads * a.D, kv = a.kv_heads * a.D, width = q + 2 * kv;
    const llama_limits l = begin(pool, width, q, below(4), 1 + below(33), NULL);
    const int32_t widths[] = {q, kv, kv};
    CHECK(llama_program_group(p, 1, a.kv_heads, a.D));
    for (int32_t i = 0, start = 0; i < 3; start += widths[i++]) {
        const llama_op cut = {.kind = LLAMA_SLICE, .output = value(widths[i], 0), .inputs = {0, -1, -1}, .start = start};
        CHECK(llama_program_add(p, &cut));
    }
    const llama_op op = {.kind = LLAMA_ATTENTION, .output = value(q, 0), .inputs = {1, 2, 3}, .head_dim = a.D,
                         .heads = a.heads, .kv_heads = a.kv_heads, .window = a.window, .scale = a.scale,
                         .softcap = a.softcap};
    CHECK(llama_program_add(p, &op));
    finish(op.output, q);
    char name[64];
    snprintf(name, sizeof name, "attention %s%s%s", memories[l.kv_type], a.window ? " window" : "",
             a.softcap > 0 ? " softcap" : "");
    met(name);
    int32_t *table = room((size_t)l.num_blocks, 4);
    for (int32_t i = 0; i < l.num_blocks; i++) {
        const int32_t j = below(i + 1);
        table[i] = table[j], table[j] = i;
    }
    for (int s = 0; s < 3; s++) a.rows[s] = room((size_t)(64 * width), 4);
    for (int round = 0; round < 6; round++) {
        const int32_t lengths[] = {below(8), 1 + below(9), below(3)};
        work w = make(&l, lengths, 3, a.length, table);
        fill(w.x, w.batch.num_tokens * width, a.D, 127); /* every head has its 127 */
        CHECK(step(&w));
        for (int s = 0; s < 3; s++) {
            memcpy(a.rows[s] + a.length[s] * width, w.x + w.starts[s] * width, (size_t)(lengths[s] * width) * 4);
            for (int32_t r = 0; r < lengths[s]; r++)
                check_row(&a, s, a.length[s] + r, width, w.logits + (w.starts[s] + r) * q);
            a.length[s] += lengths[s];
        }
        drop(&w);
    }
    for (int i = 0; i < 3; i++) spoil(&l, table, 0);
    for (int s = 0; s < 3; s++) free(a.rows[s]);
    free(table);
}
