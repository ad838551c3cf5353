/* File systems as NFS, Lustre and FUSE may be, by the variables FLOCK_ERROR, FOLDER_FSYNC_ERROR and FLOCK_AS_NFS. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int failure(const char *name) {
    const char *number = getenv(name);
    return number ? atoi(number) : 0;
}

int flock(int descriptor, int operation) {
    errno = failure("FLOCK_ERROR");
    if (errno)
        return -1;
    if (getenv("FLOCK_AS_NFS") && operation & LOCK_EX && (fcntl(descriptor, F_GETFL) & O_ACCMODE) == O_RDONLY) {
        errno = EBADF; /* an NFS client grants exclusive locks on writable files only */
        return -1;
    }
    return syscall(SYS_flock, descriptor, operation);
}

int fsync(int descriptor) {
    struct stat found;
    errno = failure("FOLDER_FSYNC_ERROR");
    if (errno && fstat(descriptor, &found) == 0 && S_ISDIR(found.st_mode))
        return -1;
    return syscall(SYS_fsync, descriptor);
}
