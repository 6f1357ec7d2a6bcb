/* Preloaded into a process under test. A control file sets how long an fsync takes, how writes fail and how far the wall
 * clock is off; a change takes effect at the next call. Calls are forwarded as system calls, not through dlsym: the
 * allocator of Redis asks for the time while the process starts, and a lookup at that moment deadlocks.
 *
 * The monotonic clock and the times of files are not affected. For 64-bit Linux. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The control file, as src/shim.rs writes it. */
struct control {
    int64_t fsync_delay_ms;
    int64_t disk_errno;
    int64_t clock_offset_s;
};

static const struct control none;
static const volatile struct control *control = &none;

__attribute__((constructor)) static void follow_control_file(void) {
    const char *path = getenv("TESTKIT_SHIM");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) control = page;
}

static int disk_fails(void) {
    errno = (int)control->disk_errno;
    return errno != 0;
}

static int slow_sync(long call, int file) {
    /* In small steps, so that the delay ends soon after the fault. */
    for (int64_t waited_ms = 0; waited_ms < control->fsync_delay_ms; waited_ms += 10) {
        struct timespec step = {0, 10 * 1000 * 1000};
        syscall(SYS_nanosleep, &step, NULL);
    }
    return disk_fails() ? -1 : (int)syscall(call, file);
}

int fsync(int file) { return slow_sync(SYS_fsync, file); }

int fdatasync(int file) { return slow_sync(SYS_fdatasync, file); }

ssize_t write(int file, const void *bytes, size_t count) {
    struct stat status;
    if (control->disk_errno && fstat(file, &status) == 0 && S_ISREG(status.st_mode) && disk_fails()) return -1;
    return syscall(SYS_write, file, bytes, count);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    int is_wall_clock = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (result == 0 && is_wall_clock) now->tv_sec += control->clock_offset_s;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *copy) {
    struct timespec precise;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return (time_t)-1;
    if (copy) *copy = precise.tv_sec;
    return precise.tv_sec;
}
