// What the larger examples share. The library needs none of it.
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <stdbool.h>

#include "hybrid.h"

// Prints what failed and why to standard error. Returns false, for `return complain(...)`.
bool complain(const char *what, hybrid_status status);

// How to reach a server. All but `url` may be NULL, `kind` 0: the probe finds it.
typedef struct example_server {
  const char *url;
  const char *ca;
  const char *model;
  const char *token;
  hybrid_server kind;
  const hybrid_cloud_network *network;
  const hybrid_cloud_trust *trust;
} example_server;

// Opens a client and probes the server. `ids`: whether ids can be exchanged. Prints what fails;
// false: there is no client.
bool connect_cloud(const example_server *server, const hybrid_model *model, hybrid_cloud **cloud,
                   bool *ids);

// The first line of a small file, for access tokens; exits the example when it cannot be read.
// Owned: free it with free().
char *read_token(const char *path);

// Seconds on a clock that only goes forward.
double seconds(void);

#endif
