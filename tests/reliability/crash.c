/* Counts what a process does to the files below one directory, and at the n-th such call kills it or fills the disk.

   Preloaded (LD_PRELOAD) it stands before libc; it does nothing until crash_arm() is called, so that a process can
   import first and be armed after it forked. What libc calls inside itself (fwrite) does not pass here. */

#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS /* both forms of each call are defined below, which headers would make one */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { COUNT, KILL, KILL_HALF, FULL }; /* the numbers stand in shim.py too */
enum verdict { GO, HALF, REFUSE };

static char directory[PATH_MAX];
static size_t directory_length; /* 0: not armed */
static long point, seen;
static int mode, is_full, journal = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define NEXT(name) __typeof__(&name) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Count from 1 from here on; journal: a descriptor that gets a line for each call, or -1. */
void crash_arm(const char *below, long at, int how, int journal_fd) {
    directory_length = 0;
    point = at, mode = how, journal = journal_fd, seen = 0, is_full = 0;
    snprintf(directory, sizeof directory, "%s", below);
    directory_length = strlen(directory);
}

long crash_disarm(void) {
    directory_length = 0;
    return seen;
}

/* As crash_arm's modes do at a call of the files, for stores into memory-mapped ones: called from Python. */
void crash_here(void) { kill(getpid(), SIGKILL); }

static int is_below(const char *path) {
    return !strncmp(path, directory, directory_length) && (path[directory_length] == '/' || !path[directory_length]);
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return path[0] == '/';
}

/* `name` seen from `dirfd`, absolute. */
static int path_at(int dirfd, const char *name, char *path) {
    if (name[0] == '/') return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
    char base[PATH_MAX];
    if (dirfd == AT_FDCWD ? !getcwd(base, sizeof base) : !path_of(dirfd, base)) return 0;
    return snprintf(path, PATH_MAX, "%s/%s", base, name) < PATH_MAX;
}

/* The file that is mapped at an address. */
static int path_mapped(const void *address, char *path) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[PATH_MAX + 128];
    int found = 0;
    while (maps && !found && fgets(line, sizeof line, maps)) {
        unsigned long low, high;
        int at = 0;
        if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &low, &high, &at) < 2) continue;
        if ((unsigned long)address < low || (unsigned long)address >= high || line[at] != '/') continue;
        line[strcspn(line, "\n")] = 0;
        found = snprintf(path, PATH_MAX, "%s", line + at) < PATH_MAX;
    }
    if (maps) fclose(maps);
    return found;
}

/* What happens to a call on `path`. needs_room: a full disk refuses it; can_halve: it can be done in part. */
static enum verdict judge(const char *call, const char *path, int needs_room, int can_halve) {
    if (!directory_length || !is_below(path)) return GO;
    pthread_mutex_lock(&lock);
    long number = ++seen;
    if (journal >= 0) dprintf(journal, "%ld %s %s\n", number, call, path + directory_length);
    enum verdict verdict = GO;
    if (number == point && mode == KILL) crash_here();
    if (number == point && mode == KILL_HALF) verdict = can_halve ? HALF : GO;
    if (number == point && mode == FULL) is_full = 1;
    if (is_full && (needs_room || (number == point && strncmp(call, "unlink", 6)))) verdict = REFUSE;
    pthread_mutex_unlock(&lock);
    return verdict;
}

static enum verdict judge_fd(const char *call, int fd, int needs_room, int can_halve) {
    char path[PATH_MAX];
    int error = errno;
    enum verdict verdict = directory_length && path_of(fd, path) ? judge(call, path, needs_room, can_halve) : GO;
    errno = error;
    return verdict;
}

static enum verdict judge_at(const char *call, int dirfd, const char *name) {
    char path[PATH_MAX];
    int error = errno;
    enum verdict verdict = directory_length && path_at(dirfd, name, path) ? judge(call, path, 0, 0) : GO;
    errno = error;
    return verdict;
}

#define REFUSED(verdict) \
    if ((verdict) == REFUSE) { \
        errno = ENOSPC; \
        return -1; \
    }

ssize_t write(int fd, const void *data, size_t count) {
    NEXT(write);
    enum verdict verdict = judge_fd("write", fd, 1, 1);
    REFUSED(verdict)
    ssize_t done = next(fd, data, verdict == HALF ? count / 2 : count);
    if (verdict == HALF) crash_here();
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    NEXT(writev);
    enum verdict verdict = judge_fd("writev", fd, 1, 1);
    REFUSED(verdict)
    if (verdict != HALF) return next(fd, parts, count);
    size_t left = 0;
    for (int i = 0; i < count; i++) left += parts[i].iov_len;
    left /= 2;
    for (int i = 0; i < count && left; i++) {
        size_t part = parts[i].iov_len < left ? parts[i].iov_len : left;
        if (next(fd, &(struct iovec){parts[i].iov_base, part}, 1) < 0) break;
        left -= part;
    }
    crash_here();
    return -1;
}

#define PWRITE(name, offset_type) \
    ssize_t name(int fd, const void *data, size_t count, offset_type offset) { \
        NEXT(name); \
        enum verdict verdict = judge_fd("pwrite", fd, 1, 1); \
        REFUSED(verdict) \
        ssize_t done = next(fd, data, verdict == HALF ? count / 2 : count, offset); \
        if (verdict == HALF) crash_here(); \
        return done; \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define SENDFILE(name, offset_type) \
    ssize_t name(int out, int in, offset_type *offset, size_t count) { \
        NEXT(name); \
        enum verdict verdict = judge_fd("sendfile", out, 1, 1); \
        REFUSED(verdict) \
        ssize_t done = next(out, in, offset, verdict == HALF ? (count + 1) / 2 : count); \
        if (verdict == HALF) crash_here(); \
        return done; \
    }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

#define SYNC(name) \
    int name(int fd) { \
        NEXT(name); \
        REFUSED(judge_fd(#name, fd, 0, 0)) \
        return next(fd); \
    }
SYNC(fsync)
SYNC(fdatasync)

int msync(void *address, size_t length, int flags) {
    NEXT(msync);
    char path[PATH_MAX];
    if (directory_length && path_mapped(address, path)) REFUSED(judge("msync", path, 0, 0))
    return next(address, length, flags);
}

/* Of a file that gets longer: with holes in it that takes no room, but a quota or another file system may refuse. */
static int is_longer(int fd, off64_t length) {
    struct stat stat;
    return fstat(fd, &stat) || length > stat.st_size;
}

#define TRUNCATE(name, offset_type) \
    int name(int fd, offset_type length) { \
        NEXT(name); \
        REFUSED(judge_fd("ftruncate", fd, is_longer(fd, length), 0)) \
        return next(fd, length); \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define ALLOCATE(name, offset_type) \
    int name(int fd, offset_type offset, offset_type length) { \
        NEXT(name); \
        if (judge_fd("posix_fallocate", fd, 1, 0) == REFUSE) return ENOSPC; \
        return next(fd, offset, length); \
    }
ALLOCATE(posix_fallocate, off_t)
ALLOCATE(posix_fallocate64, off64_t)

int rename(const char *from, const char *to) {
    NEXT(rename);
    REFUSED(judge_at("rename", AT_FDCWD, to))
    return next(from, to);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
    NEXT(renameat);
    REFUSED(judge_at("renameat", to_fd, to))
    return next(from_fd, from, to_fd, to);
}

int link(const char *from, const char *to) {
    NEXT(link);
    REFUSED(judge_at("link", AT_FDCWD, to))
    return next(from, to);
}

int unlink(const char *path) {
    NEXT(unlink);
    REFUSED(judge_at("unlink", AT_FDCWD, path))
    return next(path);
}

int unlinkat(int fd, const char *path, int flags) {
    NEXT(unlinkat);
    REFUSED(judge_at("unlinkat", fd, path))
    return next(fd, path, flags);
}
