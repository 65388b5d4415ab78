/* journal_cursor.c: the cursor's file: two slots, of which only the one that is not durable is ever written.
 *
 * The idea: whatever a power cut does to a slot that is being written, the other one is whole and durable. They change places when a sync has
 * succeeded. Calls give 0 or the negative errno.
 */
#include <assert.h>
#include <errno.h>

#include "journal.h"

int bf_journal_write_all(const bf_journal_io *io, int fd, uint64_t at, const uint8_t *data, size_t length)
{
    size_t done = 0;
    while (done < length) { /* each turn writes a byte at least */
        int64_t taken = io->write(io->context, fd, at + done, data + done, length - done);
        if (taken <= 0) {
            return taken < 0 ? (int)taken : -EIO;
        }
        assert((size_t)taken <= length - done);
        done += (size_t)taken;
    }
    return 0;
}

static int file_open(bf_cursor_file *file)
{
    const bf_journal_io *io = file->io;
    int fd = io->open(io->context, BF_CURSOR_NAME, 0);
    if (fd == -ENOENT) {
        fd = io->open(io->context, BF_CURSOR_NAME, 1);
        int refused = fd >= 0 ? io->allocate(io->context, fd, BF_CURSOR_FILE_BYTES) : 0;
        if (refused < 0 && refused != -EOPNOTSUPP) {
            (void)io->close(io->context, fd);
            (void)io->unlink(io->context, BF_CURSOR_NAME);
            return refused;
        }
        file->is_new = true;
    }
    if (fd < 0) {
        return fd;
    }
    file->fd = fd;
    return 0;
}

int bf_cursor_file_save(bf_cursor_file *file, const bf_cursor *cursor)
{
    file->is_saved = false;
    if (file->fd < 0) {
        int refused = file_open(file);
        if (refused < 0) {
            return refused;
        }
    }
    assert(file->durable_slot == 0 || file->durable_slot == 1);
    size_t length = bf_cursor_pack(file->slot, cursor);
    file->is_synced = false;
    int refused = bf_journal_write_all(file->io, file->fd, file->durable_slot == 0 ? BF_SLOT_AT : 0, file->slot, length);
    if (refused < 0) {
        return refused;
    }
    file->is_saved = true;
    file->saved_base = cursor->base;
    return 0;
}

int bf_cursor_file_sync(bf_cursor_file *file)
{
    if (file->is_synced) {
        return 0;
    }
    int refused = file->io->sync(file->io->context, file->fd);
    if (refused >= 0 && file->is_new) {
        refused = file->io->sync_directory(file->io->context);
    }
    if (refused < 0) {
        bf_cursor_file_close(file);
        file->is_saved = false; /* it must be written again before a sync means anything */
        return refused;
    }
    file->is_new = false;
    file->durable_slot = 1 - file->durable_slot;
    file->durable_base = file->saved_base;
    file->is_synced = true;
    return 0;
}

void bf_cursor_file_close(bf_cursor_file *file)
{
    if (file->fd >= 0) {
        (void)file->io->close(file->io->context, file->fd);
    }
    file->fd = -1;
}
