/* The memory of past tokens: one stretch a layer, divided into blocks. */
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "program.h"

static size_t width_of(int32_t type) { return type == LLAMA_KV_F32 ? 4 : type == LLAMA_KV_Q8 ? 1 : 2; }

static int32_t allocate_layer(llama_program *p, const kv_group *g, kv_layer *l) {
    const llama_limits *limits = &p->limits;
    *l = (kv_layer){.type = limits->kv_type, .kv_heads = g->kv_heads, .head_dim = g->head_dim,
                    .block_size = limits->block_size};
    l->chunks = limits->block_size / 16 + (limits->block_size % 16 != 0);
    l->padded = (g->head_dim + 15) / 16 * 16;
    l->key_head = (size_t)l->chunks * 16 * (size_t)g->head_dim;
    l->value_head = (size_t)l->chunks * 16 * (size_t)l->padded;
    const size_t heads = (size_t)limits->num_blocks * (size_t)g->kv_heads;
    if (l->value_head > SIZE_MAX / 16 / heads) return LLAMA_MEMORY;
    const size_t size = width_of(limits->kv_type), scales = heads * (size_t)l->chunks * 16;
    /* calloc: pages are taken from the system as they are first written. */
    l->keys = calloc(heads * l->key_head, size);
    l->values = calloc(heads * l->value_head, size);
    p->kv_bytes += heads * (l->key_head + l->value_head) * size;
    if (limits->kv_type == LLAMA_KV_Q8) {
        l->key_scales = calloc(scales, sizeof(float));
        l->value_scales = calloc(scales, sizeof(float));
        p->kv_bytes += 2 * scales * sizeof(float);
        if (!l->key_scales || !l->value_scales) return LLAMA_MEMORY;
    }
    return l->keys && l->values ? LLAMA_OK : LLAMA_MEMORY;
}

int32_t kv_allocate(llama_program *p) {
    for (int32_t i = 0; i < p->num_groups; i++) {
        kv_group *g = p->groups + i;
        if (g->window < 0) g->window = 0;
        g->memory = calloc((size_t)g->layers, sizeof *g->memory);
        if (!g->memory) return LLAMA_MEMORY;
        for (int32_t l = 0; l < g->layers; l++) {
            int32_t status = allocate_layer(p, g, g->memory + l);
            if (status) return status;
        }
    }
    return LLAMA_OK;
}

void kv_free(llama_program *p) {
    for (int32_t i = 0; i < p->num_groups; i++) {
        kv_group *g = p->groups + i;
        for (int32_t l = 0; g->memory && l < g->layers; l++) {
            free(g->memory[l].keys);
            free(g->memory[l].values);
            free(g->memory[l].key_scales);
            free(g->memory[l].value_scales);
        }
        free(g->memory);
        g->memory = NULL;
    }
}

static void copy_block(const kv_layer *l, int32_t from, int32_t to) {
    const size_t heads = (size_t)l->kv_heads, size = width_of(l->type);
    const size_t keys = heads * l->key_head * size, values = heads * l->value_head * size;
    const size_t scales = heads * (size_t)l->chunks * 16;
    memmove(l->keys + (size_t)to * keys, l->keys + (size_t)from * keys, keys);
    memmove(l->values + (size_t)to * values, l->values + (size_t)from * values, values);
    if (!l->key_scales) return;
    memmove(l->key_scales + (size_t)to * scales, l->key_scales + (size_t)from * scales,
            scales * sizeof(float));
    memmove(l->value_scales + (size_t)to * scales, l->value_scales + (size_t)from * scales,
            scales * sizeof(float));
}

int32_t llama_program_copy(llama_program *p, const int32_t *triples, int32_t count) {
    if (!p || !p->finished || count < 0 || (count && !triples)) return LLAMA_ARGUMENT;
    int32_t status = program_enter(p);
    if (status) return status;
    for (int32_t i = 0; i < count && !status; i++) {
        const int32_t *t = triples + 3 * i, most = p->limits.num_blocks;
        if (t[0] < 0 || t[0] >= p->num_groups || t[1] < 0 || t[1] >= most || t[2] < 0 || t[2] >= most)
            status = program_fail(p, LLAMA_BLOCK, "cannot copy block %d to %d of group %d", t[1], t[2], t[0]);
    }
    for (int32_t i = 0; i < count && !status; i++) {
        const int32_t *t = triples + 3 * i;
        for (int32_t l = 0; l < p->groups[t[0]].layers; l++)
            copy_block(p->groups[t[0]].memory + l, t[1], t[2]);
    }
    return program_leave(p, status);
}
