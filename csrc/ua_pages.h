/* ua_pages.h: the pages of this module's own code. */
#ifndef BIFROST_UA_PAGES_H
#define BIFROST_UA_PAGES_H

/* Has the system drop the pages of code and constants that it can read from the file again. Any thread, at any time. */
void bf_ua_pages_release(void);

#endif
