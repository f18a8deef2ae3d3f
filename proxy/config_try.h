/* config_try.h - what is only found out by doing with a configuration what a start does: whether its words can be read and
 * its addresses are known. A start and -t try the same, so that nothing is good for one and not for the other.
 *
 * Threads  the main thread. */
#ifndef PROXY_CONFIG_TRY_H
#define PROXY_CONFIG_TRY_H

#include "proxy/config.h"

/* What is cheap: languages, aliases, the store's directory. Returns the number of mistakes, each a line in complaints. */
int config_try(const struct config *c, FILE *complaints);

/* The rest, for -t: loads the dictionaries (part of a second) and resolves the names to listen on. What would be left out
 * at a start without ending it is a line in notes. */
int config_try_all(const struct config *c, FILE *complaints, FILE *notes);

#endif
