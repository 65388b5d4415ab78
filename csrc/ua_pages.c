/* ua_pages.c: gives back the pages of this module's code that only the start of a server needed.
 *
 * Namespace 0 is made by code that runs once: 4 of the module's 6 MB. Its pages are clean copies of the file, so the system may drop them: what is
 * needed again comes back from the page cache, sixteen pages a fault. Left alone they would stay until memory runs short, and a gateway would
 * look as if it needed them. */
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ua_pages.h"

/* Called for each module of the process; `argument` is an address in ours. Not 0: no other one is to be looked at. */
static int module_release(struct dl_phdr_info *module, size_t size, void *argument) {
    (void)size;
    bool is_ours = false;
    for (unsigned i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &module->dlpi_phdr[i];
        is_ours = is_ours || (segment->p_type == PT_LOAD && (uintptr_t)argument - (module->dlpi_addr + segment->p_vaddr) < segment->p_memsz);
    }
    if (!is_ours) {
        return 0;
    }
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (unsigned i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &module->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_W) == 0) { /* what may be written is no copy of the file */
            uintptr_t begin = (module->dlpi_addr + segment->p_vaddr) & ~(page - 1);
            uintptr_t end = module->dlpi_addr + segment->p_vaddr + segment->p_memsz;
            (void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* refused: they stay */
        }
    }
    return 1;
}

void bf_ua_pages_release(void) {
    (void)dl_iterate_phdr(module_release, (void *)(uintptr_t)bf_ua_pages_release);
}
