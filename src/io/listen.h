// SPDX-License-Identifier: Apache-2.0
/* TCP sockets that wait for connections, by the texts that settings hold. */
#pragma once
#include "base/error.h"

/* Binds and listens, non-blocking and close-on-exec. `address` is `:8080` (every address of this
 * machine, IPv6 and IPv4), `127.0.0.1:8080` or `[::1]:8080`; port 0 chooses a free one. The port
 * that it got is in *ret_port. The caller closes *ret_fd. -1 ASYA_FATAL names the address. */
int asya_tcp_listen(int *ret_fd, unsigned *ret_port, const char *address, struct asya_error *err);
/* Whether `address` is one; opens nothing. */
int asya_tcp_address_check(const char *address, struct asya_error *err);
