/* own_address.h - would a connection to this address come to where this process listens? Names are looked up, but only where the
 * ports are the same: at start and at a check of the configuration. */
#ifndef PROXY_OWN_ADDRESS_H
#define PROXY_OWN_ADDRESS_H

#include "proxy/config.h"

bool own_address(const struct config_address *to, const struct config_address *listen);

#endif
