/* Attention over a paged memory of keys and values.
 *
 * The past is cut into segments of about SEGMENT positions. Within one, all scores are computed,
 * the greatest is found, and the values are added up by their weights; segments are merged in order.
 * Where one begins depends on positions alone. Queries that read the same keys walk together; each
 * computes what it would alone.
 *
 * Keys lie in chunks of up to 16, and a chunk belongs to the segment it begins in.
 *
 * Legend: Q queries that walk together, D numbers of a head, j key in its segment.
 */
#include "tier.h"

#include "../llama_cpu.h"

typedef struct walk {
    int merged_any;
    float most, total;      /* of the segments merged so far */
    float merged[MAX_HEAD]; /* their values, [padded D] */
    float sums[MAX_HEAD];   /* those of the segment under way */
    float weights[SEGMENT + 2 * LANES];
} walk;

INLINE vf cached(int type, const uint8_t *base, size_t at) {
    switch (type) {
    case LLAMA_KV_F32: return vf_load((const float *)base + at);
    case LLAMA_KV_F16: return vf_f16((const uint16_t *)base + at);
    case LLAMA_KV_BF16: return vf_bf16((const uint16_t *)base + at);
    default: return vf_s8((const int8_t *)base + at);
    }
}

/* Where the chunk of a position begins, and the one after it. */
INLINE int32_t chunk_of(const kv_layer *kv, int32_t position) {
    return position - position % kv->block_size % LANES;
}
INLINE int32_t chunk_after(const kv_layer *kv, int32_t chunk) {
    const int32_t left = kv->block_size - chunk % kv->block_size;
    return chunk + (left < LANES ? left : LANES);
}

/* The first chunk that begins at or after a multiple of SEGMENT. */
static int32_t segment_start(const kv_layer *kv, int32_t number) {
    const int32_t chunk = chunk_of(kv, number * SEGMENT);
    return chunk < number * SEGMENT ? chunk_after(kv, chunk) : chunk;
}

/* The head under way in the block of a position, counted in heads. */
INLINE size_t head_at(const attend_args *a, int32_t position) {
    const kv_layer *kv = a->kv;
    return (size_t)a->table[position / kv->block_size] * (size_t)kv->kv_heads + (size_t)a->head;
}

/* Products of queries first.. with the keys of one chunk. */
INLINE void scores_of(const attend_args *a, int type, int32_t chunk, int32_t j, int first, const int Q,
                      walk *walks) {
    const kv_layer *kv = a->kv;
    const size_t head = head_at(a, chunk), within = (size_t)(chunk % kv->block_size);
    const size_t keys = head * kv->key_head + within * (size_t)kv->head_dim;
    vf scores[4];
    UNROLL for (int i = 0; i < Q; i++) scores[i] = vf_zero();
    for (int32_t d = 0; d < kv->head_dim; d++) {
        vf lanes = cached(type, kv->keys, keys + (size_t)d * LANES);
        UNROLL for (int i = 0; i < Q; i++)
            scores[i] = vf_fma(vf_set(a->q[first + i][d]), lanes, scores[i]);
    }
    const size_t scale = head * (size_t)kv->chunks * LANES + within;
    UNROLL for (int i = 0; i < Q; i++) {
        if (type == LLAMA_KV_Q8) scores[i] = vf_mul(scores[i], vf_load(kv->key_scales + scale));
        vf_store(walks[first + i].weights + j, scores[i]);
    }
}

/* Of all queries with the chunks from..to. Lanes past a chunk's keys are written over by the next
 * chunk, and what a query does not see is never looked at. */
INLINE void score(const attend_args *a, int type, int32_t start, int32_t from, int32_t to, walk *walks) {
    for (int32_t chunk = from; chunk <= to; chunk = chunk_after(a->kv, chunk)) {
        int i = 0;
        for (; i + 4 <= a->count; i += 4) scores_of(a, type, chunk, chunk - start, i, 4, walks);
        if (i + 2 <= a->count) scores_of(a, type, chunk, chunk - start, i, 2, walks), i += 2;
        if (i < a->count) scores_of(a, type, chunk, chunk - start, i, 1, walks);
    }
}

INLINE vf scaled(const attend_args *a, vf score) {
    score = vf_mul(score, vf_set(a->scale));
    if (a->softcap > 0) {
        const vf cap = vf_set(a->softcap);
        score = vf_mul(vf_tanh(vf_div(score, cap)), cap);
    }
    return score;
}

/* Scores of keys low..high become weights exp(score - most), all others 0. */
static void weigh(const attend_args *a, float *weights, int32_t low, int32_t high, float *most,
                  float *total) {
    const int32_t first = low / LANES * LANES, last = high / LANES * LANES;
    vf greatest = vf_set(-INFINITY), sum = vf_zero();
    for (int32_t j = first; j <= last; j += LANES)
        vf_store(weights + j, scaled(a, vf_load(weights + j)));
    for (int32_t j = first; j < low; j++) weights[j] = -INFINITY;
    for (int32_t j = high + 1; j < last + LANES; j++) weights[j] = -INFINITY;
    for (int32_t j = first; j <= last; j += LANES) greatest = vf_most(vf_load(weights + j), greatest);
    *most = vf_greatest(greatest);
    for (int32_t j = first; j <= last; j += LANES) {
        vf weight = vf_exp(vf_sub(vf_load(weights + j), vf_set(*most)));
        vf_store(weights + j, weight);
        sum = vf_add(sum, weight);
    }
    *total = vf_sum(sum);
}

/* sums += weight * value over the keys from..to, which all of these queries see. */
INLINE void gather(const attend_args *a, int type, int32_t start, int32_t from, int32_t to,
                   walk *const *w, const int Q) {
    const kv_layer *kv = a->kv;
    const size_t width = (size_t)kv->padded;
    for (int32_t d = 0; d < kv->padded; d += LANES) {
        vf sums[4];
        UNROLL for (int i = 0; i < Q; i++) sums[i] = vf_load(w[i]->sums + d);
        for (int32_t at = from; at <= to;) {
            const int32_t within = at % kv->block_size, left = kv->block_size - within;
            const int32_t end = to - at < left ? to + 1 : at + left;
            size_t value = head_at(a, at) * kv->value_head + (size_t)within * width + (size_t)d;
            for (; at < end; at++, value += width) {
                vf lanes = cached(type, kv->values, value);
                UNROLL for (int i = 0; i < Q; i++)
                    sums[i] = vf_fma(vf_set(w[i]->weights[at - start]), lanes, sums[i]);
            }
        }
        UNROLL for (int i = 0; i < Q; i++) vf_store(w[i]->sums + d, sums[i]);
    }
}

/* The keys that all Q queries see together, those before and after one query at a time, so that
 * each adds its own in order and never meets another's. */
INLINE void gather_all(const attend_args *a, int type, int32_t start, const int32_t *low,
                       const int32_t *high, walk *const *w, const int Q) {
    int32_t from = low[0], to = high[0];
    for (int i = 1; i < Q; i++) {
        from = low[i] > from ? low[i] : from;
        to = high[i] < to ? high[i] : to;
    }
    const int shared = from <= to;
    for (int i = 0; i < Q; i++)
        gather(a, type, start, low[i], shared ? from - 1 : high[i], w + i, 1);
    if (!shared) return;
    gather(a, type, start, from, to, w, Q);
    for (int i = 0; i < Q; i++) gather(a, type, start, to + 1, high[i], w + i, 1);
}

static float exp_of(float x) {
    float lanes[LANES];
    vf_store(lanes, vf_exp(vf_set(x)));
    return lanes[0];
}

/* The finished segment joins those before it. */
static void merge(walk *w, int32_t width, float most, float total) {
    if (!w->merged_any) {
        memcpy(w->merged, w->sums, (size_t)width * sizeof(float));
        w->merged_any = 1, w->total = total, w->most = most;
        return;
    }
    const float greatest = w->most > most ? w->most : most;
    const float before = exp_of(w->most - greatest), now = exp_of(most - greatest);
    for (int32_t d = 0; d < width; d += LANES) {
        vf old = vf_mul(vf_load(w->merged + d), vf_set(before));
        vf_store(w->merged + d, vf_fma(vf_load(w->sums + d), vf_set(now), old));
    }
    w->total = w->total * before + total * now;
    w->most = greatest;
}

/* One segment, keys start..end, for all queries that see any of it. */
INLINE void segment(const attend_args *a, int type, int32_t start, int32_t end, walk *walks) {
    const kv_layer *kv = a->kv;
    walk *w[QUERIES];
    int32_t low[QUERIES], high[QUERIES], from = end, to = start, active = 0;
    float most[QUERIES], total[QUERIES];
    for (int i = 0; i < a->count; i++) {
        if (a->last[i] < start || a->first[i] > end) continue;
        low[active] = a->first[i] > start ? a->first[i] : start;
        high[active] = a->last[i] < end ? a->last[i] : end;
        from = low[active] < from ? low[active] : from;
        to = high[active] > to ? high[active] : to;
        w[active++] = walks + i;
    }
    if (!active) return;
    score(a, type, start, chunk_of(kv, from), to, walks);
    for (int i = 0; i < active; i++) {
        float *weights = w[i]->weights;
        weigh(a, weights, low[i] - start, high[i] - start, most + i, total + i);
        for (int32_t p = low[i]; type == LLAMA_KV_Q8 && p <= high[i]; p++)
            weights[p - start] *= kv->value_scales[head_at(a, p) * (size_t)kv->chunks * LANES +
                                                   (size_t)(p % kv->block_size)];
        memset(w[i]->sums, 0, (size_t)kv->padded * sizeof(float));
    }
    int i = 0;
    for (; i + 4 <= active; i += 4) gather_all(a, type, start, low + i, high + i, w + i, 4);
    if (i + 2 <= active) gather_all(a, type, start, low + i, high + i, w + i, 2), i += 2;
    if (i < active) gather_all(a, type, start, low + i, high + i, w + i, 1);
    for (i = 0; i < active; i++) merge(w[i], kv->padded, most[i], total[i]);
}

INLINE void walk_all(const attend_args *a, int type) {
    walk walks[QUERIES];
    int32_t from = a->first[0], to = a->last[0];
    for (int i = 0; i < a->count; i++) {
        walks[i].merged_any = 0;
        from = a->first[i] < from ? a->first[i] : from;
        to = a->last[i] > to ? a->last[i] : to;
    }
    int32_t number = from / SEGMENT;
    if (segment_start(a->kv, number) > from) number--; /* its chunk began before */
    for (int32_t start = segment_start(a->kv, number); start <= to;) {
        const int32_t next = segment_start(a->kv, ++number);
        segment(a, type, start, next - 1, walks);
        start = next;
    }
    for (int i = 0; i < a->count; i++)
        for (int32_t d = 0; d < a->kv->head_dim; d++)
            a->out[i][d] = walks[i].merged[d] / walks[i].total;
}

void T(attend)(const attend_args *a) {
    switch (a->kv->type) {
    case LLAMA_KV_F32: walk_all(a, LLAMA_KV_F32); return;
    case LLAMA_KV_F16: walk_all(a, LLAMA_KV_F16); return;
    case LLAMA_KV_BF16: walk_all(a, LLAMA_KV_BF16); return;
    default: walk_all(a, LLAMA_KV_Q8); return;
    }
}

/* ---- writing ---------------------------------------------------------------------------------- */

static uint16_t to_f16(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    uint32_t sign = u >> 16 & 0x8000u, size = u & 0x7fffffffu;
    if (size > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (size >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (size < 0x38800000u) { /* below 2^-14: adding 0.5 leaves the number in units of 2^-24 */
        float small;
        memcpy(&small, &size, 4);
        small += 0.5f;
        memcpy(&size, &small, 4);
        return (uint16_t)(sign | (size - 0x3f000000u));
    }
    size += 0xfffu + (size >> 13 & 1u);
    return (uint16_t)(sign | (size - 0x38000000u) >> 13);
}

static uint16_t to_bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* A head's numbers to the cache, number d at at + d * step; 8 bits give their scale. */
static float store(int32_t type, uint8_t *base, size_t at, size_t step, const float *x, int32_t n) {
    if (type == LLAMA_KV_F32)
        for (int32_t d = 0; d < n; d++) ((float *)base)[at + (size_t)d * step] = x[d];
    if (type == LLAMA_KV_F16)
        for (int32_t d = 0; d < n; d++) ((uint16_t *)base)[at + (size_t)d * step] = to_f16(x[d]);
    if (type == LLAMA_KV_BF16)
        for (int32_t d = 0; d < n; d++) ((uint16_t *)base)[at + (size_t)d * step] = to_bf16(x[d]);
    if (type != LLAMA_KV_Q8) return 1.0f;
    int8_t code[MAX_HEAD];
    float scale;
    int32_t sum;
    codes one = {.codes = code, .scales = &scale, .sums = &sum, .code_stride = (size_t)n,
                 .scale_stride = 1, .sum_stride = 1, .block = n, .unit = n, .most = 127};
    T(quantize)(x, n, &one, 0);
    for (int32_t d = 0; d < n; d++) ((int8_t *)base)[at + (size_t)d * step] = code[d];
    return scale;
}

void T(remember)(const kv_layer *kv, int32_t block, int32_t offset, int32_t head, const float *key,
                 const float *value) {
    size_t place = (size_t)block * (size_t)kv->kv_heads + (size_t)head;
    size_t at = (size_t)(offset / LANES), j = (size_t)(offset % LANES), D = (size_t)kv->head_dim;
    size_t to_key = place * kv->key_head + at * D * LANES + j;
    size_t to_value = place * kv->value_head + (size_t)offset * (size_t)kv->padded;
    float a = store(kv->type, kv->keys, to_key, LANES, key, kv->head_dim);
    float b = store(kv->type, kv->values, to_value, 1, value, kv->head_dim);
    if (kv->type == LLAMA_KV_Q8) {
        size_t scale = place * (size_t)kv->chunks * LANES + (size_t)offset;
        kv->key_scales[scale] = a;
        kv->value_scales[scale] = b;
    }
}
