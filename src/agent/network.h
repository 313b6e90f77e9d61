/* network.h - a fixed address for the first network interface */
#pragma once

/* `text` is ADDRESS/PREFIX[,GATEWAY[,DNS]] (IPv4). The interface is waited for, brought up and
 * given the address and a default route; DNS goes into /etc/resolv.conf. What fails is told on the
 * console. */
void network_configure(const char *text);

/* Where there is an interface, waits for a default route, but not for ever. */
void network_wait(void);
