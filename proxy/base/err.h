/* err.h - one enum for everything that can go wrong on a request's way; the table is err.def. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#define must_use __attribute__((warn_unused_result))

enum err {
#define ERR(name, status, text) ERR_##name,
#include "proxy/base/err.def"
#undef ERR
	ERR_COUNT
};

struct err_info {
	const char *name;   /* as in err.def */
	int status;         /* HTTP */
	const char *text;   /* one sentence for the client and the log */
};
extern const struct err_info err_info[ERR_COUNT];

#endif
