/* The parallel launch that generated kernels ask of their surroundings.
 *
 * Kernel code calls TVMBackendParallelLaunch through a weak pointer slot named
 * `__TVMBackendParallelLaunch`. The strong, hidden definition below takes the place of that
 * slot when the library is linked, so a library works by itself and a TVM runtime that
 * happens to be in the process cannot redirect it.
 *
 * The pool: a launch publishes one job as a ticket (epoch, end of the tasks left, next task).
 * The caller claims the first task that is left, every other worker the last one, each by
 * compare-and-swap on the ticket: of equal launches in a row a core gets the same part, whose
 * weights and values are in its own caches. A worker that wakes late finds a ticket without
 * tasks and touches nothing of a finished job, and a caller whose workers get no CPU runs
 * every task itself. There are more tasks than threads: one that loses its CPU in the middle
 * of a task holds up a small part of the work. Whoever waits spins first, since work mostly
 * comes again within microseconds, and then sleeps.
 * A launch from inside a task, or while another thread's launch is running, is executed by
 * its caller alone.
 *
 * Every library has a pool of its own. Those of a process keep one ledger (motet_join_ledger):
 * the threads that are in a launch, and the pool that launched last. A launch takes no more
 * workers than there are CPUs left by the others, so that callers at the same time each run
 * alone, and idle workers spin only in the pool that launched last.
 *
 * No thread is pinned: where other processes run, a worker bound to a CPU keeps its task waiting
 * behind them while another CPU is free (docs/HOST_THREADS.md has figures).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_THREADS 256
#define TASKS_PER_THREAD 4
#define MAX_TASKS 0xffff
#define IDLE_SPIN_NANOSECONDS 200000
#define WAIT_SPIN_NANOSECONDS 30000

typedef struct {
  void *sync_handle;
  int32_t num_task;
} parallel_env;
typedef int (*parallel_lambda)(int task_id, parallel_env *env, void *closure);

/* In workspace.c. */
void report_no_memory(void);

static struct {
  parallel_lambda lambda;
  void *closure;
  parallel_env env;
  _Atomic int status;
  _Atomic int pending;
} job;

typedef struct {
  _Atomic int running; /* threads in a launch, callers included */
  _Atomic(void *) last; /* the pool (its `job`) that took workers last */
} pool_ledger;
static pool_ledger own_ledger;
static _Atomic(pool_ledger *) ledger = &own_ledger;
static int cpus = 1; /* this process may use, when the library was loaded */

static _Atomic uint64_t ticket; /* epoch << 32 | end of the tasks left << 16 | next task */
static _Atomic int active_workers; /* workers that may claim tasks of the current job */
static _Atomic int sleepers;
static _Atomic int quitting;
static _Atomic int wanted_threads; /* 0: not set yet */
static atomic_flag busy = ATOMIC_FLAG_INIT;
static int started_workers; /* guarded by busy */
static pthread_t workers[MAX_THREADS];
static pthread_mutex_t sleep_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t sleep_condition = PTHREAD_COND_INITIALIZER;
static _Atomic int caller_sleeps;
static pthread_mutex_t done_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_condition = PTHREAD_COND_INITIALIZER;
static _Thread_local int inside_task;
static _Thread_local int own_limit; /* of launches from this thread; 0: none */

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

/* The last task wakes the caller; `pending` and `caller_sleeps` are written and read in
 * opposite orders here and in wait_for_tasks, so one of the two sees the other. */
static void finish_task(void) {
  if (atomic_fetch_sub(&job.pending, 1) != 1 || !atomic_load(&caller_sleeps)) return;
  pthread_mutex_lock(&done_mutex);
  pthread_cond_broadcast(&done_condition);
  pthread_mutex_unlock(&done_mutex);
}

/* Claims and runs tasks of the current job until none is left; 1 if it ran any. */
static int run_tasks(int from_the_end) {
  int ran = 0;
  uint64_t t = atomic_load(&ticket);
  while (has_task(t)) {
    uint64_t left = from_the_end ? t - (1 << 16) : t + 1;
    if (!atomic_compare_exchange_weak(&ticket, &t, left)) continue;
    int task = from_the_end ? (int)(left >> 16 & 0xffff) : (int)(t & 0xffff);
    int status = job.lambda(task, &job.env, job.closure);
    if (status != 0) atomic_store(&job.status, status);
    finish_task();
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
    if (may_work(index) && run_tasks(index % 2 == 0)) {
      idle_since = now_nanoseconds();
      continue;
    }
    for (int i = 0; i < 64 && !may_work(index); i++) relax_cpu();
    if (!may_work(index)) sched_yield(); /* to whoever has something to do */
    int others_turn = atomic_load(&atomic_load(&ledger)->last) != &job;
    if (others_turn || now_nanoseconds() - idle_since > IDLE_SPIN_NANOSECONDS) {
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
  atomic_store(&atomic_load(&ledger)->running, 0);
  atomic_store(&sleepers, 0);
  atomic_store(&active_workers, 0);
  atomic_store(&ticket, 0);
  atomic_store(&caller_sleeps, 0);
  atomic_flag_clear(&busy);
  pthread_mutex_init(&sleep_mutex, NULL);
  pthread_cond_init(&sleep_condition, NULL);
  pthread_mutex_init(&done_mutex, NULL);
  pthread_cond_init(&done_condition, NULL);
}

/* CPUs' worth of time that a control group allows, rounded up; 0 where it sets no limit. */
static int group_quota(void) {
  long long quota = -1, period = 0;
  FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
  if (file != NULL) {
    if (fscanf(file, "%lld %lld", &quota, &period) != 2) quota = -1; /* "max" */
    fclose(file);
  }
  return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

static int usable_cpus(void) {
  int count = 1;
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
#endif
  int quota = group_quota();
  return quota > 0 && quota < count ? quota : count;
}

__attribute__((visibility("default"))) int motet_get_threads(void) {
  int n = atomic_load(&wanted_threads);
  if (n == 0) {
    int found = cpus > MAX_THREADS ? MAX_THREADS : cpus;
    /* A number set meanwhile stays, and is what comes back in n. */
    if (atomic_compare_exchange_strong(&wanted_threads, &n, found)) return found;
    if (n == 0) return found;
  }
  return n;
}

/* Threads a launch may use, the caller included; n < 1 restores the default. */
__attribute__((visibility("default"))) int motet_set_threads(int n) {
  atomic_store(&wanted_threads, n < 1 ? 0 : n > MAX_THREADS ? MAX_THREADS : n);
  return 0;
}

/* Threads that launches from this thread use at most, whatever others may; 0: no limit of its own.
 * Returns what it was. */
__attribute__((visibility("default"))) int motet_limit_threads(int n) {
  int before = own_limit;
  own_limit = n < 0 ? 0 : n;
  return before;
}

/* Makes this library's pool one of those that keep the ledger at `shared`, before it runs
 * anything; NULL starts a ledger, which stays to the end of the process. Returns the ledger, or
 * NULL where there was no memory for one: then the pool goes by its own. */
__attribute__((visibility("default"))) void *motet_join_ledger(void *shared) {
  if (shared == NULL && (shared = aligned_alloc(64, 64)) != NULL) memset(shared, 0, 64);
  if (shared == NULL) return NULL;
  atomic_store(&ledger, (pool_ledger *)shared);
  return shared;
}

/* Has at least `count` workers running, or as many as the system gives. Signals are for the
 * program's own threads, so workers block them all. */
static int start_workers(int count) {
  if (started_workers >= count) return count;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (started_workers < count) {
    void *index = (void *)(intptr_t)started_workers;
    if (pthread_create(&workers[started_workers], NULL, worker_main, index) != 0) break;
    started_workers++;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return started_workers;
}

static int run_serially(parallel_lambda lambda, void *closure, int tasks) {
  parallel_env env = {NULL, tasks};
  for (int i = 0; i < tasks; i++) {
    int status = lambda(i, &env, closure);
    if (status != 0) return status;
  }
  return 0;
}

/* Until workers have finished the tasks they claimed. */
static void wait_for_tasks(void) {
  if (atomic_load(&job.pending) == 0) return;
  int64_t since = now_nanoseconds();
  while (atomic_load(&job.pending) > 0) {
    for (int i = 0; i < 64 && atomic_load(&job.pending) > 0; i++) relax_cpu();
    if (now_nanoseconds() - since > WAIT_SPIN_NANOSECONDS) break;
  }
  if (atomic_load(&job.pending) == 0) return;
  pthread_mutex_lock(&done_mutex);
  atomic_store(&caller_sleeps, 1);
  while (atomic_load(&job.pending) > 0) pthread_cond_wait(&done_condition, &done_mutex);
  atomic_store(&caller_sleeps, 0);
  pthread_mutex_unlock(&done_mutex);
}

static void publish_and_wait(int helpers, int tasks) {
  uint64_t epoch = (atomic_load(&ticket) >> 32) + 1;
  atomic_store(&job.status, 0);
  atomic_store(&job.pending, tasks);
  atomic_store(&active_workers, helpers);
  atomic_store(&ticket, epoch << 32 | (uint64_t)tasks << 16);
  wake_sleepers();
  inside_task = 1;
  run_tasks(0);
  inside_task = 0;
  wait_for_tasks();
}

static int launch_together(parallel_lambda lambda, void *closure, int tasks, int helpers) {
  if (tasks <= 0) tasks = TASKS_PER_THREAD * (helpers + 1);
  job.lambda = lambda;
  job.closure = closure;
  job.env.sync_handle = NULL;
  job.env.num_task = tasks;
  publish_and_wait(helpers, tasks);
  int status = atomic_load(&job.status);
  if (status != 0) report_no_memory(); /* what the worker reported stays in its thread */
  return status;
}

/* Workers for a launch of up to `threads` while `others` threads of this process are in one. */
static int helpers_beside(int others, int threads) {
  int most = others == 0 ? threads : cpus - others < threads ? cpus - others : threads;
  return most > 1 ? start_workers(most - 1) : 0;
}

static int parallel_launch(parallel_lambda lambda, void *closure, int tasks) {
  if (inside_task) return run_serially(lambda, closure, tasks > 0 ? tasks : 1);
  pool_ledger *shared = atomic_load(&ledger);
  int threads = motet_get_threads(), helpers = 0, status;
  if (own_limit > 0 && own_limit < threads) threads = own_limit;
  int others = atomic_fetch_add(&shared->running, 1);
  int alone = threads == 1 || tasks > MAX_TASKS || atomic_flag_test_and_set(&busy);
  if (!alone) helpers = helpers_beside(others, threads);
  if (helpers > 0) {
    atomic_fetch_add(&shared->running, helpers);
    if (atomic_load(&shared->last) != &job) atomic_store(&shared->last, &job);
    status = launch_together(lambda, closure, tasks, helpers);
  } else {
    status = run_serially(lambda, closure, tasks > 0 ? tasks : 1);
  }
  if (!alone) atomic_flag_clear(&busy);
  atomic_fetch_sub(&shared->running, helpers + 1);
  return status;
}

__attribute__((constructor)) static void on_load(void) {
  cpus = usable_cpus();
  pthread_atfork(NULL, NULL, after_fork_in_child);
}

__attribute__((destructor)) static void on_unload(void) {
  atomic_store(&quitting, 1);
  pthread_mutex_lock(&sleep_mutex);
  pthread_cond_broadcast(&sleep_condition);
  pthread_mutex_unlock(&sleep_mutex);
  for (int i = 0; i < started_workers; i++) pthread_join(workers[i], NULL);
}

__attribute__((visibility("hidden"))) void *__TVMBackendParallelLaunch = (void *)parallel_launch;
