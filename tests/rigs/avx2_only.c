/* Shows an older processor to a program: AVX2, but no AVX-512, VNNI, bfloat16 or AMX.
 *
 *     cc -O1 -shared -fPIC avx2_only.c -o avx2_only.so -ldl
 *     LD_PRELOAD=./avx2_only.so python -m pytest tests/export
 *
 * Environment variables mask torch and oneDNN (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA), but ONNX
 * Runtime asks the processor itself. Here the cpuid instruction faults (arch_prctl(2),
 * ARCH_SET_CPUID), and a signal handler answers it without the newer features. Linux on x86-64 with
 * CPUID faulting; where that is missing, the program ends with status 77.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

typedef int (*sigaction_t)(int, const struct sigaction *, struct sigaction *);

static sigaction_t real_sigaction(void) { return (sigaction_t)dlsym(RTLD_NEXT, "sigaction"); }

static long cpuid_allowed(int allowed) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, allowed); }

static void answer_cpuid(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    unsigned leaf = registers[REG_RAX], part = registers[REG_RCX], a, b, c, d;
    if (code[0] != 0x0f || code[1] != 0xa2) { /* a real fault: die of it */
        signal(number, SIG_DFL);
        return;
    }
    cpuid_allowed(1);
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "0"(leaf), "2"(part));
    cpuid_allowed(0);
    if (leaf == 7 && part == 0) { /* AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VNNI; AMX */
        b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
        c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));
        d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));
    } else if (leaf == 7 && part == 1) { /* AVX-VNNI, AVX512-BF16, AMX-FP16; AVX-VNNI-INT8, -INT16 */
        a &= ~(BIT(4) | BIT(5) | BIT(21));
        d &= ~(BIT(4) | BIT(5) | BIT(10) | BIT(19));
    }
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

/* Python's faulthandler, which pytest turns on, must not take the signal away. */
int sigaction(int number, const struct sigaction *new, struct sigaction *old) {
    return real_sigaction()(number, number == SIGSEGV ? NULL : new, old);
}

__attribute__((constructor)) static void mask(void) {
    struct sigaction ours = {.sa_sigaction = answer_cpuid, .sa_flags = SA_SIGINFO | SA_NODEFER};
    real_sigaction()(SIGSEGV, &ours, NULL);
    if (cpuid_allowed(0)) _exit(77);
}
