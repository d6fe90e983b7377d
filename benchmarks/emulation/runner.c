/* Runs the calls of an image on the emulated machine, and what kernels ask of their surroundings.
 *
 * Everything lies where image.py put it, at fixed addresses. A launch runs its tasks one after
 * the other, workspaces come from a stack. At the end all arrays are written back to the disk.
 */
#include <stddef.h>
#include <stdint.h>

typedef int (*kernel_function)(void *self, void *arguments, int32_t count, void *result);

typedef struct {
  uint64_t kernel; /* index into motet_kernels */
  uint64_t arguments; /* address of `count` values of 16 bytes */
  uint64_t count;
  int64_t status; /* what the kernel returned */
} call;

typedef struct {
  char magic[8];
  uint64_t sectors;
  uint64_t entry;
  uint64_t calls; /* address */
  uint64_t call_count;
  uint64_t first_sector; /* of what is written back: calls and arrays */
  uint64_t heap; /* address of free memory, up to the stack */
} header;

extern const kernel_function motet_kernels[];

static char *heap;

static void out8(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port) {
  uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

static void say(const char *text) {
  for (; *text; ++text) out8(0xe9, (uint8_t)*text);
}

static void say_number(uint64_t value) {
  for (int shift = 60; shift >= 0; shift -= 4) out8(0xe9, "0123456789abcdef"[value >> shift & 15]);
}

static __attribute__((noreturn)) void power_off(void) {
  for (const char *key = "Shutdown"; *key; ++key) out8(0x8900, (uint8_t)*key);
  for (;;) __asm__ volatile("hlt");
}

static void write_sector(uint64_t number, const char *from) {
  uint64_t words = 256;
  uint8_t low[] = {1, (uint8_t)number, (uint8_t)(number >> 8), (uint8_t)(number >> 16)};
  for (int i = 0; i < 4; ++i) out8((uint16_t)(0x1f2 + i), low[i]);
  out8(0x1f6, (uint8_t)(0xe0 | (number >> 24 & 15)));
  out8(0x1f7, 0x30);
  while ((in8(0x1f7) & 0x88) != 8) continue;
  __asm__ volatile("rep outsw" : "+S"(from), "+c"(words) : "d"(0x1f0) : "memory");
  while (in8(0x1f7) & 0x80) continue;
}

/* What the stubs below jump to: says which exception, where, and ends. */
__attribute__((used, noreturn)) static void fault(const uint64_t *frame) {
  say("\nmotet: exception ");
  say_number(frame[0]);
  say(" at ");
  say_number(frame[1] < 0x10000 ? frame[2] : frame[1]); /* behind an error code, if any */
  say("\n");
  power_off();
}

#define VECTORS 32
__asm__(
    ".balign 16\nfault_stubs:\n"
    ".set number, 0\n"
    ".rept 32\n"
    ".balign 16\n"
    "pushq $number\nmovq %rsp, %rdi\nandq $-16, %rsp\ncall fault\n"
    ".set number, number + 1\n"
    ".endr\n");
extern char fault_stubs[];
static uint64_t gates[2 * VECTORS];

static void catch_faults(void) {
  struct __attribute__((packed)) {
    uint16_t limit;
    uint64_t base;
  } table = {sizeof gates - 1, (uint64_t)gates};
  for (int i = 0; i < VECTORS; ++i) {
    uint64_t at = (uint64_t)fault_stubs + 16 * (uint64_t)i;
    gates[2 * i] = (at & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (at >> 16 & 0xffff) << 48;
    gates[2 * i + 1] = at >> 32;
  }
  __asm__ volatile("lidt %0" : : "m"(table));
}

/* Of the C library, whose functions of mathematics kernels may call: it chooses among their
 * forms by relocations, and keeps errno beside the thread's pointer.
 */
typedef struct {
  uint64_t *at;
  uint64_t kind;
  uint64_t (*choose)(void);
} relocation;
extern const relocation __rela_iplt_start[], __rela_iplt_end[];

static void start_library(void) {
  static char thread[4096] __attribute__((aligned(64)));
  uint64_t middle = (uint64_t)thread + sizeof thread / 2;
  *(uint64_t *)middle = middle;
  __asm__ volatile("wrmsr" : : "c"(0xc0000100), "a"((uint32_t)middle), "d"(middle >> 32));
  for (const relocation *r = __rela_iplt_start; r < __rela_iplt_end; ++r) *r->at = r->choose();
}

__attribute__((noreturn)) void motet_main(header *image) {
  catch_faults();
  start_library();
  call *calls = (call *)image->calls;
  for (uint64_t i = 0; i < image->call_count; ++i) {
    char result[16];
    heap = (char *)image->heap;
    calls[i].status = motet_kernels[calls[i].kernel](
        NULL, (void *)calls[i].arguments, (int32_t)calls[i].count, result);
  }
  for (uint64_t sector = image->first_sector; sector < image->sectors; ++sector)
    write_sector(sector, (const char *)image + 512 * sector);
  say("\nmotet: done\n");
  power_off();
}

/* Of the surroundings. */

typedef struct {
  void *sync_handle;
  int32_t num_task;
} parallel_env;
typedef int (*parallel_lambda)(int task_id, parallel_env *env, void *closure);

static int parallel_launch(parallel_lambda lambda, void *closure, int tasks) {
  parallel_env env = {NULL, tasks > 0 ? tasks : 3};
  int status = 0;
  for (int i = 0; i < env.num_task && status == 0; ++i) status = lambda(i, &env, closure);
  return status;
}

static void *alloc_workspace(int type, int device, uint64_t bytes, int code, int bits) {
  (void)type, (void)device, (void)code, (void)bits;
  char *block = heap;
  heap += (bytes + 127) / 64 * 64;
  return block;
}

static int free_workspace(int type, int device, void *block) {
  (void)type, (void)device;
  heap = block; /* blocks are freed in reverse order */
  return 0;
}

void *__TVMBackendParallelLaunch = (void *)parallel_launch;
void *__TVMBackendAllocWorkspace = (void *)alloc_workspace;
void *__TVMBackendFreeWorkspace = (void *)free_workspace;

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  say("\nmotet: error ");
  say(kind);
  say(": ");
  for (int32_t i = 0; i < count; ++i) say(parts[i]);
  say("\n");
}

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
  TVMFFIErrorSetRaisedFromCStrParts(kind, &message, 1);
}

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
  void *start = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  return start;
}

void *memset(void *to, int value, size_t count) {
  void *start = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
  return start;
}

void *memmove(void *to, const void *from, size_t count) {
  char *t = to;
  const char *f = from;
  if (t <= f || t >= f + count) return memcpy(to, from, count);
  while (count--) t[count] = f[count];
  return to;
}
