/* ua_namespace0.c: the standard's address space, as open62541 generates it: a minute to compile, so it is a unit of its own.
 *
 * The build (csrc/builder/amalgamation.py) writes the included file; it is compiled as it came, but for the names of the allocator. */
#include "ua_memory.h"

#include "namespace0.c"
