/* Kernel calls in a row, and the groups of a stage side by side, each a row of its own.
 *
 * A row (motet_run) is a program's straight line: one native call for all of it, in which no
 * interpreter takes part, that ends early between two calls where somebody asks for it.
 *
 * A fork is one launch of the thread pool (threads.c) whose tasks are the groups. A kernel
 * that would launch itself runs alone inside its group: a stage that is worth forking keeps
 * all threads busy with its groups. The join is the end of the launch.
 */
#include <stdint.h>

typedef struct {
  int32_t type_index;
  uint32_t padding;
  uint64_t value;
} ffi_any; /* as TVMFFIAny */
typedef int (*ffi_function)(void *self, const ffi_any *arguments, int32_t count, ffi_any *result);

typedef struct {
  ffi_function function;  /* NULL: a stage */
  const void *arguments;  /* ffi_any, or the stage's call_group */
  int64_t count;          /* of arguments, or of groups */
} kernel_call;
typedef struct {
  const kernel_call *calls;
  int64_t count;
  int64_t failed; /* out: number of the call that failed, -1 where none did */
} call_group;

typedef int (*parallel_lambda)(int task, void *env, void *closure);
/* In threads.c: the function that kernels launch with. */
extern void *__TVMBackendParallelLaunch;

static int run_group(int task, void *env, void *closure) {
  (void)env;
  call_group *group = (call_group *)closure + task;
  for (int64_t i = 0; i < group->count; i++) {
    const kernel_call *call = &group->calls[i];
    ffi_any result = {0, 0, 0};
    if (call->function(0, call->arguments, (int32_t)call->count, &result) == 0) continue;
    group->failed = i;
    return 0; /* what a worker's call reported stays in its thread: the caller calls again */
  }
  return 0;
}

/* Runs all groups; 0, or -1 where a call failed, which `failed` of its group says. */
__attribute__((visibility("default"))) int motet_fork(call_group *groups, int32_t count) {
  int (*launch)(parallel_lambda, void *, int) =
      (int (*)(parallel_lambda, void *, int))__TVMBackendParallelLaunch;
  if (count <= 0) return 0; /* to the pool, 0 tasks are as many as it likes */
  for (int32_t i = 0; i < count; i++) groups[i].failed = -1;
  int status = launch(run_group, groups, count);
  for (int32_t i = 0; i < count; i++)
    if (groups[i].failed >= 0) status = -1;
  return status;
}

/* Runs calls number `first` to `count`, and before each after the first looks whether *changes is
 * still `seen` (NULL: nobody asks). Returns the number of the call that comes next, `count` at the
 * end; ~number of the call that failed. */
__attribute__((visibility("default"))) int64_t motet_run(
    const kernel_call *calls, int64_t first, int64_t count, const int64_t *changes, int64_t seen) {
  for (int64_t i = first; i < count; i++) {
    if (i > first && changes != 0 && __atomic_load_n(changes, __ATOMIC_RELAXED) != seen) return i;
    const kernel_call *call = &calls[i];
    ffi_any result = {0, 0, 0};
    int status = call->function == 0
                     ? motet_fork((call_group *)call->arguments, (int32_t)call->count)
                     : call->function(0, call->arguments, (int32_t)call->count, &result);
    if (status != 0) return ~i;
  }
  return count;
}
