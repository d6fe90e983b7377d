/* The firmware of an emulated machine that does nothing but run kernels: 64 KB at 0xf0000.
 *
 * Goes from reset to 64-bit mode with AVX-512 state on, memory mapped one to one, reads the
 * whole disk to 1 MB and jumps to the entry that the disk's first sector names (image.py has
 * its layout). No BIOS, no operating system: a run takes a fraction of a second.
 */
#define BASE 0x100000
#define PML4 0x1000
#define PDPT 0x2000
#define STACK 0x1ff00000

  .section .text
  .globl _start
  .code16
_start:
real:
  cli
  xorw %ax, %ax
  movw %ax, %ds
  movl $(PDPT | 3), PML4
  movl $0, PML4 + 4
  movl $0x83, PDPT            /* four pages of 1 GB */
  movl $0, PDPT + 4
  movl $0x40000083, PDPT + 8
  movl $0, PDPT + 12
  movl $0x80000083, PDPT + 16
  movl $0, PDPT + 20
  movl $0xc0000083, PDPT + 24
  movl $0, PDPT + 28
  lgdtl %cs:(descriptors_at - 0xf0000)
  movl $0x40620, %eax         /* PAE, OSFXSR, OSXMMEXCPT, OSXSAVE */
  movl %eax, %cr4
  movl $PML4, %eax
  movl %eax, %cr3
  movl $0xc0000080, %ecx      /* EFER.LME */
  rdmsr
  orl $0x100, %eax
  wrmsr
  movl $0x80000023, %eax      /* PG, NE, MP, PE */
  movl %eax, %cr0
  ljmpl $8, $wide

  .code64
wide:
  movl $16, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  movl $STACK, %esp
  fninit
  xorl %ecx, %ecx
  xorl %edx, %edx
  movl $0xe7, %eax            /* x87, SSE, AVX, masks, both upper parts of ZMM */
  xsetbv
  movl $BASE, %edi
  xorl %ebx, %ebx
  call read_sector
  movl BASE + 8, %r8d         /* sectors of the image, the first included */
  movl $1, %ebx
1:
  cmpl %r8d, %ebx
  jae 2f
  call read_sector
  incl %ebx
  jmp 1b
2:
  movq BASE + 16, %rax
  movl $BASE, %edi
  call *%rax
3:
  hlt
  jmp 3b

/* Sector %ebx of the first disk to %rdi, which goes on by 512. */
read_sector:
  movl $0x1f2, %edx
  movb $1, %al
  outb %al, %dx
  movl %ebx, %eax
  incl %edx
  outb %al, %dx
  shrl $8, %eax
  incl %edx
  outb %al, %dx
  shrl $8, %eax
  incl %edx
  outb %al, %dx
  shrl $8, %eax
  orb $0xe0, %al
  incl %edx
  outb %al, %dx
  movb $0x20, %al
  incl %edx
  outb %al, %dx
1:
  inb %dx, %al
  andb $0x88, %al             /* not busy, data ready */
  cmpb $8, %al
  jne 1b
  movl $0x1f0, %edx
  movl $256, %ecx
  cld
  rep insw
  ret

  .balign 8
descriptors:
  .quad 0
  .quad 0x00af9a000000ffff    /* code, 64 bits */
  .quad 0x00cf92000000ffff    /* data */
descriptors_at:
  .word descriptors_at - descriptors - 1
  .long descriptors

  .org 0xfff0
  .code16
  ljmpw $0xf000, $(real - _start)
  .org 0x10000 - 1
  .byte 0
