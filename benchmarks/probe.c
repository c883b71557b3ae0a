/* What this machine can do at most, on so many threads: bytes read from memory, int8 dot products,
 * and fused multiply-adds in floats, each with the widest instructions it was compiled for. It is
 * compiled where it runs, with -march=native.
 *
 *     probe THREADS SECONDS        prints: read GB/s, int8 TOP/s, float TFLOP/s
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

/* Sums under way at once: as many as hide an instruction's latency and fit the registers. */
#if defined(__AVX2__) && !defined(__AVX512VNNI__) && !defined(__AVXVNNI__)
enum { INT_CHAINS = 6 };
#else
enum { INT_CHAINS = 10 };
#endif
enum { MOST = 64, CHAINS = 10, ROUNDS = 4096 };
static const size_t BYTES = (size_t)256 << 20; /* a thread: more than any cache holds */

typedef struct { int kind; double seconds, done; uint8_t *memory; pthread_barrier_t *together; } job;

/* Keeps the compiler from taking a product out of the loop. */
#define UNKNOWN(x) __asm__ volatile("" : VECTOR_CONSTRAINT(x))

#if defined(__AVX512VNNI__) && defined(__AVX512F__)
#define VECTOR_CONSTRAINT(x) "+v"(x)
typedef __m512i ints;
typedef __m512 floats;
#define ZERO_INTS _mm512_setzero_si512()
#define ZERO_FLOATS _mm512_setzero_ps()
#define DOT(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#define FMA(sum, a, b) _mm512_fmadd_ps(a, b, sum)
#define LOAD(p) _mm512_loadu_si512(p)
#define XOR(a, b) _mm512_xor_si512(a, b)
static const char *TIER = "vpdpbusd";
#elif defined(__AVX2__) && defined(__FMA__)
#define VECTOR_CONSTRAINT(x) "+x"(x)
typedef __m256i ints;
typedef __m256 floats;
#define ZERO_INTS _mm256_setzero_si256()
#define ZERO_FLOATS _mm256_setzero_ps()
#if defined(__AVXVNNI__)
#define DOT(sum, a, b) _mm256_dpbusd_avx_epi32(sum, a, b)
static const char *TIER = "vpdpbusd (256 bits)";
#else
#define DOT(sum, a, b)                                                                             \
    _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)))
static const char *TIER = "vpmaddubsw, vpmaddwd, vpaddd";
#endif
#define FMA(sum, a, b) _mm256_fmadd_ps(a, b, sum)
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define XOR(a, b) _mm256_xor_si256(a, b)
#elif defined(__ARM_NEON)
#define VECTOR_CONSTRAINT(x) "+w"(x)
typedef int32x4_t ints;
typedef float32x4_t floats;
#define ZERO_INTS vdupq_n_s32(0)
#define ZERO_FLOATS vdupq_n_f32(0)
#if defined(__ARM_FEATURE_DOTPROD)
#define DOT(sum, a, b) vdotq_s32(sum, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b))
static const char *TIER = "sdot";
#else
#define DOT(sum, a, b)                                                                             \
    vpadalq_s16(vpadalq_s16(sum, vmull_s8(vget_low_s8(vreinterpretq_s8_s32(a)),                    \
                                          vget_low_s8(vreinterpretq_s8_s32(b)))),                  \
                vmull_high_s8(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)))
static const char *TIER = "smull, sadalp";
#endif
#define FMA(sum, a, b) vfmaq_f32(sum, a, b)
#define LOAD(p) vld1q_s32((const int32_t *)(p))
#define XOR(a, b) veorq_s32(a, b)
#else
#error "no vector instructions known for this processor"
#endif

static volatile int sink;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Four streams at once, as a matrix's rows are read. */
static double read_all(const uint8_t *memory) {
    ints sum[4] = {ZERO_INTS, ZERO_INTS, ZERO_INTS, ZERO_INTS};
    const size_t quarter = BYTES / 4;
    for (size_t at = 0; at < quarter; at += 64)
        for (int s = 0; s < 4; s++)
            for (size_t part = 0; part < 64; part += sizeof(ints))
                sum[s] = XOR(sum[s], LOAD(memory + s * quarter + at + part));
    ints all = XOR(XOR(sum[0], sum[1]), XOR(sum[2], sum[3]));
    int32_t lanes[sizeof(ints) / 4];
    memcpy(lanes, &all, sizeof all);
    sink = lanes[0];
    return (double)BYTES;
}

static double multiply_ints(void) {
    ints sum[INT_CHAINS], a = ZERO_INTS, b = ZERO_INTS;
    UNKNOWN(b);
#pragma GCC unroll 16
    for (int i = 0; i < INT_CHAINS; i++) sum[i] = ZERO_INTS;
    for (int n = 0; n < ROUNDS; n++) {
#pragma GCC unroll 16
        for (int i = 0; i < INT_CHAINS; i++) {
            UNKNOWN(a);
            sum[i] = DOT(sum[i], a, b);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < INT_CHAINS; i++) UNKNOWN(sum[i]);
    return 2.0 * ROUNDS * INT_CHAINS * sizeof(ints);
}

static double multiply_floats(void) {
    floats sum[CHAINS], a = ZERO_FLOATS, b = ZERO_FLOATS;
    UNKNOWN(b);
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) sum[i] = ZERO_FLOATS;
    for (int n = 0; n < ROUNDS; n++) {
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++) {
            UNKNOWN(a);
            sum[i] = FMA(sum[i], a, b);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) UNKNOWN(sum[i]);
    return 2.0 * ROUNDS * CHAINS * sizeof(floats) / sizeof(float);
}

static void *work(void *given) {
    job *one = given;
    if (one->kind == 0) memset(one->memory, 1, BYTES);
    pthread_barrier_wait(one->together);
    const double began = now();
    double done = 0, ended = began;
    while ((ended = now()) - began < one->seconds)
        done += one->kind == 0   ? read_all(one->memory)
                : one->kind == 1 ? multiply_ints()
                                 : multiply_floats();
    one->done = done / (ended - began);
    return NULL;
}

int main(int count, char **arguments) {
    const int threads = count > 1 ? atoi(arguments[1]) : 1;
    const double seconds = count > 2 ? atof(arguments[2]) : 0.3;
    if (threads < 1 || threads > MOST || !(seconds > 0)) {
        fprintf(stderr, "probe THREADS SECONDS, with 1 to %d threads\n", MOST);
        return 2;
    }
    void *room = NULL;
    if (posix_memalign(&room, (size_t)2 << 20, BYTES * (size_t)threads)) return 1;
#if defined(__linux__)
    madvise(room, BYTES * (size_t)threads, MADV_HUGEPAGE); /* the limit, not what small pages allow */
#endif
    uint8_t *memory = room;
    static const double units[] = {1e9, 1e12, 1e12};
    for (int kind = 0; kind < 3; kind++) {
        pthread_barrier_t together;
        pthread_barrier_init(&together, NULL, (unsigned)threads);
        pthread_t ids[MOST];
        job jobs[MOST];
        double all = 0;
        for (int t = 0; t < threads; t++) {
            jobs[t] = (job){kind, seconds, 0, memory + BYTES * (size_t)t, &together};
            if (pthread_create(&ids[t], NULL, work, &jobs[t])) return 1;
        }
        for (int t = 0; t < threads; t++) {
            pthread_join(ids[t], NULL);
            all += jobs[t].done;
        }
        pthread_barrier_destroy(&together);
        printf("%.4f\n", all / units[kind]);
    }
    printf("%s\n", TIER);
    free(memory);
    return 0;
}
