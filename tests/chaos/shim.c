/*
 * A disk that fails on demand. Preloaded into the daemon, this library wraps the calls by which files below one folder
 * are opened, read, written, synced, truncated and renamed, and lets some of them fail with EIO or ENOSPC.
 *
 * DISK_FAULTS names the control file, which the test rewrites while the daemon runs:
 *
 *     00000003                          a generation; the rules are read again when it changes
 *     folder /disk/store/               paths that hold this text are wrapped
 *     script fsync sled/db oeeo         outcomes of the next calls on paths that end so: o ok, e EIO, n ENOSPC, h hangs
 *                                       until the rules change; up to eight such rows
 *     chance 7 250 wfro en -1 sled/db   seed, faults in 1000 calls, calls, errors, most faults (-1: no limit), paths
 *     lose sled/db 6                    the first fsync of this file that has so many pages to write fails and leaves
 *                                       them clean, as on Linux: they are lost unless they are written once more
 *
 * Calls are w write, f fsync, r rename, o open, t truncate, d read; `-` as the paths of `chance` means all of them. At
 * byte 2048 of the control file is the number of faults as text, and at byte 2112 the number of pages that were lost so
 * far. From byte 4096 on there is a byte for each page of the file, 1 for those that are lost.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define PAGES 65536
#define CONTROL_BYTES (4096 + PAGES)
#define COUNT_AT 2048
#define LOST_AT 2112
#define MOST_FDS 65536

static char *control;
/* The path of each open file, as it is called by now; empty for those that are not wrapped. */
static char tags[MOST_FDS][256];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define MOST_SCRIPTS 8
static struct script {
    char call[16], path[128], outcomes[64];
    size_t next;
} scripts[MOST_SCRIPTS];
static size_t scripts_count;
static char generation[9], folder[256], calls[16], errors[8], paths[128], losing[128];
/* Of the file that loses pages: pages written since the last fsync, and failures of fsync, as far as each fd saw them. */
static unsigned char dirty[PAGES];
static unsigned failures, known[MOST_FDS];
static long lost, most_pages;
static unsigned long long state;
static unsigned per_mille;
static long budget, faults;

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

static unsigned long long chance(void) {
    unsigned long long z = (state += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DISK_FAULTS");
    if (!path) return;
    int fd = REAL(open64)(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *map = mmap(NULL, CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) control = map;
    if (control) lost = atol(control + LOST_AT);
    REAL(close)(fd);
}

/* With the lock held. */
static void read_rules(void) {
    if (!memcmp(generation, control, 8)) return;
    char text[COUNT_AT + 1];
    memcpy(text, control, COUNT_AT);
    text[COUNT_AT] = 0;
    memcpy(generation, control, 8);
    folder[0] = calls[0] = losing[0] = 0;
    scripts_count = 0;
    faults = 0;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n"));) {
        sscanf(line, "folder %255s", folder);
        sscanf(line, "lose %127s %ld", losing, &most_pages);
        struct script *one = &scripts[scripts_count];
        if (scripts_count == MOST_SCRIPTS) continue;
        if (sscanf(line, "script %15s %127s %63s", one->call, one->path, one->outcomes) == 3) {
            one->next = 0;
            scripts_count++;
        }
        sscanf(line, "chance %llu %u %15s %7s %ld %127s", &state, &per_mille, calls, errors, &budget, paths);
    }
    snprintf(control + COUNT_AT, 24, "%ld\n", faults);
}

static int ends_with(const char *text, const char *end) {
    size_t a = strlen(text), b = strlen(end);
    return a >= b && !strcmp(text + a - b, end);
}

/* The error that a call on a path meets, or 0; `torn` says whether half of a write is carried out before. */
static int fault(const char *call, const char *path, int *torn) {
    if (!control || !path || !path[0]) return 0;
    int error = 0;
    pthread_mutex_lock(&lock);
    read_rules();
    for (size_t i = 0; i < scripts_count && !error; i++) {
        struct script *one = &scripts[i];
        if (!one->outcomes[one->next] || strcmp(call, one->call) || !ends_with(path, one->path)) continue;
        char outcome = one->outcomes[one->next++];
        error = outcome == 'e' ? EIO : outcome == 'n' ? ENOSPC : 0;
        if (outcome == 'h') {
            snprintf(control + COUNT_AT, 24, "%ld\n", ++faults);
            char mine[8];
            memcpy(mine, generation, 8);
            pthread_mutex_unlock(&lock);
            while (!memcmp(mine, control, 8)) usleep(5000);
            return 0;
        }
    }
    if (!error && calls[0] && strchr(calls, strcmp(call, "read") ? call[0] : 'd') &&
               budget != 0 && (paths[0] == '-' || ends_with(path, paths)) && chance() % 1000 < per_mille) {
        error = errors[chance() % strlen(errors)] == 'n' ? ENOSPC : EIO;
        if (torn) *torn = chance() % 4 == 0;
        if (budget > 0) budget--;
    }
    if (error) snprintf(control + COUNT_AT, 24, "%ld\n", ++faults);
    pthread_mutex_unlock(&lock);
    return error;
}

static const char *tag(int fd) { return fd >= 0 && fd < MOST_FDS ? tags[fd] : ""; }

static int inside(const char *path) {
    if (!control) return 0;
    pthread_mutex_lock(&lock);
    read_rules();
    int found = folder[0] && strstr(path, folder) != NULL;
    pthread_mutex_unlock(&lock);
    return found;
}

static int opened(int fd, const char *path) {
    if (fd >= 0 && fd < MOST_FDS) {
        snprintf(tags[fd], sizeof tags[fd], "%s", inside(path) ? path : "");
        known[fd] = failures;
    }
    return fd;
}

#define FAIL_IF(call, path)                                                                                            \
    do {                                                                                                               \
        int error = fault(call, path, NULL);                                                                           \
        if (error) {                                                                                                   \
            errno = error;                                                                                             \
            return -1;                                                                                                 \
        }                                                                                                              \
    } while (0)

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                                        \
        va_end(more);                                                                                                  \
        if (inside(path)) FAIL_IF("open", path);                                                                       \
        return opened(REAL(name)(path, flags, mode), path);                                                            \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                   \
    int name(int dir, const char *path, int flags, ...) {                                                              \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                                        \
        va_end(more);                                                                                                  \
        if (inside(path)) FAIL_IF("open", path);                                                                       \
        return opened(REAL(name)(dir, path, flags, mode), path);                                                       \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    if (fd >= 0 && fd < MOST_FDS) tags[fd][0] = 0;
    return REAL(close)(fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    int torn = 0, error = fault("write", tag(fd), &torn);
    if (!error) return REAL(write)(fd, bytes, count);
    if (torn) (void)!REAL(write)(fd, bytes, count / 2);
    errno = error;
    return -1;
}

static int loses(int fd) { return control && losing[0] && ends_with(tag(fd), losing); }

/* These bytes were handed to the kernel. */
static void wrote(int fd, size_t count, off64_t at) {
    pthread_mutex_lock(&lock);
    if (loses(fd)) {
        for (off64_t page = at / 4096; page * 4096 < at + (off64_t)count && page < PAGES; page++) {
            dirty[page] = 1;
            control[4096 + page] = 0;
        }
    }
    pthread_mutex_unlock(&lock);
}

/* How an fsync ends. A failure is reported once to each open file. */
static int synced(int fd) {
    int error = 0;
    pthread_mutex_lock(&lock);
    if (loses(fd)) {
        long pages = 0;
        for (int page = 0; page < PAGES; page++) pages += dirty[page];
        if (most_pages > 0 && pages >= most_pages) {
            most_pages = 0;
            failures++;
            error = EIO;
            lost += pages;
            for (int page = 0; page < PAGES; page++) control[4096 + page] |= dirty[page];
            snprintf(control + LOST_AT, 24, "%ld\n", lost);
            snprintf(control + COUNT_AT, 24, "%ld\n", ++faults);
        } else if (known[fd] != failures) {
            error = EIO;
        }
        known[fd] = failures;
        memset(dirty, 0, sizeof dirty);
    }
    pthread_mutex_unlock(&lock);
    return error;
}

#define PWRITE(name, offset_type)                                                                                      \
    ssize_t name(int fd, const void *bytes, size_t count, offset_type at) {                                            \
        int torn = 0, error = fault("write", tag(fd), &torn);                                                          \
        if (!error) wrote(fd, count, at);                                                                              \
        if (!error) return REAL(name)(fd, bytes, count, at);                                                           \
        if (torn) (void)!REAL(name)(fd, bytes, count / 2, at);                                                         \
        errno = error;                                                                                                 \
        return -1;                                                                                                     \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t read(int fd, void *bytes, size_t count) {
    FAIL_IF("read", tag(fd));
    return REAL(read)(fd, bytes, count);
}

ssize_t pread(int fd, void *bytes, size_t count, off_t at) {
    FAIL_IF("read", tag(fd));
    return REAL(pread)(fd, bytes, count, at);
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
    FAIL_IF("read", tag(fd));
    return REAL(pread64)(fd, bytes, count, at);
}

int fsync(int fd) {
    int error = fault("fsync", tag(fd), NULL);
    if (!error) error = synced(fd);
    if (!error) return REAL(fsync)(fd);
    errno = error;
    return -1;
}

int fdatasync(int fd) {
    FAIL_IF("fsync", tag(fd));
    return REAL(fdatasync)(fd);
}

int sync_file_range(int fd, off64_t at, off64_t count, unsigned flags) {
    FAIL_IF("write", tag(fd));
    return REAL(sync_file_range)(fd, at, count, flags);
}

int ftruncate(int fd, off_t length) {
    FAIL_IF("truncate", tag(fd));
    return REAL(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length) {
    FAIL_IF("truncate", tag(fd));
    return REAL(ftruncate64)(fd, length);
}

int rename(const char *from, const char *to) {
    if (!inside(to)) return REAL(rename)(from, to);
    FAIL_IF("rename", to);
    int renamed = REAL(rename)(from, to);
    size_t length = strlen(from);
    for (int fd = 0; renamed == 0 && fd < MOST_FDS; fd++) {
        char was[sizeof tags[fd]];
        if (strncmp(tags[fd], from, length) || (tags[fd][length] && tags[fd][length] != '/')) continue;
        strcpy(was, tags[fd]);
        snprintf(tags[fd], sizeof tags[fd], "%s%s", to, was + length);
    }
    return renamed;
}
