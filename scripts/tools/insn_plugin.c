// A plugin for QEMU's user mode: counts the instructions of a program and writes the number to
// the file named by the argument `out`. Counts per translated block, so it costs little.
//
//   qemu-aarch64 -plugin insn_plugin.so,out=FILE PROGRAM
//
// Exact for one thread; with several, additions may get lost.
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

// Debian ships no qemu-plugin.h: these are the parts of version 1 of its interface that we use.
typedef uint64_t qemu_plugin_id_t;
struct qemu_info;
struct qemu_plugin_tb;
enum { QEMU_PLUGIN_INLINE_ADD_U64 = 0 };
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*callback)(qemu_plugin_id_t id,
                                                            struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, int operation,
                                              void *counter,
                                              uint64_t addend);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id,
                                    void (*callback)(qemu_plugin_id_t id, void *user),
                                    void *user);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

static uint64_t executed;
static char path[4096];

static void on_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &executed,
                                           qemu_plugin_tb_n_insns(block));
}

static void at_exit(qemu_plugin_id_t id, void *user) {
  (void)id, (void)user;
  FILE *out = fopen(path, "w");
  if (out) {
    fprintf(out, "%" PRIu64 "\n", executed);
    fclose(out);
  }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc,
                               char **argv) {
  (void)info;
  if (argc != 1 || strncmp(argv[0], "out=", 4) != 0) {
    fputs("insn_plugin: one argument is needed: out=FILE\n", stderr);
    return 1;
  }
  snprintf(path, sizeof path, "%s", argv[0] + 4);
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
  qemu_plugin_register_atexit_cb(id, at_exit, NULL);
  return 0;
}
