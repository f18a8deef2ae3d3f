/* json_alike.h - jansson as the measure of our own reading of JSON. */
#ifndef TESTS_JSON_ALIKE_H
#define TESTS_JSON_ALIKE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Two of jansson's trees, whichever way their numbers are written. */
static inline bool json_alike(const json_t *a, const json_t *b)
{
	const char *key;
	json_t *value;
	size_t i;

	if (!a || !b)
		return false;
	if (json_is_number(a) && json_is_number(b))
		return json_is_integer(a) && json_is_integer(b) ? json_integer_value(a) == json_integer_value(b)
		                                                : json_number_value(a) == json_number_value(b);
	if (json_typeof(a) != json_typeof(b) || json_object_size(a) != json_object_size(b) || json_array_size(a) != json_array_size(b))
		return false;
	json_object_foreach((json_t *)(uintptr_t)a, key, value)
		if (!json_object_get(b, key) || !json_alike(value, json_object_get(b, key)))
			return false;
	json_array_foreach(a, i, value)
		if (!json_alike(value, json_array_get(b, i)))
			return false;
	return !json_is_string(a) || json_equal(a, b);
}

#endif
