/* The thread pool. A region is published as a ticket: its generation, and how many of its tasks
 * nobody has taken. Who takes a task lowers the ticket in one atomic step, and only then reads what
 * the task is; so a thread that comes late finds nothing to take and is waited for by no one. Who
 * waits spins a little first, since the next region of a step is microseconds away, then sleeps.
 *
 * Tasks may be taken in any order by anyone, so nothing may depend on who takes which.
 */
#include "pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define SPINS 4000 /* about 50 us: longer than a small step's serial parts, shorter than a wait for work */
#define MAX_THREADS 256
#define WORTH_SHARING (1 << 16) /* numbers: three microseconds of one thread, by AVX2 */

struct llama_pool {
    pthread_mutex_t steps; /* one step at a time */
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    pthread_t *threads;
    int32_t count; /* threads, the caller included */
    pid_t process;
    atomic_int stop;
    /* The region under way: written before its ticket, read by who has taken a task of it. */
    pool_task task;
    void *context;
    int32_t num_tasks;
    _Alignas(64) _Atomic uint64_t ticket; /* generation << 32 | tasks not taken */
    _Alignas(64) atomic_int unfinished;
    _Alignas(64) atomic_int sleepers;
    atomic_int waiting; /* the caller sleeps */
};

typedef struct start {
    llama_pool *pool;
    int32_t thread;
} start;

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint32_t generation_of(uint64_t ticket) { return (uint32_t)(ticket >> 32); }

static void finish_task(llama_pool *pool) {
    if (atomic_fetch_sub(&pool->unfinished, 1) != 1 || !atomic_load(&pool->waiting)) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_signal(&pool->done);
    pthread_mutex_unlock(&pool->lock);
}

static void take_tasks(llama_pool *pool, int32_t thread) {
    uint64_t ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
    while ((uint32_t)ticket) {
        if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket - 1)) continue;
        pool->task(pool->context, pool->num_tasks - (int32_t)(uint32_t)ticket, thread);
        finish_task(pool);
        ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
    }
}

/* Wait until the generation is another than `seen`. */
static uint32_t next_generation(llama_pool *pool, uint32_t seen) {
    for (int spin = 0; spin < SPINS; spin++) {
        uint32_t now = generation_of(atomic_load_explicit(&pool->ticket, memory_order_acquire));
        if (now != seen) return now;
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    uint32_t now;
    while ((now = generation_of(atomic_load(&pool->ticket))) == seen)
        pthread_cond_wait(&pool->work, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
    return now;
}

static void *worker(void *argument) {
    start *mine = argument;
    llama_pool *pool = mine->pool;
    int32_t thread = mine->thread;
    free(mine);
    for (uint32_t seen = 0;;) {
        seen = next_generation(pool, seen);
        if (atomic_load(&pool->stop)) return NULL;
        take_tasks(pool, thread);
    }
}

static void publish(llama_pool *pool, int32_t tasks) {
    uint64_t next = (uint64_t)generation_of(atomic_load(&pool->ticket)) + 1;
    atomic_store(&pool->ticket, (next & 0xffffffffu) << 32 | (uint32_t)tasks);
    if (atomic_load(&pool->sleepers)) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->work);
        pthread_mutex_unlock(&pool->lock);
    }
}

static void wait_for_all(llama_pool *pool) {
    for (int spin = 0; spin < SPINS; spin++) {
        if (!atomic_load_explicit(&pool->unfinished, memory_order_acquire)) return;
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->waiting, 1);
    while (atomic_load(&pool->unfinished)) pthread_cond_wait(&pool->done, &pool->lock);
    atomic_store(&pool->waiting, 0);
    pthread_mutex_unlock(&pool->lock);
}

void pool_run(llama_pool *pool, pool_task task, void *context, int32_t count, size_t work) {
    if (pool->count == 1 || count <= 1 || work < WORTH_SHARING) {
        for (int32_t i = 0; i < count; i++) task(context, i, 0);
        return;
    }
    pool->task = task;
    pool->context = context;
    pool->num_tasks = count;
    atomic_store(&pool->unfinished, count);
    publish(pool, count);
    take_tasks(pool, 0);
    wait_for_all(pool);
}

int pool_is_inherited(const llama_pool *pool) { return pool->process != getpid(); }

void pool_enter(llama_pool *pool) { pthread_mutex_lock(&pool->steps); }

void pool_leave(llama_pool *pool) { pthread_mutex_unlock(&pool->steps); }

/* Signals are for the threads of the application. */
static int start_thread(llama_pool *pool, int32_t thread) {
    start *mine = malloc(sizeof *mine);
    if (!mine) return -1;
    *mine = (start){pool, thread};
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(pool->threads + thread, NULL, worker, mine);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) free(mine);
    return failed ? -1 : 0;
}

/* What LLAMA_CPU_THREADS says, all processors where it says nothing, 0 where it makes no sense. */
static int32_t default_threads(void) {
    const char *set = getenv("LLAMA_CPU_THREADS");
    if (!set || !*set) return llama_cpu_count();
    char *end;
    const long count = strtol(set, &end, 10);
    return !*end && count > 0 && count <= MAX_THREADS ? (int32_t)count : 0;
}

int32_t llama_pool_new(int32_t threads, llama_pool **out) {
    if (!out || threads < 0 || threads > MAX_THREADS) return LLAMA_ARGUMENT;
    if (threads == 0) threads = default_threads();
    if (threads == 0) return LLAMA_THREADS;
    llama_pool *pool = NULL;
    if (posix_memalign((void **)&pool, 64, sizeof *pool)) return LLAMA_MEMORY;
    *pool = (llama_pool){.count = 1, .process = getpid()};
    pthread_mutex_init(&pool->steps, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->threads = calloc((size_t)threads, sizeof *pool->threads);
    int failed = !pool->threads;
    for (int32_t i = 1; i < threads && !failed; i++) {
        failed = start_thread(pool, i);
        if (!failed) pool->count++;
    }
    if (failed) {
        llama_pool_free(pool);
        return LLAMA_MEMORY;
    }
    *out = pool;
    return LLAMA_OK;
}

int32_t llama_pool_threads(const llama_pool *pool) { return pool ? pool->count : 0; }

void llama_pool_free(llama_pool *pool) {
    if (!pool) return;
    if (!pool_is_inherited(pool)) {
        atomic_store(&pool->stop, 1);
        publish(pool, 0);
        for (int32_t i = 1; i < pool->count; i++) pthread_join(pool->threads[i], NULL);
        pthread_cond_destroy(&pool->done);
        pthread_cond_destroy(&pool->work);
        pthread_mutex_destroy(&pool->lock);
        pthread_mutex_destroy(&pool->steps);
    }
    free(pool->threads);
    free(pool);
}
