/* ua_library.c: open62541 without its namespace 0, as one unit whose allocations are counted.
 *
 * The build (csrc/builder/amalgamation.py) writes the included file; it is compiled as it came, but for two names. */
#include "ua_memory.h"

#include <sys/socket.h>

/* The library sets both options on a listening socket. SO_REUSEADDR lets a server that is started again have its port back at once.
 * SO_REUSEPORT would also let a second server share the port of a running one, and take half of its clients. */
#undef SO_REUSEPORT
#define SO_REUSEPORT SO_REUSEADDR

#include "open62541.c"
