/* What generated kernels ask of their surroundings: a parallel launch and scratch memory.
 *
 * Kernel code calls TVMBackendParallelLaunch, TVMBackendAllocWorkspace and
 * TVMBackendFreeWorkspace through weak pointer slots named `__TVMBackend...`. The strong,
 * hidden definitions below take the place of those slots when the library is linked, so a
 * library works by itself and a TVM runtime that happens to be in the process cannot
 * redirect it.
 *
 * The pool: a launch publishes one job as a ticket (epoch, number of tasks, next task).
 * Workers and the caller claim tasks by compare-and-swap on the ticket, so a worker that
 * wakes late finds a ticket without tasks and touches nothing of a finished job. Workers
 * spin for SPIN_NANOSECONDS and then sleep on a condition variable. A launch from inside a
 * task, or while another thread's launch is running, is executed by its caller alone.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#define MAX_THREADS 256
#define SPIN_NANOSECONDS 50000
#define CACHED_BLOCKS 8
#define ALIGNMENT 64

typedef struct {
  void *sync_handle;
  int32_t num_task;
} parallel_env;
typedef int (*parallel_lambda)(int task_id, parallel_env *env, void *closure);

/* ---------------------------------------------------------------- the pool */

static struct {
  parallel_lambda lambda;
  void *closure;
  parallel_env env;
  _Atomic int status;
  _Atomic int pending;
} job;

static _Atomic uint64_t ticket; /* epoch << 32 | tasks << 16 | next task */
static _Atomic int active_workers; /* workers that may claim tasks of the current job */
static _Atomic int sleepers;
static _Atomic int quitting;
static _Atomic int wanted_threads; /* 0: not set yet */
static atomic_flag busy = ATOMIC_FLAG_INIT;
static int started_workers; /* guarded by busy */
static pthread_t workers[MAX_THREADS];
static pthread_mutex_t sleep_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t sleep_condition = PTHREAD_COND_INITIALIZER;
static _Thread_local int inside_task;

static void relax_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

static int64_t now_nanoseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int has_task(uint64_t t) { return (t & 0xffff) < ((t >> 16) & 0xffff); }

/* Claims and runs tasks of the current job until none is left; 1 if it ran any. */
static int run_tasks(void) {
  int ran = 0;
  uint64_t t = atomic_load(&ticket);
  while (has_task(t)) {
    if (!atomic_compare_exchange_weak(&ticket, &t, t + 1)) continue;
    int status = job.lambda((int)(t & 0xffff), &job.env, job.closure);
    if (status != 0) atomic_store(&job.status, status);
    atomic_fetch_sub(&job.pending, 1);
    ran = 1;
    t = atomic_load(&ticket);
  }
  return ran;
}

static int may_work(int index) {
  return index < atomic_load(&active_workers) && has_task(atomic_load(&ticket));
}

static void sleep_until_work(int index) {
  pthread_mutex_lock(&sleep_mutex);
  atomic_fetch_add(&sleepers, 1);
  while (!may_work(index) && !atomic_load(&quitting))
    pthread_cond_wait(&sleep_condition, &sleep_mutex);
  atomic_fetch_sub(&sleepers, 1);
  pthread_mutex_unlock(&sleep_mutex);
}

static void *worker_main(void *argument) {
  int index = (int)(intptr_t)argument;
  inside_task = 1;
  int64_t idle_since = now_nanoseconds();
  while (!atomic_load(&quitting)) {
    if (may_work(index) && run_tasks()) {
      idle_since = now_nanoseconds();
      continue;
    }
    for (int i = 0; i < 64 && !may_work(index); i++) relax_cpu();
    if (now_nanoseconds() - idle_since > SPIN_NANOSECONDS) {
      sleep_until_work(index);
      idle_since = now_nanoseconds();
    }
  }
  return NULL;
}

static void wake_sleepers(void) {
  if (atomic_load(&sleepers) == 0) return;
  pthread_mutex_lock(&sleep_mutex);
  pthread_cond_broadcast(&sleep_condition);
  pthread_mutex_unlock(&sleep_mutex);
}

/* In a child of fork() only the calling thread exists: begin with an empty pool. */
static void after_fork_in_child(void) {
  started_workers = 0;
  atomic_store(&sleepers, 0);
  atomic_store(&active_workers, 0);
  atomic_store(&ticket, 0);
  atomic_flag_clear(&busy);
  pthread_mutex_init(&sleep_mutex, NULL);
  pthread_cond_init(&sleep_condition, NULL);
}

static int default_threads(void) {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return 1;
}

__attribute__((visibility("default"))) int motet_get_threads(void) {
  int n = atomic_load(&wanted_threads);
  if (n == 0) {
    n = default_threads();
    if (n > MAX_THREADS) n = MAX_THREADS;
    atomic_store(&wanted_threads, n);
  }
  return n;
}

/* Threads a launch may use, the caller included; n < 1 restores the default. */
__attribute__((visibility("default"))) int motet_set_threads(int n) {
  atomic_store(&wanted_threads, n < 1 ? 0 : n > MAX_THREADS ? MAX_THREADS : n);
  return 0;
}

/* Has at least `count` workers running, or as many as the system gives. */
static int start_workers(int count) {
  while (started_workers < count) {
    void *index = (void *)(intptr_t)started_workers;
    if (pthread_create(&workers[started_workers], NULL, worker_main, index) != 0) break;
    started_workers++;
  }
  return started_workers < count ? started_workers : count;
}

static int run_serially(parallel_lambda lambda, void *closure, int tasks) {
  parallel_env env = {NULL, tasks};
  for (int i = 0; i < tasks; i++) {
    int status = lambda(i, &env, closure);
    if (status != 0) return status;
  }
  return 0;
}

static void publish_and_wait(int helpers, int tasks) {
  uint64_t epoch = (atomic_load(&ticket) >> 32) + 1;
  atomic_store(&job.status, 0);
  atomic_store(&job.pending, tasks);
  atomic_store(&active_workers, helpers);
  atomic_store(&ticket, epoch << 32 | (uint64_t)tasks << 16);
  wake_sleepers();
  inside_task = 1;
  run_tasks();
  inside_task = 0;
  for (int spins = 0; atomic_load(&job.pending) > 0; spins++) {
    if (spins < 20000) relax_cpu();
    else sched_yield();
  }
}

static int parallel_launch(parallel_lambda lambda, void *closure, int tasks) {
  int threads = motet_get_threads();
  if (threads == 1 || inside_task || atomic_flag_test_and_set(&busy))
    return run_serially(lambda, closure, tasks > 0 ? tasks : 1);
  int helpers = start_workers(threads - 1);
  if (tasks <= 0) tasks = helpers + 1;
  job.lambda = lambda;
  job.closure = closure;
  job.env.sync_handle = NULL;
  job.env.num_task = tasks;
  publish_and_wait(helpers, tasks);
  int status = atomic_load(&job.status);
  atomic_flag_clear(&busy);
  return status;
}

/* ---------------------------------------------------------- scratch memory */

typedef struct {
  int count;
  void *blocks[CACHED_BLOCKS];
} block_cache;

/* Free blocks of this thread; each block has its size in the 64 bytes before it. */
static pthread_key_t cache_key;
static _Thread_local block_cache *cache;

static size_t *size_of(void *block) { return (size_t *)((char *)block - ALIGNMENT); }
static void release(void *block) { free((char *)block - ALIGNMENT); }

static void free_cache(void *pointer) {
  block_cache *c = pointer;
  for (int i = 0; i < c->count; i++) release(c->blocks[i]);
  free(c);
}

/* Takes the smallest cached block of at least `bytes` that is not far too large. */
static void *take_cached(size_t bytes) {
  int best = -1;
  if (cache == NULL) return NULL;
  for (int i = 0; i < cache->count; i++) {
    size_t size = *size_of(cache->blocks[i]);
    if (size < bytes || size > 4 * bytes + 65536) continue;
    if (best < 0 || size < *size_of(cache->blocks[best])) best = i;
  }
  if (best < 0) return NULL;
  void *block = cache->blocks[best];
  cache->blocks[best] = cache->blocks[--cache->count];
  return block;
}

static void *alloc_workspace(int device_type, int device_id, uint64_t bytes, int code, int bits) {
  (void)device_type, (void)device_id, (void)code, (void)bits;
  void *block = take_cached(bytes);
  if (block != NULL) return block;
  size_t rounded = (bytes + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  char *raw = NULL;
  if (posix_memalign((void **)&raw, ALIGNMENT, rounded + ALIGNMENT) != 0) return NULL;
  *size_of(raw + ALIGNMENT) = rounded;
  return raw + ALIGNMENT;
}

static int free_workspace(int device_type, int device_id, void *block) {
  (void)device_type, (void)device_id;
  if (cache == NULL) {
    cache = calloc(1, sizeof *cache);
    if (cache == NULL) return release(block), 0;
    pthread_setspecific(cache_key, cache);
  }
  if (cache->count == CACHED_BLOCKS) { /* the oldest block makes room */
    release(cache->blocks[0]);
    for (int i = 1; i < CACHED_BLOCKS; i++) cache->blocks[i - 1] = cache->blocks[i];
    cache->count--;
  }
  cache->blocks[cache->count++] = block;
  return 0;
}

/* --------------------------------------------------- loading and unloading */

__attribute__((constructor)) static void on_load(void) {
  pthread_key_create(&cache_key, free_cache);
  pthread_atfork(NULL, NULL, after_fork_in_child);
}

__attribute__((destructor)) static void on_unload(void) {
  atomic_store(&quitting, 1);
  pthread_mutex_lock(&sleep_mutex);
  pthread_cond_broadcast(&sleep_condition);
  pthread_mutex_unlock(&sleep_mutex);
  for (int i = 0; i < started_workers; i++) pthread_join(workers[i], NULL);
  pthread_key_delete(cache_key);
}

#define SLOT __attribute__((visibility("hidden")))
SLOT void *__TVMBackendParallelLaunch = (void *)parallel_launch;
SLOT void *__TVMBackendAllocWorkspace = (void *)alloc_workspace;
SLOT void *__TVMBackendFreeWorkspace = (void *)free_workspace;
