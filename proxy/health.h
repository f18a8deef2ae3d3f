/* health.h - `ollacache --health`: asks a running instance whether it serves. Returns an exit code, 0 or 1. */
#ifndef PROXY_HEALTH_H
#define PROXY_HEALTH_H

#include "proxy/config.h"

int health_ask(const struct config *c);

#endif
