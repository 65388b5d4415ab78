/* memory_files.h: a directory in memory for tests of the journal: a few files of bounded size, calls that can be made to fail, bytes that can be
 * damaged. The idea: what the journal asks for goes through bf_journal_io, so a test needs no disk.
 */
#ifndef BIFROST_MEMORY_FILES_H
#define BIFROST_MEMORY_FILES_H

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "bifrost.h"

#define FILES_MAX 24
#define FILE_BYTES_MAX 16384

typedef struct {
    char name[24]; /* empty: this place is free */
    size_t length;
    uint8_t bytes[FILE_BYTES_MAX];
} memory_file;

typedef struct {
    memory_file files[FILES_MAX];
    uint32_t calls;
    uint32_t fails_at; /* the call that fails, counted from 0 … */
    uint32_t fails_for; /* … and how many from there on */
    int fails_with;
    int reads_fail; /* so do reads */
} memory_files;

static int files_fail(memory_files *files)
{
    uint32_t call = files->calls++;
    return call - files->fails_at < files->fails_for ? -files->fails_with : 0;
}

static int files_find(const memory_files *files, const char *name)
{
    for (int i = 0; i < FILES_MAX; i++) {
        if (strcmp(files->files[i].name, name) == 0) {
            return i;
        }
    }
    return -ENOENT;
}

static int files_open(void *context, const char *name, int create)
{
    memory_files *files = context;
    int refused = files_fail(files);
    int found = files_find(files, name);
    if (refused != 0 || create == 0) {
        return refused != 0 ? refused : found;
    }
    int place = files_find(files, "");
    if (found >= 0 || place < 0) {
        return found >= 0 ? -EEXIST : -ENOSPC;
    }
    memset(&files->files[place], 0, sizeof files->files[place]);
    strncpy(files->files[place].name, name, sizeof files->files[place].name - 1);
    return place;
}

static int files_close(void *context, int fd)
{
    (void)context;
    return fd >= 0 && fd < FILES_MAX ? 0 : -EBADF;
}

static int files_allocate(void *context, int fd, uint64_t size)
{
    memory_files *files = context;
    int refused = files_fail(files);
    if (refused == 0 && size > FILE_BYTES_MAX) {
        refused = -ENOSPC;
    }
    if (refused == 0 && files->files[fd].length < size) {
        files->files[fd].length = (size_t)size;
    }
    return refused;
}

static int64_t files_read(void *context, int fd, uint64_t offset, uint8_t *data, size_t size)
{
    memory_files *files = context;
    int refused = files->reads_fail ? files_fail(files) : 0;
    if (refused != 0) {
        return refused;
    }
    size_t length = files->files[fd].length;
    size_t left = offset < length ? length - (size_t)offset : 0;
    size_t taken = left < size ? left : size;
    if (taken > 0) {
        memcpy(data, files->files[fd].bytes + offset, taken);
    }
    return (int64_t)taken;
}

static int64_t files_write(void *context, int fd, uint64_t offset, const uint8_t *data, size_t size)
{
    memory_files *files = context;
    int refused = files_fail(files);
    if (refused != 0) {
        return refused;
    }
    if (offset + size > FILE_BYTES_MAX) {
        return -ENOSPC;
    }
    memcpy(files->files[fd].bytes + offset, data, size);
    if (offset + size > files->files[fd].length) {
        files->files[fd].length = (size_t)offset + size;
    }
    return (int64_t)size;
}

static int files_sync(void *context, int fd)
{
    (void)fd;
    return files_fail(context);
}

static int files_unlink(void *context, const char *name)
{
    memory_files *files = context;
    int refused = files_fail(files);
    int found = files_find(files, name);
    if (refused == 0 && found >= 0) {
        files->files[found].name[0] = '\0';
    }
    return refused != 0 ? refused : found < 0 ? found : 0;
}

static int files_rename(void *context, const char *name, const char *new_name)
{
    memory_files *files = context;
    int refused = files_fail(files);
    int found = files_find(files, name);
    if (refused != 0 || found < 0) {
        return refused != 0 ? refused : found;
    }
    int old = files_find(files, new_name);
    if (old >= 0) {
        files->files[old].name[0] = '\0';
    }
    strncpy(files->files[found].name, new_name, sizeof files->files[found].name - 1);
    return 0;
}

static int files_sync_directory(void *context)
{
    return files_fail(context);
}

static inline bf_journal_io files_io(memory_files *files)
{
    return (bf_journal_io){.context = files,
                           .open = files_open,
                           .close = files_close,
                           .allocate = files_allocate,
                           .read = files_read,
                           .write = files_write,
                           .sync = files_sync,
                           .unlink = files_unlink,
                           .rename = files_rename,
                           .sync_directory = files_sync_directory};
}

/* Numbers of the segment files there are, in order; returns how many. *last: the highest number that any file has. */
static inline size_t files_numbers(const memory_files *files, uint32_t numbers[FILES_MAX], uint32_t *last)
{
    size_t count = 0;
    *last = 0;
    for (int i = 0; i < FILES_MAX; i++) {
        const char *name = files->files[i].name;
        uint32_t number = 0;
        size_t digits = 0;
        while (digits < 8 && ((name[digits] >= '0' && name[digits] <= '9') || (name[digits] >= 'a' && name[digits] <= 'f'))) {
            number = number << 4 | (uint32_t)(name[digits] <= '9' ? name[digits] - '0' : name[digits] - 'a' + 10);
            digits++;
        }
        if (digits < 8) {
            continue;
        }
        *last = number > *last ? number : *last;
        if (strcmp(name + 8, ".bfs") != 0) {
            continue;
        }
        size_t place = count++;
        for (; place > 0 && numbers[place - 1] > number; place--) {
            numbers[place] = numbers[place - 1];
        }
        numbers[place] = number;
    }
    return count;
}

#endif
