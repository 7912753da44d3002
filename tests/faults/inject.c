/* Calls that change the disk, counted over all processes of an ingest; the n-th kills it, or fails.
 *
 * Preloaded (LD_PRELOAD). Only calls on files below one of the folders in FAULT_ROOTS (separated by ':') count.
 * FAULT_STATE is a file of 8 bytes, mapped by every process: the number of calls so far. FAULT_AT is the number (from
 * 1) of the call that FAULT_ACTION befalls: "kill" ends the whole process group by SIGKILL before the call is made,
 * an errno's number makes the call fail. FAULT_TRACE, where given, gets one line a call: number, name, path, and of a
 * rename the name before; separated by tabs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int below_a_root(const char *path) {
    const char *roots = getenv("FAULT_ROOTS");
    while (roots && *roots) {
        size_t length = strcspn(roots, ":");
        if (length && strncmp(path, roots, length) == 0) return 1;
        roots += length + (roots[length] == ':');
    }
    return 0;
}

static uint64_t *state(void) {
    static uint64_t *mapped;
    const char *name = getenv("FAULT_STATE");
    if (!mapped && name) {
        int fd = syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC, 0);
        if (fd >= 0) {
            void *at = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (at != MAP_FAILED) mapped = at;
            syscall(SYS_close, fd);
        }
    }
    return mapped;
}

/* Counts one call; returns 0, or the errno with which it shall fail. */
static int fault(const char *call, const char *path, const char *from) {
    if (!below_a_root(path) || !state()) return 0;
    uint64_t number = __atomic_add_fetch(state(), 1, __ATOMIC_SEQ_CST);
    const char *trace = getenv("FAULT_TRACE"), *at = getenv("FAULT_AT"), *action = getenv("FAULT_ACTION");
    if (trace) {
        char line[2 * PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%llu\t%s\t%s\t%s\n", (unsigned long long)number, call, path, from);
        int fd = syscall(SYS_openat, AT_FDCWD, trace, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (fd >= 0) {
            if (syscall(SYS_write, fd, line, length) != length) abort();
            syscall(SYS_close, fd);
        }
    }
    if (!at || !action || number != strtoull(at, NULL, 10)) return 0;
    if (strcmp(action, "kill") == 0) {
        kill(0, SIGKILL);
        for (;;) pause();
    }
    return atoi(action);
}

static int fault_fd(const char *call, int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fault(call, path, "");
}

static int fault_at(const char *call, int folder, const char *name, const char *from) {
    char base[PATH_MAX] = "", link[64], path[2 * PATH_MAX];
    if (name[0] == '/') return fault(call, name, from);
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
        if (length < 0) return 0;
        base[length] = 0;
    }
    snprintf(path, sizeof path, "%s/%s", base, name);
    return fault(call, path, from);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_OR(check, call)         \
    do {                             \
        int broken = check;          \
        if (broken) {                \
            errno = broken;          \
            return -1;               \
        }                            \
        return call;                 \
    } while (0)

ssize_t write(int fd, const void *bytes, size_t size) { FAIL_OR(fault_fd("write", fd), NEXT(write)(fd, bytes, size)); }
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    FAIL_OR(fault_fd("pwrite", fd), NEXT(pwrite)(fd, bytes, size, at));
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    FAIL_OR(fault_fd("pwrite", fd), NEXT(pwrite64)(fd, bytes, size, at));
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    FAIL_OR(fault_fd("writev", fd), NEXT(writev)(fd, parts, count));
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    FAIL_OR(fault_fd("copy_file_range", out), NEXT(copy_file_range)(in, from, out, to, size, flags));
}
ssize_t sendfile(int out, int in, off_t *from, size_t size) {
    FAIL_OR(fault_fd("sendfile", out), ((ssize_t(*)(int, int, off_t *, size_t))dlsym(RTLD_NEXT, "sendfile"))(out, in, from, size));
}
ssize_t sendfile64(int out, int in, off64_t *from, size_t size) {
    FAIL_OR(fault_fd("sendfile", out), ((ssize_t(*)(int, int, off64_t *, size_t))dlsym(RTLD_NEXT, "sendfile64"))(out, in, from, size));
}
int fsync(int fd) { FAIL_OR(fault_fd("fsync", fd), NEXT(fsync)(fd)); }
int fdatasync(int fd) { FAIL_OR(fault_fd("fdatasync", fd), NEXT(fdatasync)(fd)); }
int ftruncate(int fd, off_t size) { FAIL_OR(fault_fd("ftruncate", fd), NEXT(ftruncate)(fd, size)); }
int ftruncate64(int fd, off64_t size) { FAIL_OR(fault_fd("ftruncate", fd), NEXT(ftruncate64)(fd, size)); }
int rename(const char *from, const char *to) { FAIL_OR(fault_at("rename", AT_FDCWD, to, from), NEXT(rename)(from, to)); }
int renameat(int in, const char *from, int out, const char *to) {
    FAIL_OR(fault_at("rename", out, to, from), NEXT(renameat)(in, from, out, to));
}
int unlink(const char *path) { FAIL_OR(fault_at("unlink", AT_FDCWD, path, ""), NEXT(unlink)(path)); }
int unlinkat(int folder, const char *path, int flags) {
    FAIL_OR(fault_at("unlink", folder, path, ""), NEXT(unlinkat)(folder, path, flags));
}
int rmdir(const char *path) { FAIL_OR(fault_at("rmdir", AT_FDCWD, path, ""), NEXT(rmdir)(path)); }
int mkdir(const char *path, mode_t mode) { FAIL_OR(fault_at("mkdir", AT_FDCWD, path, ""), NEXT(mkdir)(path, mode)); }
int mkdirat(int folder, const char *path, mode_t mode) {
    FAIL_OR(fault_at("mkdir", folder, path, ""), NEXT(mkdirat)(folder, path, mode));
}

/* A file that comes into being: open with O_CREAT. */
#define OPENING(name, call)                                             \
    int name(const char *path, int flags, ...) {                        \
        va_list rest;                                                   \
        va_start(rest, flags);                                          \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;       \
        va_end(rest);                                                   \
        int broken = flags & O_CREAT ? fault_at("create", AT_FDCWD, path, "") : 0; \
        if (broken) {                                                   \
            errno = broken;                                             \
            return -1;                                                  \
        }                                                               \
        return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(path, flags, mode); \
    }
OPENING(open, open)
OPENING(open64, open64)
