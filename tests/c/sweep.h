// What test_sweep.c works on: the tables that scripts/tools/sweep_tables.py makes of the header,
// memory that tells when it is misused, and a good value for every kind of parameter.
#ifndef SWEEP_H
#define SWEEP_H

#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

// ---- The tables ---------------------------------------------------------------------------------

typedef enum kind {
  END,
  // Parameters and fields.
  ENUM, U32, I32, SIZE, STRING, STRUCT_IN, ARRAY, COUNT, CALLBACK, USER,
  // Parameters only.
  OBJECT, OBJECT_OUT, STRUCT_OUT, STRUCT_INIT, INIT_SIZE, STRING_OUT, SCALAR_OUT, BUFFER, CAPACITY,
  // Fields only.
  STRUCT_SIZE, RESERVED, FLOAT, DOUBLE,
} kind;

typedef struct value {
  void *at;
  size_t number;
  void (*call)(void);
} value;

typedef struct outcome {
  hybrid_status status;
  const char *text;
  int32_t number;
} outcome;

typedef struct enumeration {
  const char *name;
  const int32_t *values;
  int count;
} enumeration;

typedef struct field {
  const char *name;
  kind kind;
  const char *of;
  size_t offset, size;
} field;

typedef struct structure {
  const char *name;
  size_t size;
  bool sized;
  const field *fields;
  int field_count;
  hybrid_status (*init)(void *, size_t);
} structure;

typedef struct callback {
  const char *name;
  void (*stub)(void);
} callback;

typedef struct parameter {
  const char *name;
  kind kind;
  const char *of;
} parameter;

typedef enum gives { STATUS, TEXT, OTHER } gives;

typedef struct function {
  const char *name;
  outcome (*call)(const value *);
  const parameter *parameters;
  int count;
  gives gives;
  bool documents_null;
} function;

enum { MOST_PARAMETERS = 8 };

// What every callback does.
static int32_t called_back(void *user);

#include "sweep_tables.h"

#define COUNT_OF(table) ((int)(sizeof(table) / sizeof(table)[0]))

// The row of a table with this name; the tables are complete.
#define FIND(table, wanted)                                                            \
  for (int i_ = 0; i_ < COUNT_OF(table); i_++) {                                       \
    if (strcmp(table[i_].name, wanted) == 0) return &table[i_];                        \
  }                                                                                    \
  fprintf(stderr, "%s is in no table of the sweep\n", wanted);                         \
  exit(1)

static inline const structure *structure_of(const char *name) { FIND(STRUCTS, name); }
static inline const enumeration *enumeration_of(const char *name) { FIND(ENUMS, name); }
static inline const callback *callback_of(const char *name) { FIND(CALLBACKS, name); }

static inline bool is_structure(const char *name) { return strncmp(name, "hybrid_", 7) == 0; }

// ---- Memory -------------------------------------------------------------------------------------

// Pieces that end where the readable memory ends: one byte too far is a signal. The bytes in front
// of a piece, and those behind one that is shifted, have a pattern.
enum { PATTERN = 0xa5, MOST_PIECES = 128, MARGIN = 64 };

typedef struct piece {
  char *base, *at;
  size_t mapped, size, shift;
} piece;

typedef struct arena {
  piece pieces[MOST_PIECES];
  int count;
} arena;

// `size` bytes of the pattern, `shift` bytes off what their size aligns them to.
static inline void *guarded(arena *a, size_t size, size_t shift) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t mapped = (size + shift + MARGIN + page - 1) / page * page;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  char *base = mmap(NULL, mapped + page, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (base == MAP_FAILED || a->count == MOST_PIECES) abort();
  mprotect(base + mapped, page, PROT_NONE);
  memset(base, PATTERN, mapped);
  char *at = base + mapped - size - shift;
  a->pieces[a->count++] = (piece){base, at, mapped, size, shift};
  return at;
}

static inline void *copied(arena *a, const void *bytes, size_t size) {
  void *at = guarded(a, size, 0);
  if (size > 0) memcpy(at, bytes, size);
  return at;
}

// The piece that begins at `at`, NULL if there is none.
static inline piece *piece_at(arena *a, const void *at) {
  for (int i = a->count; i-- > 0;) {
    if (a->pieces[i].at == at) return &a->pieces[i];
  }
  return NULL;
}

// From now on a write to the piece is a signal.
static inline void freeze(arena *a, const void *at) {
  piece *p = piece_at(a, at);
  if (p != NULL) mprotect(p->base, p->mapped, PROT_READ);
}

static inline bool is_pattern(const void *at, size_t size) {
  const unsigned char *bytes = at;
  for (size_t i = 0; i < size; i++) {
    if (bytes[i] != PATTERN) return false;
  }
  return true;
}

// Whether nothing was written beside the pieces.
static inline bool margins_are_intact(const arena *a) {
  bool intact = true;
  for (int i = 0; i < a->count; i++) {
    const piece *p = &a->pieces[i];
    intact &= is_pattern(p->at - MARGIN, MARGIN) && is_pattern(p->at + p->size, p->shift);
  }
  return intact;
}

static inline void release(arena *a) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (int i = 0; i < a->count; i++) munmap(a->pieces[i].base, a->pieces[i].mapped + page);
  a->count = 0;
}

// ---- Good values --------------------------------------------------------------------------------

// What all calls share. Nothing changes it while a sweep runs.
typedef struct world {
  const char *bundle;
  hybrid_model *model;
  hybrid_cloud *cloud;
  hybrid_cancel *cancel;
  hybrid_bundle_file files[8];
  int file_count;
  uint8_t *saved;
  size_t saved_size;
} world;

// What callbacks do.
typedef enum reaction { CONTINUE, STOP, TAKE_LONG, CALL_AGAIN } reaction;

// One call.
typedef struct call {
  const world *world;
  const function *f;
  hybrid_session *session;
  value v[MOST_PARAMETERS];
  arena arena;
  reaction reaction;
  int called_back;
} call;

enum { CAPACITY_GIVEN = 1 << 18, MOST_CALLBACKS = 6 };

static const uint32_t IDS[] = {72, 73, 74};
static const char TEXT_GIVEN[] = "Hello there";

// Strings that are not just "x".
static const struct {
  const char *what, *name, *text;
} STRINGS[] = {
    {"hybrid_cloud_options", "url", "https://127.0.0.1:1"},
    {"hybrid_cloud_options", "model", "some"},
    {"hybrid_message", "role", "user"},
    {"hybrid_message", "content", "Hello."},
};

// A string that the field needs, NULL if it has a default.
static inline const char *string_for(const char *what, const char *name) {
  for (int i = 0; i < COUNT_OF(STRINGS); i++) {
    if (strcmp(STRINGS[i].what, what) == 0 && strcmp(STRINGS[i].name, name) == 0) {
      return STRINGS[i].text;
    }
  }
  return NULL;
}

// A good value of the struct at `at`, which has `s->size` bytes.
static inline void fill_structure(call *c, const structure *s, char *at) {
  memset(at, 0, s->size);
  if (s->init != NULL) REQUIRE_OK(s->init(at, s->size));
  for (int i = 0; i < s->field_count; i++) {
    const field *f = &s->fields[i];
    char *to = at + f->offset;
    if (f->kind == STRUCT_SIZE) memcpy(to, &s->size, sizeof s->size);
    const char *text = f->kind == STRING ? string_for(s->name, f->name) : NULL;
    if (text != NULL) {
      text = copied(&c->arena, text, strlen(text) + 1);
      memcpy(to, &text, sizeof text);
    }
    void *user = c;
    void (*stub)(void) = f->kind == CALLBACK ? callback_of(f->of)->stub : NULL;
    if (f->kind == CALLBACK) memcpy(to, &stub, sizeof stub);
    if (f->kind == USER) memcpy(to, &user, sizeof user);
  }
}

static inline size_t element_size(const char *of) {
  if (is_structure(of)) return structure_of(of)->size;
  return strcmp(of, "uint32_t") == 0 ? sizeof(uint32_t)
         : strcmp(of, "string") == 0 ? sizeof(char *)
                                     : 1;
}

// A good array for the parameter at `i`, and its length for the one behind.
static inline void fill_array(call *c, int i) {
  const parameter *p = &c->f->parameters[i];
  const void *bytes = IDS;
  size_t count = sizeof IDS / sizeof IDS[0], size = element_size(p->of);
  if (strcmp(p->of, "char") == 0) {
    bytes = TEXT_GIVEN;
    count = sizeof TEXT_GIVEN - 1;
  } else if (strcmp(p->of, "uint8_t") == 0) {
    bytes = c->world->saved;
    count = c->world->saved_size;
  } else if (strcmp(p->of, "hybrid_bundle_file") == 0) {
    bytes = c->world->files;
    count = (size_t)c->world->file_count;
  } else if (is_structure(p->of)) {
    bytes = NULL;
    count = 1;
  }
  c->v[i].at = guarded(&c->arena, count * size, 0);
  if (bytes != NULL) memcpy(c->v[i].at, bytes, count * size);
  if (bytes == NULL) fill_structure(c, structure_of(p->of), c->v[i].at);
  if (c->f->parameters[i + 1].kind == COUNT) c->v[i + 1].number = count;
}

// The object of this kind that the world has; for a function that frees, one of its own.
static inline void *object_for(call *c, const char *of) {
  const bool frees = strstr(c->f->name, "_free") != NULL;
  if (strcmp(of, "hybrid_session") == 0) {
    void *session = c->session;
    if (frees) c->session = NULL;
    return session;
  }
  if (!frees) {
    return strcmp(of, "hybrid_model") == 0   ? (void *)c->world->model
           : strcmp(of, "hybrid_cloud") == 0 ? (void *)c->world->cloud
                                             : (void *)c->world->cancel;
  }
  hybrid_model *model = NULL;
  hybrid_cloud *cloud = NULL;
  hybrid_cancel *cancel = NULL;
  if (strcmp(of, "hybrid_model") == 0) {
    CHECK_OK(hybrid_model_open(c->world->bundle, NULL, &model));
    return model;
  }
  if (strcmp(of, "hybrid_cloud") == 0) {
    hybrid_cloud_options options;
    REQUIRE_OK(hybrid_cloud_options_init(&options, sizeof options));
    options.url = string_for("hybrid_cloud_options", "url");
    CHECK_OK(hybrid_cloud_new(&options, &cloud));
    return cloud;
  }
  CHECK_OK(hybrid_cancel_new(&cancel));
  return cancel;
}

static inline void fill_parameter(call *c, int i) {
  const parameter *p = &c->f->parameters[i];
  value *v = &c->v[i];
  switch (p->kind) {
    case OBJECT: v->at = object_for(c, p->of); break;
    case OBJECT_OUT:
    case STRING_OUT: v->at = guarded(&c->arena, sizeof(void *), 0); break;
    case SCALAR_OUT:
      v->at = guarded(&c->arena, is_structure(p->of) ? sizeof(int32_t) : sizeof(size_t), 0);
      break;
    case STRUCT_INIT: v->at = guarded(&c->arena, structure_of(p->of)->size, 0); break;
    case INIT_SIZE: v->number = structure_of(p->of)->size; break;
    case STRUCT_OUT:
      v->at = guarded(&c->arena, structure_of(p->of)->size, 0);
      memcpy(v->at, &structure_of(p->of)->size, sizeof(size_t));
      break;
    case STRUCT_IN:
      v->at = guarded(&c->arena, structure_of(p->of)->size, 0);
      fill_structure(c, structure_of(p->of), v->at);
      break;
    case ARRAY: fill_array(c, i); break;
    case STRING: {
      const char *text = strcmp(p->name, "path") == 0 ? c->world->bundle : "x";
      v->at = copied(&c->arena, text, strlen(text) + 1);
      break;
    }
    case BUFFER: v->at = guarded(&c->arena, CAPACITY_GIVEN * element_size(p->of), 0); break;
    case CAPACITY: v->number = CAPACITY_GIVEN; break;
    case ENUM: v->number = (size_t)enumeration_of(p->of)->values[0]; break;
    case U32:
    case I32: v->number = 1; break;
    case SIZE: v->number = 2; break;
    case CALLBACK: v->call = callback_of(p->of)->stub; break;
    case USER: v->at = c; break;
    case COUNT: break;  // as its array
    default: abort();
  }
}

static inline void fill(call *c) {
  for (int i = 0; i < c->f->count; i++) fill_parameter(c, i);
}

#endif
