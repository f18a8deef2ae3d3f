/* own_address.c - see own_address.h. */
#include "proxy/own_address.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

/* An IPv4 address as IPv6 writes it, so that there is one kind to compare. */
static struct in6_addr ip_of(const struct sockaddr *a)
{
	struct in6_addr ip = { .s6_addr = { [10] = 0xff, [11] = 0xff } };

	if (a->sa_family == AF_INET6)
		return ((const struct sockaddr_in6 *)a)->sin6_addr;
	memcpy(ip.s6_addr + 12, &((const struct sockaddr_in *)a)->sin_addr, 4);
	return ip;
}

static bool is_four(const struct in6_addr *ip)
{
	return IN6_IS_ADDR_V4MAPPED(ip);
}

static bool is_any(const struct in6_addr *ip)
{
	static const uint8_t zero[4];

	return IN6_IS_ADDR_UNSPECIFIED(ip) || (is_four(ip) && !memcmp(ip->s6_addr + 12, zero, 4));
}

static bool is_loopback(const struct in6_addr *ip)
{
	return IN6_IS_ADDR_LOOPBACK(ip) || (is_four(ip) && ip->s6_addr[12] == IN_LOOPBACKNET);
}

static bool is_of_this_machine(const struct in6_addr *ip)
{
	struct ifaddrs *list;
	bool found = is_loopback(ip) || is_any(ip);

	if (found || getifaddrs(&list))
		return found;
	for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
		if (!i->ifa_addr || (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
			continue;
		struct in6_addr own = ip_of(i->ifa_addr);
		found = IN6_ARE_ADDR_EQUAL(&own, ip);
	}
	freeifaddrs(list);
	return found;
}

/* Who connects to no address in particular comes to this machine's own. */
static bool same(const struct in6_addr *to, const struct in6_addr *listen)
{
	if (is_any(listen))
		return (is_four(to) || !is_four(listen)) && is_of_this_machine(to);
	if (is_any(to))
		return is_four(to) == is_four(listen) && is_loopback(listen);
	return IN6_ARE_ADDR_EQUAL(to, listen);
}

static struct addrinfo *find(const char *host)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list;

	return getaddrinfo(*host ? host : NULL, "0", &hints, &list) ? NULL : list;
}

bool own_address(const struct config_address *to, const struct config_address *listen)
{
	struct addrinfo *tos, *listens;
	bool found = false;

	if (to->port != listen->port)
		return false;
	tos = find(to->host);
	listens = find(listen->host);
	for (const struct addrinfo *t = tos; t; t = t->ai_next)
		for (const struct addrinfo *l = listens; l; l = l->ai_next) {
			struct in6_addr a = ip_of(t->ai_addr), b = ip_of(l->ai_addr);
			found |= same(&a, &b);
		}
	if (tos)
		freeaddrinfo(tos);
	if (listens)
		freeaddrinfo(listens);
	return found;
}
