/* Attention over a paged memory of keys and values, with a running softmax.
 *
 * A query walks the past in chunks of 16 keys, aligned to blocks, from the first it sees to the
 * last; past every SEGMENT keys it starts a new running softmax and merges the finished one. Where
 * chunks and segments begin depends on positions alone. Up to four queries that read the same keys
 * walk together; each computes what it would alone.
 *
 * Legend: Q queries that walk together, D numbers of a head, j key in its chunk.
 */
#include "tier.h"

#include "../llama_cpu.h"

typedef struct walk {
    float most, total;
    int merged_any;
    float merged_most, merged_total;
    float sums[MAX_HEAD];   /* of the running segment, [padded D] */
    float merged[MAX_HEAD]; /* of those before it */
} walk;

INLINE vf cached(int type, const uint8_t *base, size_t at) {
    switch (type) {
    case LLAMA_KV_F32: return vf_load((const float *)base + at);
    case LLAMA_KV_F16: return vf_f16((const uint16_t *)base + at);
    case LLAMA_KV_BF16: return vf_bf16((const uint16_t *)base + at);
    default: return vf_s8((const int8_t *)base + at);
    }
}

INLINE void scores_of(const kv_layer *kv, int type, size_t keys, const float *const *q, const int Q,
                      vf *scores) {
    UNROLL for (int i = 0; i < Q; i++) scores[i] = vf_zero();
    for (int32_t d = 0; d < kv->head_dim; d++) {
        vf lanes = cached(type, kv->keys, keys + (size_t)d * LANES);
        UNROLL for (int i = 0; i < Q; i++) scores[i] = vf_fma(vf_set(q[i][d]), lanes, scores[i]);
    }
}

/* Weigh the chunk's keys and give exp(score - most); `most` and `total` move along. */
static __attribute__((noinline)) void weigh(const float *raw, int32_t low, int32_t high,
                                            const attend_args *a, walk *w, float weights[LANES],
                                            float *kept) {
    vf scores = vf_mul(vf_load(raw), vf_set(a->scale));
    if (a->softcap > 0) {
        vf cap = vf_set(a->softcap);
        scores = vf_mul(vf_tanh(vf_div(scores, cap)), cap);
    }
    if (low > 0 || high < LANES - 1) {
        float lanes[LANES];
        vf_store(lanes, scores);
        for (int32_t j = 0; j < LANES; j++)
            if (j < low || j > high) lanes[j] = -INFINITY;
        scores = vf_load(lanes);
    }
    float most = vf_greatest(scores);
    most = w->most > most ? w->most : most;
    *kept = 1.0f;
    if (most != w->most) {
        vf moved = vf_exp(vf_set(w->most - most));
        float one[LANES];
        vf_store(one, moved);
        *kept = one[0];
    }
    vf raised = vf_exp(vf_sub(scores, vf_set(most)));
    vf_store(weights, raised);
    w->total = w->total * *kept + vf_sum(raised);
    w->most = most;
}

INLINE void gather_values(const kv_layer *kv, int type, size_t values, int32_t low, int32_t high,
                          float weights[][LANES], const float *kept, walk *const *w, const int Q) {
    for (int32_t d = 0; d < kv->padded; d += LANES) {
        vf sums[4];
        UNROLL for (int i = 0; i < Q; i++)
            sums[i] = vf_mul(vf_load(w[i]->sums + d), vf_set(kept[i]));
        for (int32_t j = low; j <= high; j++) {
            vf lanes = cached(type, kv->values, values + (size_t)j * (size_t)kv->padded + (size_t)d);
            UNROLL for (int i = 0; i < Q; i++)
                sums[i] = vf_fma(vf_set(weights[i][j]), lanes, sums[i]);
        }
        UNROLL for (int i = 0; i < Q; i++) vf_store(w[i]->sums + d, sums[i]);
    }
}

/* One chunk for queries `which`, who all see its keys low..high. */
INLINE void chunk(const attend_args *a, int type, int32_t block, int32_t at, int32_t low,
                  int32_t high, const int *which, const int Q, walk *walks) {
    const kv_layer *kv = a->kv;
    size_t head = (size_t)block * (size_t)kv->kv_heads + (size_t)a->head;
    size_t keys = head * kv->key_head + (size_t)at * (size_t)kv->head_dim * LANES;
    size_t values = head * kv->value_head + (size_t)at * LANES * (size_t)kv->padded;
    const float *q[4];
    walk *w[4];
    vf scores[4];
    float weights[4][LANES], kept[4];
    UNROLL for (int i = 0; i < Q; i++) q[i] = a->q[which[i]], w[i] = walks + which[i];
    scores_of(kv, type, keys, q, Q, scores);
    size_t scale = head * (size_t)kv->chunks * LANES + (size_t)at * LANES;
    UNROLL for (int i = 0; i < Q; i++) {
        if (type == LLAMA_KV_Q8) scores[i] = vf_mul(scores[i], vf_load(kv->key_scales + scale));
        vf_store(weights[i], scores[i]);
        weigh(weights[i], low, high, a, w[i], weights[i], kept + i);
        if (type == LLAMA_KV_Q8)
            for (int32_t j = low; j <= high; j++) weights[i][j] *= kv->value_scales[scale + (size_t)j];
    }
    gather_values(kv, type, values, low, high, weights, kept, w, Q);
}

static void restart(walk *w, int32_t width) {
    w->most = -INFINITY;
    w->total = 0;
    memset(w->sums, 0, (size_t)width * sizeof(float));
}

static float exp_of(float x) {
    float lanes[LANES];
    vf_store(lanes, vf_exp(vf_set(x)));
    return lanes[0];
}

/* The finished segment joins those before it. */
static void merge(walk *w, int32_t width) {
    if (!w->merged_any) {
        memcpy(w->merged, w->sums, (size_t)width * sizeof(float));
        w->merged_any = 1, w->merged_total = w->total, w->merged_most = w->most;
        return;
    }
    float most = w->merged_most > w->most ? w->merged_most : w->most;
    float before = exp_of(w->merged_most - most), now = exp_of(w->most - most);
    for (int32_t d = 0; d < width; d += LANES) {
        vf old = vf_mul(vf_load(w->merged + d), vf_set(before));
        vf_store(w->merged + d, vf_fma(vf_load(w->sums + d), vf_set(now), old));
    }
    w->merged_total = w->merged_total * before + w->total * now;
    w->merged_most = most;
}

INLINE void walk_all(const attend_args *a, int type) {
    const kv_layer *kv = a->kv;
    const int32_t width = kv->padded, span = kv->block_size < LANES ? kv->block_size : LANES;
    walk walks[4];
    int32_t from = a->first[0], to = a->last[0];
    for (int i = 0; i < a->count; i++) {
        restart(walks + i, width);
        walks[i].merged_any = 0;
        from = a->first[i] < from ? a->first[i] : from;
        to = a->last[i] > to ? a->last[i] : to;
    }
    int32_t block = from / kv->block_size, at = (from % kv->block_size) / LANES;
    for (int32_t start = block * kv->block_size + at * LANES; start <= to;) {
        int32_t left = kv->block_size - at * LANES, keys = left < span ? left : span;
        int which[4], active = 0, alike = 1;
        int32_t low[4], high[4];
        for (int i = 0; i < a->count; i++) {
            if (a->last[i] < start || a->first[i] > start + keys - 1) continue;
            low[active] = a->first[i] > start ? a->first[i] - start : 0;
            high[active] = a->last[i] < start + keys - 1 ? a->last[i] - start : keys - 1;
            alike &= low[active] == low[0] && high[active] == high[0];
            which[active++] = i;
        }
        const int32_t id = active ? a->table[block] : 0;
        if (active == 4 && alike)
            chunk(a, type, id, at, low[0], high[0], which, 4, walks);
        else if (active == 2 && alike)
            chunk(a, type, id, at, low[0], high[0], which, 2, walks);
        else
            for (int i = 0; i < active; i++)
                chunk(a, type, id, at, low[i], high[i], which + i, 1, walks);
        start += keys;
        if (++at * LANES >= kv->block_size) at = 0, block++;
        if (start / SEGMENT != (start - keys) / SEGMENT)
            for (int i = 0; i < active; i++)
                if (a->last[which[i]] >= start)
                    merge(walks + which[i], width), restart(walks + which[i], width);
    }
    for (int i = 0; i < a->count; i++) {
        merge(walks + i, width);
        for (int32_t d = 0; d < kv->head_dim; d++)
            a->out[i][d] = walks[i].merged[d] / walks[i].merged_total;
    }
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
                 .scale_stride = 1, .sum_stride = 1, .block = n, .unit = n};
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
