/* A wall clock that the tests set: clock_gettime, time and gettimeofday of CLOCK_REALTIME, by the seconds in LEAPS. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *ahead;

/* Our own processes alone: where Ray's raylet and GCS leap, too, its timers stand still, which nobody here can mend. */
__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("LEAPS");
    int place = file && strstr(program_invocation_short_name, "python") ? open(file, O_RDONLY) : -1;
    if (place < 0)
        return;
    void *found = mmap(0, sizeof *ahead, PROT_READ, MAP_SHARED, place, 0);
    ahead = found == MAP_FAILED ? 0 : found;
    close(place);
}

int clock_gettime(clockid_t which, struct timespec *at) {
    int told = syscall(SYS_clock_gettime, which, at);
    if (ahead && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
        at->tv_sec += *ahead;
    return told;
}

time_t time(time_t *out) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (out)
        *out = at.tv_sec;
    return at.tv_sec;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
