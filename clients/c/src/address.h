/* Addresses: "unix:PATH", "tcp:HOST[:PORT]", "tcp:[IPV6][:PORT]". */
#ifndef LOSSD_ADDRESS_H
#define LOSSD_ADDRESS_H

#include "core/error.h"

struct address {
  char *path; /* Unix; else */
  char *host;
  char *port;
  char *text;
};

lossd_code address_parse(const char *text, struct address *address, lossd_error *error);
void address_free(struct address *address);
/* A connected descriptor; -1: it failed, or `interrupt` became readable. */
int address_connect(const struct address *address, uint64_t until, int interrupt, lossd_error *error);

#endif
