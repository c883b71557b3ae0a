/* Operations with matrices, of every kind and encoding, beside plain loops over the same numbers. */
#include "fuzz.h"

typedef struct weights {
    llama_weight_source s;
    double *w, *size; /* [N, K]: the number, and how large what it is made of is */
} weights;

static weights random_weights(int32_t N, int32_t K) {
    /* The four kinds beside codes, then each number of bits, without and with a zero or minimums;
     * oftenest those of 2 and 1 bits, which lie in two ways. */
    const int32_t turn = below(46), way = turn % 3;
    const int32_t kind = turn >= 4 ? LLAMA_W_AFFINE : turn == 3 ? LLAMA_W_TABLE : turn;
    const int32_t bits = turn < 4 ? 4 : turn < 28 ? 1 + (turn - 4) / 3 : 1 + turn % 2, most = (1 << bits) - 1;
    const int32_t group = below(4) ? (below(2) ? 32 : 8) * (1 + below(5)) : K + below(3);
    const int32_t groups = group >= K ? 1 : (K + group - 1) / group;
    const int in_strips = K % 32 == 0 && (group % 32 == 0 || group >= K);
    /* Mostly a zero that is a code, at times one that is none; of one bit, in halves. */
    const int32_t zero = kind != LLAMA_W_AFFINE || (bits == 1 && !in_strips) ? 0
                         : way == 0 ? 0 : below(8) ? 1 + below(bits == 1 ? 3 : most) : below(256);
    weights m = {{kind, N, K, bits, group, zero, NULL, NULL, NULL, NULL},
                 room((size_t)(N * K), sizeof(double)), room((size_t)(N * K), sizeof(double))};
    float *scales = room((size_t)(N * groups), 4), *least = room((size_t)(N * groups), 4), *table = room(16, 4);
    uint8_t *data = room((size_t)(N * K), kind == LLAMA_W_F32 ? 4 : kind < LLAMA_W_AFFINE ? 2 : 1);
    const double from = bits == 1 ? zero / 2.0 : zero;
    const int exact = below(2), has_least = kind == LLAMA_W_AFFINE && way == 2;
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
        m.w[i] = kind == LLAMA_W_TABLE ? (double)table[code] * by : by * (code - from) + more;
        m.size[i] = kind == LLAMA_W_TABLE ? fabs(m.w[i])
                                          : fabs(by) * (fabs(code - middle) + fabs(from - middle)) + fabs(more);
    }
    m.s.data = data, m.s.scales = scales, m.s.table = table, m.s.minimums = has_least ? least : NULL;
    if (!has_least) free(least);
    return m;
}

/* Columns: any number, or one in which codes of 2 and 1 bits lie as such. */
static int32_t columns(int32_t most) { return below(2) ? 1 + below(most) : 32 * (1 + below(most / 32)); }

static void count_linear(const char *op, const llama_weight_source *s, int32_t act) {
    static const char *const kinds[] = {"f32", "f16", "bf16", "affine", "table"};
    static const char *const acts[] = {"none", "q8", "static", "q7"};
    char name[64];
    if (s->kind == LLAMA_W_AFFINE)
        snprintf(name, sizeof name, "%s affine%d%s%s act=%s", op, s->bits,
                 s->bits > 2 ? "" : s->cols % 32 || (s->group % 32 && s->group < s->cols) ? " wide" : " native",
                 op[0] == 'm' ? "" : s->minimums ? " min" : s->zero ? " zero" : "", acts[act]);
    else
        snprintf(name, sizeof name, "%s %s act=%s", op, kinds[s->kind], acts[act]);
    met(name);
}

static void forget(weights *m) {
    void *each[] = {m->w, m->size, (void *)m->s.data, (void *)m->s.scales, (void *)m->s.minimums, (void *)m->s.table};
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) free(each[i]);
}

/* ---- linear ----------------------------------------------------------------------------------------- */

void try_linear(llama_pool *pool) {
    const int32_t K = columns(below(9) ? 100 : 600), N = 1 + below(below(9) ? 50 : 200), act = below(4);
    const int32_t block = below(3) ? (below(2) ? 32 : 8) * (1 + below(6)) : 1 + below(K + 4);
    const int in_blocks = act == LLAMA_ACT_Q8 || act == LLAMA_ACT_Q7;
    const llama_limits l = begin(pool, K, N, LLAMA_KV_F32, 16, NULL);
    weights m = random_weights(N, K);
    int32_t id = -1, *order = !in_blocks && !below(3) ? room((size_t)K, 4) : NULL;
    float *bias = below(2) ? room((size_t)N, 4) : NULL;
    for (int32_t i = 0; bias && i < N; i++) bias[i] = anything();
    for (int32_t k = 0; order && k < K; k++) order[k] = below(K);
    CHECK(llama_program_weight(p, &m.s, &id));
    const llama_op op = {.kind = LLAMA_LINEAR, .output = value(N, 0), .inputs = {0, -1, -1}, .num_weights = 1,
                         .weights = &id, .vector = bias, .order = order, .act = act, .act_block = block,
                         .act_scale = 1.0f / 64};
    CHECK(llama_program_add(p, &op));
    finish(op.output, N);
    count_linear("linear", &m.s, act);
    for (int i = 0; i < 4; i++) {
        const int32_t T = 1 + below(i ? 24 : 3), from = below(40);
        work w = make(&l, &T, 1, &from, NULL);
        for (int32_t r = 0; r < T; r++) fill(w.x + r * K, K, in_blocks ? block : K, act == LLAMA_ACT_Q7 ? 63 : 127);
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
    spoil(&l, NULL, 0);
    forget(&m);
    free(order);
    free(bias);
}

/* ---- embed: rows of a table of any encoding, and vectors among them ------------------------------------ */

void try_embed(llama_pool *pool) {
    const int32_t W = columns(80);
    weights m = random_weights(W, W);
    const llama_limits l = begin(pool, W, W, LLAMA_KV_F32, 16, &m.s);
    finish(0, W);
    count_linear("embed", &m.s, LLAMA_ACT_NONE);
    for (int round = 0; round < 3; round++) {
        const int32_t T = 1 + below(24), from = below(40);
        work w = make(&l, &T, 1, &from, NULL);
        fill(w.x, T * W, 1, 127);
        for (int32_t r = 0; r < T; r++) w.tokens[r] = below(W + 1) - 1;
        CHECK(step(&w));
        for (int32_t i = 0; i < T * W; i++) {
            const int32_t token = w.tokens[i / W], at = token * W + i % W;
            compare("embed", w.logits[i], token < 0 ? w.x[i] : m.w[at], token < 0 ? 0 : m.size[at]);
        }
        drop(&w);
    }
    spoil(&l, NULL, 0);
    forget(&m);
}

/* ---- mixture of experts --------------------------------------------------------------------------------- */

typedef struct numbers {
    double *x, *off; /* what they are, and by how much they may be off */
} numbers;

static numbers make_numbers(int32_t n) {
    return (numbers){room((size_t)n, sizeof(double)), room((size_t)n, sizeof(double))};
}

static void free_numbers(numbers n) {
    free(n.x);
    free(n.off);
}

/* y = W x, and how far rounding may lead away from it. */
static void apply(const weights *m, numbers x, numbers y) {
    const int32_t K = m->s.cols;
    for (int32_t n = 0; n < m->s.rows; n++) {
        y.x[n] = 0, y.off[n] = 0;
        for (int32_t k = 0; k < K; k++) {
            y.x[n] += m->w[n * K + k] * x.x[k];
            y.off[n] += m->size[n * K + k] * (2e-6 * fabs(x.x[k]) + x.off[k]);
        }
    }
}

/* Rounding to so many steps moves a number by half a step, and by one where it lies between two. */
static void round_blocks(numbers x, int32_t n, int32_t block, int32_t steps) {
    for (int32_t at = 0; at < n; at += block) {
        const int32_t end = at + block < n ? at + block : n;
        double most = 0;
        for (int32_t i = at; i < end; i++) most = fmax(most, fabs(x.x[i]) + x.off[i]);
        for (int32_t i = at; i < end; i++) x.off[i] += most / steps;
    }
}

static void mix(const weights *experts, int32_t E, int32_t top_k, int32_t fn, int32_t normalize, int32_t block,
                int32_t steps, const float *row, numbers out) {
    const int32_t D = experts[0].s.cols, inner = experts[0].s.rows;
    const float *scores = row + D;
    numbers x = make_numbers(D), gate = make_numbers(inner), up = make_numbers(inner), down = make_numbers(D);
    double total = 0, chosen = 0;
    uint8_t taken[8] = {0};
    for (int32_t e = 0; e < E; e++) total += exp(scores[e]);
    for (int32_t k = 0; k < D; k++) x.x[k] = row[k], x.off[k] = 0, out.x[k] = 0, out.off[k] = 0;
    for (int pass = 0; pass < 2; pass++, memset(taken, 0, sizeof taken))
        for (int32_t n = 0; n < top_k; n++) {
            int32_t best = -1;
            for (int32_t e = 0; e < E; e++)
                if (!taken[e] && (best < 0 || scores[e] > scores[best])) best = e;
            taken[best] = 1;
            const double share = exp(scores[best]) / (normalize ? chosen : total);
            if (!pass) chosen += exp(scores[best]);
            if (!pass) continue;
            apply(experts + 3 * best, x, gate);
            apply(experts + 3 * best + 1, x, up);
            for (int32_t i = 0; i < inner; i++) { /* no slope is steeper than 1.2 */
                const double g = by_function(fn, gate.x[i]);
                gate.off[i] = fabs(up.x[i]) * (1.2 * gate.off[i] + 4e-6 * fabs(gate.x[i])) + fabs(g) * up.off[i] +
                              1.2 * gate.off[i] * up.off[i];
                gate.x[i] = g * up.x[i];
            }
            if (block) round_blocks(gate, inner, block, steps);
            apply(experts + 3 * best + 2, gate, down);
            for (int32_t k = 0; k < D; k++) {
                out.x[k] += share * down.x[k];
                out.off[k] += share * (down.off[k] + 4e-6 * fabs(down.x[k]));
            }
        }
    free_numbers(x), free_numbers(gate), free_numbers(up), free_numbers(down);
}

/* Matrices of one encoding: those that are prepared together must be packed alike. */
static weights alike(const weights *first, int32_t N, int32_t K) {
    for (;;) {
        weights m = random_weights(N, K);
        const llama_weight_source *a = &first->s, *b = &m.s;
        if (a->kind == b->kind && (a->kind < LLAMA_W_AFFINE || (a->group == b->group && a->bits == b->bits))) return m;
        forget(&m);
    }
}

void try_moe(llama_pool *pool) {
    const int32_t E = 1 + below(5), D = columns(64), inner = columns(64), width = D + E;
    static const int32_t acts[] = {LLAMA_ACT_NONE, LLAMA_ACT_Q8, LLAMA_ACT_Q7};
    const int32_t act = acts[below(3)], most = act == LLAMA_ACT_Q7 ? 63 : 127;
    const int32_t block = below(2) ? 32 : 8 * (1 + below(4));
    weights experts[15];
    int32_t ids[15];
    const llama_limits l = begin(pool, width, D, LLAMA_KV_F32, 16, NULL);
    for (int32_t i = 0; i < 3 * E; i++) {
        const int32_t is_down = i % 3 == 2, rows = is_down ? D : inner, cols = is_down ? inner : D;
        const int is_first = i == 0 || i == 2;
        experts[i] = is_first ? random_weights(rows, cols) : alike(experts + (is_down ? 2 : 0), rows, cols);
        CHECK(llama_program_weight(p, &experts[i].s, ids + i));
    }
    const llama_op x = {.kind = LLAMA_SLICE, .output = value(D, 0), .inputs = {0, -1, -1}};
    const llama_op scores = {.kind = LLAMA_SLICE, .output = value(E, 0), .inputs = {0, -1, -1}, .start = D};
    CHECK(llama_program_add(p, &x));
    CHECK(llama_program_add(p, &scores));
    met("slice");
    const llama_op op = {.kind = LLAMA_MOE, .output = value(D, 0), .inputs = {x.output, scores.output, -1},
                         .num_weights = 3 * E, .weights = ids, .act = act, .act_block = block, .fn = below(6),
                         .top_k = 1 + below(E), .normalize = below(2)};
    CHECK(llama_program_add(p, &op));
    finish(op.output, D);
    count_linear("moe", &experts[0].s, act);
    numbers out = make_numbers(D);
    for (int round = 0; round < 2; round++) {
        const int32_t T = 1 + below(9), from = below(40);
        work w = make(&l, &T, 1, &from, NULL);
        for (int32_t r = 0; r < T; r++) {
            fill(w.x + r * width, D, block, most);
            fill(w.x + r * width + D, E, 1 << 20, 127);
        }
        CHECK(step(&w));
        for (int32_t r = 0; r < T; r++) {
            mix(experts, E, op.top_k, op.fn, op.normalize, act ? block : 0, most, w.x + r * width, out);
            for (int32_t k = 0; k < D; k++) compare("moe", w.logits[r * D + k], out.x[k], out.off[k] / 4e-6);
        }
        drop(&w);
    }
    spoil(&l, NULL, 0);
    free_numbers(out);
    for (int32_t i = 0; i < 3 * E; i++) forget(experts + i);
}

/* ---- adapters: slots of different ranks, rows with one, with another and with none ----------------------- */

static float *random_floats(int32_t n) {
    float *x = room((size_t)n, 4);
    for (int32_t i = 0; i < n; i++) x[i] = anything();
    return x;
}

void try_lora(llama_pool *pool) {
    const int32_t K = 1 + below(70), N = 1 + below(70), width = N + K, slots = 1 + below(3);
    const llama_limits l = begin(pool, width, N, LLAMA_KV_F32, 16, NULL);
    float *a[3], *b[3];
    int32_t ids[6], rank[3];
    for (int32_t s = 0; s < slots; s++) {
        rank[s] = 1 + below(40);
        a[s] = random_floats(rank[s] * K), b[s] = random_floats(N * rank[s]);
        const llama_weight_source first = {.kind = LLAMA_W_F32, .rows = rank[s], .cols = K, .data = a[s]};
        const llama_weight_source second = {.kind = LLAMA_W_F32, .rows = N, .cols = rank[s], .data = b[s]};
        CHECK(llama_program_weight(p, &first, ids + 2 * s));
        CHECK(llama_program_weight(p, &second, ids + 2 * s + 1));
    }
    const llama_op base = {.kind = LLAMA_SLICE, .output = value(N, 0), .inputs = {0, -1, -1}};
    const llama_op x = {.kind = LLAMA_SLICE, .output = value(K, 0), .inputs = {0, -1, -1}, .start = N};
    CHECK(llama_program_add(p, &base));
    CHECK(llama_program_add(p, &x));
    const llama_op op = {.kind = LLAMA_LORA, .output = value(N, 0), .inputs = {base.output, x.output, -1},
                         .num_weights = 2 * slots, .weights = ids};
    CHECK(llama_program_add(p, &op));
    finish(op.output, N);
    met("lora");
    for (int round = 0; round < 3; round++) {
        const int32_t lengths[] = {below(8), 1 + below(8), below(8)}, from[] = {0, below(40), 3};
        work w = make(&l, lengths, 3, from, NULL);
        if (round) { /* rewritten between steps */
            const int32_t s = below(slots);
            free(a[s]);
            a[s] = random_floats(rank[s] * K);
            CHECK(llama_program_rewrite(p, ids[2 * s], a[s]));
        }
        fill(w.x, w.batch.num_tokens * width, 3, 127);
        for (int s = 0; s < 3; s++) w.adapters[s] = below(slots + 1) - 1;
        CHECK(step(&w));
        for (int32_t i = 0; i < w.batch.num_tokens * N; i++) {
            const float *row = w.x + i / N * width;
            const int32_t n = i % N, q = i / N, slot = w.adapters[(q >= w.starts[1]) + (q >= w.starts[2])];
            double sum = row[n], size = fabs(sum);
            for (int32_t r = 0; slot >= 0 && r < rank[slot]; r++)
                for (int32_t k = 0; k < K; k++) {
                    const double part = (double)a[slot][r * K + k] * row[N + k] * b[slot][n * rank[slot] + r];
                    sum += part, size += fabs(part);
                }
            compare("lora", w.logits[i], sum, size);
        }
        drop(&w);
    }
    spoil(&l, NULL, slots);
    for (int32_t s = 0; s < slots; s++) free(a[s]), free(b[s]);
}
