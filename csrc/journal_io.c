/* journal_io.c: the system's calls on the files of one directory. The only part of the journal that knows of a system.
 *
 * The idea: names are relative to a descriptor of the directory, so that a directory that is renamed stays the journal's.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "bifrost.h"

#define INTERRUPTIONS_MAX 8

static int directory_of(void *context)
{
    return *(int *)context;
}

static int result(int outcome)
{
    return outcome < 0 ? -errno : outcome;
}

static int io_open(void *context, const char *name, int create)
{
    int flags = O_RDWR | O_CLOEXEC | (create != 0 ? O_CREAT | O_EXCL : 0);
    return result(openat(directory_of(context), name, flags, 0640));
}

static int io_close(void *context, int fd)
{
    (void)context;
    return result(close(fd));
}

static int io_allocate(void *context, int fd, uint64_t size)
{
    (void)context;
    int refused = posix_fallocate(fd, 0, (off_t)size);
    return refused == EINVAL ? -EOPNOTSUPP : -refused; /* EINVAL: what some file systems say for "not supported" */
}

static int64_t io_read(void *context, int fd, uint64_t offset, uint8_t *data, size_t size)
{
    (void)context;
    ssize_t taken = -1;
    for (int i = 0; i < INTERRUPTIONS_MAX && taken < 0 && (i == 0 || errno == EINTR); i++) {
        taken = pread(fd, data, size, (off_t)offset);
    }
    return taken < 0 ? -errno : taken;
}

static int64_t io_write(void *context, int fd, uint64_t offset, const uint8_t *data, size_t size)
{
    (void)context;
    ssize_t taken = -1;
    for (int i = 0; i < INTERRUPTIONS_MAX && taken < 0 && (i == 0 || errno == EINTR); i++) {
        taken = pwrite(fd, data, size, (off_t)offset);
    }
    return taken < 0 ? -errno : taken;
}

static int io_sync(void *context, int fd)
{
    (void)context;
    return result(fdatasync(fd));
}

static int io_unlink(void *context, const char *name)
{
    return result(unlinkat(directory_of(context), name, 0));
}

static int io_rename(void *context, const char *name, const char *new_name)
{
    return result(renameat(directory_of(context), name, directory_of(context), new_name));
}

static int io_sync_directory(void *context)
{
    return result(fsync(directory_of(context)));
}

void bf_journal_io_system(bf_journal_io *io, int *directory)
{
    assert(*directory >= 0);
    *io = (bf_journal_io){.context = directory,
                          .open = io_open,
                          .close = io_close,
                          .allocate = io_allocate,
                          .read = io_read,
                          .write = io_write,
                          .sync = io_sync,
                          .unlink = io_unlink,
                          .rename = io_rename,
                          .sync_directory = io_sync_directory};
}
