/* Steps random programs and compares them with plain loops, for a build under sanitizers: random
 * shapes, tails, encodings, activations, memories and tables; arrays are as long as they must be and
 * begin anywhere. In the end each program gets batches with one number spoiled, to be refused.
 *
 *   fuzz CASES SEED     a case is one step; the exit status counts the faults
 *
 * Inputs are such that rounding to 8 bits loses nothing, so that plain loops know the answer.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../native/llama_cpu.h"

#define CHECK(call) (void)((call) == LLAMA_OK || (broken(#call), 0))

static int faults;
static long cases;
static uint64_t dice;
static llama_program *p;

static int32_t below(int32_t n) {
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((dice >> 33) % (uint64_t)n);
}

static void broken(const char *what) {
    printf("case %ld: %s: %s\n", cases, what, llama_program_message(p));
    if (++faults > 20) exit(99);
}

static void *room(size_t count, size_t size) {
    void *found = malloc(count * size + !count);
    if (!found) exit(98);
    return found;
}

/* Numbers of 8 bits with 127 at the start of every `block`, so that its scale is a power of two. */
static void fill(float *x, int32_t n, int32_t block) {
    for (int32_t i = 0; i < n; i++)
        x[i] = (float)(i % block ? below(255) - 127 : below(2) ? 127 : -127) / 64;
}

static float anything(void) { return (float)(below(20001) - 10000) / 5000; }

static void compare(const char *what, float found, double expected, double size) {
    if (!(fabs(found - expected) <= 4e-6 * size + 1e-30)) {
        char text[160];
        snprintf(text, sizeof text, "%s gave %.9g, not %.9g of %.3g", what, found, expected, size);
        broken(text);
    }
}

/* ---- a program around one operation --------------------------------------------------------------- */

static int32_t value(int32_t width, int32_t gathered) {
    int32_t id = -1;
    CHECK(llama_program_value(p, width, gathered, &id));
    return id;
}

static llama_limits begin(llama_pool *pool, int32_t hidden, int32_t vocab, int32_t kv_type, int32_t block) {
    const llama_limits limits = {vocab, hidden, 64, 24, 3, block, 3 * (64 / block + 1), kv_type};
    CHECK(llama_program_new(pool, &limits, &p));
    float *table = calloc((size_t)vocab * (size_t)hidden, sizeof *table);
    const llama_weight_source source = {.kind = LLAMA_W_F32, .rows = vocab, .cols = hidden, .data = table};
    int32_t weight;
    CHECK(llama_program_weight(p, &source, &weight));
    free(table);
    const llama_op embed = {.kind = LLAMA_EMBED, .output = value(hidden, 0), .inputs = {-1, -1, -1},
                            .num_weights = 1, .weights = &weight};
    CHECK(llama_program_add(p, &embed));
    return limits;
}

static void finish(int32_t of, int32_t width) {
    const llama_op gather = {.kind = LLAMA_GATHER, .output = value(width, 1), .inputs = {of, -1, -1}};
    CHECK(llama_program_add(p, &gather));
    CHECK(llama_program_finish(p, gather.output, -1));
}

/* A batch whose arrays are exactly as long as they must be; T rows of S sequences. */
typedef struct work {
    llama_batch batch;
    int32_t *tokens, *positions, *starts, *blocks, *block_starts;
    uint8_t *want;
    float *x, *raw, *logits;
} work;

static work make(const llama_limits *l, const int32_t *lengths, int32_t S, const int32_t *from, const int32_t *table) {
    const int32_t per = table ? l->num_blocks / 3 : 0, offset = below(16);
    work w = {0};
    int32_t T = 0;
    w.starts = room((size_t)S + 1, 4);
    for (int32_t s = 0; s < S; s++) w.starts[s] = T, T += lengths[s];
    w.starts[S] = T;
    w.tokens = room((size_t)T, 4), w.positions = room((size_t)T, 4), w.want = room((size_t)T, 1);
    w.blocks = room((size_t)(per * S), 4), w.block_starts = room((size_t)S + 1, 4);
    w.raw = room((size_t)(T * l->hidden_size + offset), 4);
    w.x = w.raw + offset;
    w.logits = room((size_t)(T * l->vocab_size), 4);
    for (int32_t s = 0; s <= S; s++) w.block_starts[s] = s * per;
    for (int32_t i = 0; i < per * S; i++) w.blocks[i] = table[i];
    for (int32_t s = 0; s < S; s++)
        for (int32_t r = w.starts[s]; r < w.starts[s + 1]; r++)
            w.tokens[r] = -1, w.positions[r] = from[s] + r - w.starts[s], w.want[r] = LLAMA_LOGITS;
    w.batch = (llama_batch){T, S, per * S, w.tokens, w.positions, w.starts, w.blocks, w.block_starts,
                            w.want, NULL, w.x, NULL};
    return w;
}

static void drop(work *w) {
    void *each[] = {w->tokens, w->positions, w->starts, w->blocks, w->block_starts, w->want, w->raw, w->logits};
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) free(each[i]);
}

static int32_t step(const work *w) {
    cases++;
    return llama_program_step(p, &w->batch, &(llama_results){.logits = w->logits});
}

/* One number spoiled: what is surely wrong must be refused, and nothing may be read or written that
 * is not the program's; the sanitizers see to that. */
static void spoil(const llama_limits *l, const int32_t *table) {
    const int32_t lengths[] = {1 + below(4), below(4)}, from[] = {below(40), below(40)};
    const int32_t odd[] = {-1, 1 << 30, -(1 << 30), 70, 1000};
    work w = make(l, lengths, 2, from, table);
    fill(w.x, w.batch.num_tokens * l->hidden_size, 1);
    const int32_t T = w.batch.num_tokens, row = below(T), bad = odd[below(5)];
    int32_t sure = 1;
    switch (below(table ? 9 : 6)) {
    case 0: w.tokens[row] = below(2) ? l->vocab_size : -2 - below(9); break;
    case 1: w.positions[row] = below(2) ? -1 : l->context_length; break;
    case 2: w.want[row] = (uint8_t)(4 + below(252)); break;
    case 3: w.batch.num_tokens = below(2) ? -1 : l->max_tokens + 1; break;
    case 4: w.batch.num_sequences = below(2) ? -1 : l->max_sequences + 1; break;
    case 5: w.starts[below(3)] = bad; break;
    case 6: w.blocks[(from[0] + below(lengths[0])) / l->block_size] = below(2) ? -1 : l->num_blocks; break;
    case 7: w.block_starts[below(3)] = bad, sure = bad < 0 || bad > 100; break;
    default: w.positions[row] = below(l->context_length), sure = 0; break;
    }
    const int32_t status = step(&w);
    if (sure && !status) broken("a spoiled batch was stepped");
    drop(&w);
}

/* ---- linear ----------------------------------------------------------------------------------------- */

typedef struct weights {
    llama_weight_source s;
    double *w, *size; /* [N, K]: the number, and how large what it is made of is */
} weights;

static weights random_weights(int32_t N, int32_t K) {
    const int32_t kind = below(5), bits = kind == LLAMA_W_TABLE ? 4 : 1 + below(8), most = (1 << bits) - 1;
    const int32_t group = below(4) ? 8 * (1 + below(5)) : K + below(3), groups = group >= K ? 1 : (K + group - 1) / group;
    weights m = {{kind, N, K, bits, group, kind == LLAMA_W_AFFINE && bits > 1 ? below(most + 1) : 0, NULL, NULL, NULL, NULL},
                 room((size_t)(N * K), sizeof(double)), room((size_t)(N * K), sizeof(double))};
    float *scales = room((size_t)(N * groups), 4), *least = room((size_t)(N * groups), 4), *table = room(16, 4);
    uint8_t *data = room((size_t)(N * K), kind == LLAMA_W_F32 ? 4 : kind < LLAMA_W_AFFINE ? 2 : 1);
    const int exact = below(2), has_least = kind == LLAMA_W_AFFINE && below(2);
    for (int32_t i = 0; i < 16; i++) table[i] = anything();
    for (int32_t i = 0; i < N * groups; i++) {
        scales[i] = exact ? (float)(1 + below(200)) / 256 : anything();
        least[i] = exact ? (float)(below(200) - 100) / 64 : anything();
    }
    for (int32_t i = 0; i < N * K; i++) {
        const int32_t code = below(most + 1), g = i / K * groups + i % K / (group >= K ? K : group);
        const float x = anything();
        uint32_t u;
        memcpy(&u, &x, 4);
        m.w[i] = x, m.size[i] = fabs(x);
        if (kind == LLAMA_W_F32) ((float *)data)[i] = x;
        if (kind == LLAMA_W_BF16) {
            ((uint16_t *)data)[i] = (uint16_t)(u >> 16);
            u &= 0xffff0000u;
            float cut;
            memcpy(&cut, &u, 4);
            m.w[i] = cut, m.size[i] = fabs(cut);
        }
        if (kind == LLAMA_W_F16) {
            const uint16_t half = (uint16_t)(below(2) << 15 | below(0x7c00));
            const int32_t power = half >> 10 & 31, part = half & 1023;
            ((uint16_t *)data)[i] = half;
            m.w[i] = ldexp(power ? part + 1024 : part, (power ? power : 1) - 25) * (half >> 15 ? -1 : 1);
            m.size[i] = fabs(m.w[i]);
        }
        if (kind < LLAMA_W_AFFINE) continue;
        const double by = scales[g], more = has_least ? least[g] : 0, middle = bits > 4 ? 128 : 0;
        data[i] = (uint8_t)code;
        m.w[i] = kind == LLAMA_W_TABLE ? (double)table[code] * by : by * (code - m.s.zero) + more;
        m.size[i] = kind == LLAMA_W_TABLE ? fabs(m.w[i])
                                          : fabs(by) * (fabs(code - middle) + fabs(m.s.zero - middle)) + fabs(more);
    }
    m.s.data = data, m.s.scales = scales, m.s.table = table, m.s.minimums = has_least ? least : NULL;
    if (!has_least) free(least);
    return m;
}

static void try_linear(llama_pool *pool) {
    const int32_t K = 1 + below(below(9) ? 100 : 600), N = 1 + below(below(9) ? 50 : 200), act = below(3);
    const int32_t block = below(3) ? 8 * (1 + below(6)) : 1 + below(K + 4);
    const llama_limits l = begin(pool, K, N, LLAMA_KV_F32, 16);
    weights m = random_weights(N, K);
    int32_t id = -1, *order = act != LLAMA_ACT_Q8 && !below(3) ? room((size_t)K, 4) : NULL;
    float *bias = below(2) ? room((size_t)N, 4) : NULL;
    for (int32_t i = 0; bias && i < N; i++) bias[i] = anything();
    for (int32_t k = 0; order && k < K; k++) order[k] = below(K);
    CHECK(llama_program_weight(p, &m.s, &id));
    const llama_op op = {.kind = LLAMA_LINEAR, .output = value(N, 0), .inputs = {0, -1, -1}, .num_weights = 1,
                         .weights = &id, .vector = bias, .order = order, .act = act, .act_block = block,
                         .act_scale = 1.0f / 64};
    CHECK(llama_program_add(p, &op));
    finish(op.output, N);
    for (int i = 0; i < 4; i++) {
        const int32_t T = 1 + below(i ? 24 : 3), from = below(40);
        work w = make(&l, &T, 1, &from, NULL);
        for (int32_t r = 0; r < T; r++) fill(w.x + r * K, K, act == LLAMA_ACT_Q8 ? block : K);
        CHECK(step(&w));
        for (int32_t at = 0; at < T * N; at++) {
            const float *x = w.x + at / N * K;
            const int32_t n = at % N;
            double sum = bias ? bias[n] : 0, size = fabs(sum);
            for (int32_t k = 0; k < K; k++) {
                sum += m.w[n * K + k] * x[order ? order[k] : k];
                size += m.size[n * K + k] * fabs(x[order ? order[k] : k]);
            }
            compare("linear", w.logits[at], sum, size);
        }
        drop(&w);
    }
    spoil(&l, NULL);
    void *each[] = {m.w, m.size, (void *)m.s.data, (void *)m.s.scales, (void *)m.s.minimums, (void *)m.s.table, order, bias};
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) free(each[i]);
}

/* ---- operations on single rows ------------------------------------------------------------------------ */

static double by_function(int32_t fn, double x) {
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

static void try_rows(llama_pool *pool) {
    const int32_t kinds[] = {LLAMA_RMS_NORM, LLAMA_LAYER_NORM, LLAMA_ACTIVATION, LLAMA_GLU, LLAMA_ADD, LLAMA_MUL,
                             LLAMA_SOFTCAP};
    const int32_t kind = kinds[below(7)], part = 1 + below(70), W = kind == LLAMA_RMS_NORM ? part * (1 + below(4)) : part;
    const int both = kind == LLAMA_GLU || kind == LLAMA_ADD || (kind == LLAMA_MUL && below(2));
    const llama_limits l = begin(pool, W, W, LLAMA_KV_F32, 16);
    float *vector = room((size_t)part, 4), *bias = room((size_t)part, 4);
    for (int32_t i = 0; i < part; i++) vector[i] = anything(), bias[i] = anything();
    const llama_op op = {.kind = kind, .output = value(W, 0), .inputs = {0, both ? 0 : -1, -1}, .vector = vector,
                         .bias = bias, .vector_size = part, .fn = below(6), .eps = 1e-5f, .offset = (float)below(2),
                         .by = 0.5f + (float)below(8)};
    CHECK(llama_program_add(p, &op));
    finish(op.output, W);
    for (int round = 0; round < 4; round++) {
        const int32_t T = 1 + below(24), from = 0;
        work w = make(&l, &T, 1, &from, NULL);
        fill(w.x, T * W, 3);
        CHECK(step(&w));
        for (int32_t i = 0; i < T * W; i++) /* what cancels is measured against what went in */
            compare("a row", w.logits[i], expected_of(&op, w.x + i / W * W, W, i % W), W > 1 ? 40 : 400);
        drop(&w);
    }
    spoil(&l, NULL);
    free(vector);
    free(bias);
}

/* ---- attention ---------------------------------------------------------------------------------------- */

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

static void try_attention(llama_pool *pool) {
    past a = {.kv_heads = 1 + below(3), .D = 1 + below(40), .window = below(2) ? 1 + below(20) : 0,
              .softcap = below(3) ? 0 : 2};
    a.heads = a.kv_heads * (1 + below(4)), a.scale = 1 / sqrtf((float)a.D) / 4;
    const int32_t q = a.heads * a.D, kv = a.kv_heads * a.D, width = q + 2 * kv;
    const llama_limits l = begin(pool, width, q, below(4), 1 + below(33));
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
    int32_t *table = room((size_t)l.num_blocks, 4);
    for (int32_t i = 0; i < l.num_blocks; i++) {
        const int32_t j = below(i + 1);
        table[i] = table[j], table[j] = i;
    }
    for (int s = 0; s < 3; s++) a.rows[s] = room((size_t)(64 * width), 4);
    for (int round = 0; round < 6; round++) {
        const int32_t lengths[] = {below(8), 1 + below(9), below(3)};
        work w = make(&l, lengths, 3, a.length, table);
        fill(w.x, w.batch.num_tokens * width, a.D); /* every head has its 127 */
        CHECK(step(&w));
        for (int s = 0; s < 3; s++) {
            memcpy(a.rows[s] + a.length[s] * width, w.x + w.starts[s] * width, (size_t)(lengths[s] * width) * 4);
            for (int32_t r = 0; r < lengths[s]; r++)
                check_row(&a, s, a.length[s] + r, width, w.logits + (w.starts[s] + r) * q);
            a.length[s] += lengths[s];
        }
        drop(&w);
    }
    for (int i = 0; i < 3; i++) spoil(&l, table);
    for (int s = 0; s < 3; s++) free(a.rows[s]);
    free(table);
}

int main(int argc, char **argv) {
    const long wanted = argc > 1 ? strtol(argv[1], NULL, 10) : 2000;
    const char *tiers[8];
    int32_t num_tiers = 0;
    llama_pool *pools[2];
    dice = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    for (int32_t i = 0; llama_tier_name(i); i++)
        if (llama_tier_runs(llama_tier_name(i))) tiers[num_tiers++] = llama_tier_name(i);
    if (llama_pool_new(1, pools) || llama_pool_new(2, pools + 1)) return 97;
    while (cases < wanted) {
        const char *tier = tiers[below(num_tiers)];
        const long before = faults;
        CHECK(llama_tier_use(tier));
        llama_pool *pool = pools[!below(10)];
        const int32_t what = below(5);
        (what < 2 ? try_linear : what < 3 ? try_rows : try_attention)(pool);
        llama_program_free(p);
        p = NULL;
        if (faults > before) printf("  on the tier %s\n", tier);
    }
    llama_pool_free(pools[0]);
    llama_pool_free(pools[1]);
    printf("%ld cases on %d tiers, %d faults\n", cases, num_tiers, faults);
    return faults > 99 ? 99 : faults;
}
