#define _POSIX_C_SOURCE 200809L

#include "example.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

bool complain(const char *what, hybrid_status status) {
  char text[512];
  hybrid_last_error(text, sizeof text, NULL);
  fprintf(stderr, "%s: %s (%s)\n", what, text, hybrid_status_name(status));
  return false;
}

bool connect_cloud(const example_server *server, const hybrid_model *model, hybrid_cloud **cloud,
                   bool *ids) {
  hybrid_cloud_options options;
  hybrid_cloud_options_init(&options, sizeof options);
  options.url = server->url;
  options.ca_file = server->ca;
  options.model = server->model;
  options.token = server->token;
  options.server = server->kind;
  options.network = server->network;
  options.trust = server->trust;
  hybrid_status status = hybrid_cloud_new(&options, cloud);
  if (status != HYBRID_OK) return complain("cloud", status);

  hybrid_probe probe = {.struct_size = sizeof probe};
  status = hybrid_cloud_probe(*cloud, model, NULL, &probe);
  *ids = probe.exchange == HYBRID_EXCHANGE_IDS;
  // Not fatal: the device works on, and consults begin once the cloud can be reached.
  if (status != HYBRID_OK) complain("the probe failed", status);
  return true;
}

char *read_token(const char *path) {
  char line[4096];
  FILE *file = fopen(path, "r");
  if (file == NULL || fgets(line, sizeof line, file) == NULL) {
    perror(path);
    exit(2);
  }
  fclose(file);
  line[strcspn(line, "\r\n")] = '\0';
  char *copy = malloc(strlen(line) + 1);
  if (copy == NULL) exit(2);
  return strcpy(copy, line);
}

double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
