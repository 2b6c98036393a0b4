// SPDX-License-Identifier: Apache-2.0
#include "io/listen.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 128 };

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static int parse_port(in_port_t *ret, const char *text)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || port > 65535)
		return -1;
	*ret = htons((in_port_t)port);
	return 0;
}

/* An empty host is every address. */
static int parse_host(union address *ret, const char *text, size_t n, in_port_t port)
{
	char host[INET6_ADDRSTRLEN + 2];

	if (n >= sizeof(host))
		return -1;
	memcpy(host, text, n);
	host[n] = '\0';
	*ret = (union address){0};
	if (!n || host[0] == '[') {
		ret->v6.sin6_family = AF_INET6;
		ret->v6.sin6_port = port;
		if (!n)
			return 0;
		if (host[n - 1] != ']')
			return -1;
		host[n - 1] = '\0';
		return inet_pton(AF_INET6, host + 1, &ret->v6.sin6_addr) == 1 ? 0 : -1;
	}
	ret->v4.sin_family = AF_INET;
	ret->v4.sin_port = port;
	return inet_pton(AF_INET, host, &ret->v4.sin_addr) == 1 ? 0 : -1;
}

static int parse_address(union address *ret, const char *text)
{
	const char *colon = strrchr(text, ':');
	in_port_t port;

	if (!colon || parse_port(&port, colon + 1))
		return -1;
	return parse_host(ret, text, (size_t)(colon - text), port);
}

/* The socket, or -errno. */
static int bind_and_listen(const union address *a, int only_v6)
{
	bool v6 = a->any.sa_family == AF_INET6;
	socklen_t n = v6 ? sizeof(a->v6) : sizeof(a->v4);
	int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1, errnum;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	    (!v6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof(only_v6)) == 0) &&
	    bind(fd, &a->any, n) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	errnum = errno;
	close(fd);
	return -errnum;
}

static unsigned port_of(int fd)
{
	union address a = {0};
	socklen_t n = sizeof(a);

	if (getsockname(fd, &a.any, &n))
		return 0;
	return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

static int not_an_address(const char *address, struct asya_error *err)
{
	return asya_error_set(err, ASYA_FATAL,
			      "'%.100s' is not an address to listen on; right is :8080, "
			      "127.0.0.1:8080 or [::1]:8080",
			      address);
}

int asya_tcp_address_check(const char *address, struct asya_error *err)
{
	union address a;

	return parse_address(&a, address) ? not_an_address(address, err) : 0;
}

int asya_tcp_listen(int *ret_fd, unsigned *ret_port, const char *address, struct asya_error *err)
{
	bool everywhere = address[0] == ':';
	union address a;
	int fd;

	if (parse_address(&a, address))
		return not_an_address(address, err);
	fd = bind_and_listen(&a, !everywhere);
	if (everywhere && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)) {
		in_port_t port = a.v6.sin6_port;

		parse_host(&a, "0.0.0.0", strlen("0.0.0.0"), port);
		fd = bind_and_listen(&a, 0);
	}
	if (fd == -EADDRINUSE)
		return asya_error_set(err, ASYA_FATAL,
				      "cannot listen on '%s': the port is taken by another socket; "
				      "choose another one, or 0 for any free one",
				      address);
	if (fd < 0)
		return asya_error_errno(err, ASYA_FATAL, -fd, "cannot listen on '%s'", address);
	*ret_fd = fd;
	*ret_port = port_of(fd);
	return 0;
}
