/* Scratch memory of generated kernels, 64-byte aligned.
 *
 * Like the parallel launch of threads.c it is reached through slots of fixed names. Freed
 * blocks are kept by the thread that freed them, since the same kernels run again: at most
 * CACHED_BLOCKS and CACHED_BYTES, until the thread ends; nothing where the process has no
 * thread-specific key left to notice that end by.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#define CACHED_BLOCKS 8
#define CACHED_BYTES ((size_t)256 << 20)
#define ALIGNMENT 64

/* Of libtvm_ffi, where it is loaded: what a kernel that returns an error has to say. */
__attribute__((weak, visibility("default"))) void TVMFFIErrorSetRaisedFromCStr(
    const char *kind, const char *message);

/* The only reason for which the body of a kernel fails. */
__attribute__((visibility("hidden"))) void report_no_memory(void) {
  if (TVMFFIErrorSetRaisedFromCStr)
    TVMFFIErrorSetRaisedFromCStr("MemoryError", "no memory left for a kernel's workspace");
}

typedef struct {
  int count;
  size_t bytes;
  void *blocks[CACHED_BLOCKS]; /* the one that has not been used for longest comes first */
} block_cache;

/* Free blocks of this thread; each block has its size in the 64 bytes before it. */
static pthread_key_t cache_key;
static int has_key; /* a process has 1024 keys, for all its libraries; key 0 is another's */
static _Thread_local block_cache *cache;

static size_t *size_of(void *block) { return (size_t *)((char *)block - ALIGNMENT); }
static void release(void *block) { free((char *)block - ALIGNMENT); }

static void *take_block(block_cache *c, int index) {
  void *block = c->blocks[index];
  c->count--;
  for (int i = index; i < c->count; i++) c->blocks[i] = c->blocks[i + 1];
  c->bytes -= *size_of(block);
  return block;
}

static void free_cache(void *pointer) {
  block_cache *c = pointer;
  while (c->count > 0) release(take_block(c, 0));
  free(c);
  cache = NULL;
}

/* Takes the smallest cached block of at least `bytes` that is not far too large. */
static void *take_cached(size_t bytes) {
  int best = -1;
  if (cache == NULL) return NULL;
  for (int i = 0; i < cache->count; i++) {
    size_t size = *size_of(cache->blocks[i]);
    if (size < bytes || size / 4 > bytes + 16384) continue;
    if (best < 0 || size < *size_of(cache->blocks[best])) best = i;
  }
  return best < 0 ? NULL : take_block(cache, best);
}

static void *new_block(size_t bytes) {
  char *raw = NULL;
  if (bytes > SIZE_MAX / 2) return NULL;
  size_t rounded = (bytes + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (posix_memalign((void **)&raw, ALIGNMENT, rounded + ALIGNMENT) != 0) return NULL;
  *size_of(raw + ALIGNMENT) = rounded;
  return raw + ALIGNMENT;
}

static void *alloc_workspace(int device_type, int device_id, uint64_t bytes, int code, int bits) {
  (void)device_type, (void)device_id, (void)code, (void)bits;
  void *block = take_cached(bytes);
  if (block == NULL) block = new_block(bytes);
  if (block == NULL && cache != NULL) { /* what is kept for later may be what is missing */
    while (cache->count > 0) release(take_block(cache, 0));
    block = new_block(bytes);
  }
  if (block == NULL) report_no_memory();
  return block;
}

static block_cache *cache_of_this_thread(void) {
  if (has_key && cache == NULL && (cache = calloc(1, sizeof *cache)) != NULL)
    pthread_setspecific(cache_key, cache); /* frees it when the thread ends */
  return cache;
}

static int free_workspace(int device_type, int device_id, void *block) {
  (void)device_type, (void)device_id;
  block_cache *c = cache_of_this_thread();
  size_t size = *size_of(block);
  if (c == NULL || size > CACHED_BYTES) return release(block), 0;
  while (c->count == CACHED_BLOCKS || c->bytes > CACHED_BYTES - size) release(take_block(c, 0));
  c->blocks[c->count++] = block;
  c->bytes += size;
  return 0;
}

__attribute__((constructor)) static void on_load(void) {
  has_key = pthread_key_create(&cache_key, free_cache) == 0;
}

/* After the pool's destructor, whose workers free their own blocks. Threads of the program may
 * be at work with theirs, at exit: those stay. The number puts it behind those without one. */
__attribute__((destructor(1000))) static void on_unload(void) {
  if (has_key) pthread_key_delete(cache_key);
  if (cache != NULL) free_cache(cache);
}

#define SLOT __attribute__((visibility("hidden")))
SLOT void *__TVMBackendAllocWorkspace = (void *)alloc_workspace;
SLOT void *__TVMBackendFreeWorkspace = (void *)free_workspace;
