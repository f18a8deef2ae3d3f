/* err.c - the error table; see err.h. */
#include "proxy/base/err.h"

const struct err_info err_info[ERR_COUNT] = {
#define ERR(name, status, text) [ERR_##name] = { #name, status, text },
#include "proxy/base/err.def"
#undef ERR
};
