// What test_sweep.c gives the library in place of a good value, and what must come of it.
#ifndef SWEEP_VARIANTS_H
#define SWEEP_VARIANTS_H

#include <float.h>
#include <math.h>

#include "sweep.h"

typedef enum expectation {
  ANYTHING,      // any status but a bug's
  REFUSED,       // an error
  NULL_REFUSED,  // HYBRID_ERR_NULL_ARGUMENT that names it, unless the header says that it may be
  INVALID,       // HYBRID_ERR_INVALID_ARGUMENT
  NOT_UTF8,      // HYBRID_ERR_INVALID_UTF8
  NO_NAME,       // a function that gives texts says that it knows none
} expectation;

typedef struct want {
  expectation expectation;
  const char *part;   // of the error's text
  const char *label;  // for a failed check
} want;

#define WANT(expectation, part, label) ((*w = (want){expectation, part, label}), true)

// ---- Numbers ------------------------------------------------------------------------------------

static const double FLOATS[] = {-1, 0, -0.0, 0.5, 1, 2, 1e-40, FLT_MAX, -FLT_MAX};
static const size_t NUMBERS[] = {0,         1,          2,            7,       64, 1000,
                                 INT32_MAX, UINT32_MAX, SIZE_MAX / 2, SIZE_MAX};
static const int32_t NO_VALUES[] = {-1, 1000, INT32_MAX, INT32_MIN};

// The n-th number that an enum gets.
static inline bool vary_enum(const enumeration *e, int n, bool gives_text, int32_t *to, want *w) {
  if (n < e->count) {
    *to = e->values[n];
    return WANT(ANYTHING, NULL, "a value of the enum");
  }
  n -= e->count;
  if (n >= COUNT_OF(NO_VALUES)) return false;
  *to = NO_VALUES[n];
  // Codes of errors are negative.
  for (int i = 0; i < e->count; i++) {
    if (e->values[i] == *to) return WANT(ANYTHING, NULL, "a value of the enum");
  }
  static char number[16];
  snprintf(number, sizeof number, " is %ld", (long)*to);
  if (gives_text) return WANT(NO_NAME, "unknown", "no value of the enum");
  return WANT(INVALID, number, "no value of the enum");
}

// ---- Structs ------------------------------------------------------------------------------------

static inline bool vary_pointer_field(call *c, const field *f, int n, void **to, want *w) {
  static char pointed[256];
  switch (n) {
    case 0: *to = NULL; return WANT(ANYTHING, NULL, "NULL in a field");
    case 1:
      memset(pointed, 0, sizeof pointed);
      *to = pointed + 1;
      if (f->kind == STRUCT_IN || (f->kind == ARRAY && element_size(f->of) > 1)) {
        return WANT(REFUSED, NULL, "a misaligned pointer in a field");
      }
      return WANT(ANYTHING, NULL, "\"\" in a field");
    case 2:
      if (f->kind != STRING) return false;
      *to = copied(&c->arena, "\xff", 2);
      return WANT(NOT_UTF8, NULL, "no UTF-8 in a field");
    case 3: {
      char *text = guarded(&c->arena, 100001, 0);
      memset(text, 'a', 100000);
      text[100000] = '\0';
      *to = text;
      return WANT(ANYTHING, NULL, "a long text in a field");
    }
    default: return false;
  }
}

// The n-th value of one field of a struct that goes in. A count is varied without an array, since
// one that is longer than its array is the caller's mistake.
static inline bool vary_field(call *c, const structure *s, const field *f, int n, char *at,
                              want *w) {
  char *to = at + f->offset;
  switch (f->kind) {
    case STRING:
    case STRUCT_IN:
    case ARRAY:
    case CALLBACK: {
      void *pointer = NULL;
      if (f->kind == CALLBACK && n > 0) return false;
      if (!vary_pointer_field(c, f, n, &pointer, w)) return false;
      memcpy(to, &pointer, sizeof pointer);
      // An array of one element is looked at.
      const size_t one = 1;
      const bool has_count = f->kind == ARRAY && f + 1 < s->fields + s->field_count;
      if (has_count) memcpy(at + f[1].offset, &one, sizeof one);
      if (has_count && pointer == NULL) return WANT(NULL_REFUSED, f->name, "a count without array");
      return true;
    }
    case COUNT: {
      static char some[64];
      const size_t huge = SIZE_MAX, none = 0;
      void *pointer = n == 0 ? NULL : some;
      if (n > 2) return false;
      memcpy(at + f[-1].offset, &pointer, sizeof pointer);
      memcpy(to, n == 2 ? &none : &huge, sizeof huge);
      if (n == 0) return WANT(NULL_REFUSED, NULL, "a count without an array");
      return n == 1 ? WANT(INVALID, "impossible", "an impossible count")
                    : WANT(ANYTHING, NULL, "an array of nothing");
    }
    case RESERVED: {
      const int32_t set[] = {1, -1, 5};
      if (n >= COUNT_OF(set)) return false;
      memcpy(to, &set[n], sizeof set[n]);
      return WANT(INVALID, "reserved", "a reserved field");
    }
    case ENUM: {
      int32_t number = 0;
      if (!vary_enum(enumeration_of(f->of), n, false, &number, w)) return false;
      memcpy(to, &number, sizeof number);
      return true;
    }
    case FLOAT:
    case DOUBLE: {
      const bool wild = n >= COUNT_OF(FLOATS);
      const double infinite[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
      if (wild && n - COUNT_OF(FLOATS) >= COUNT_OF(infinite)) return false;
      const double number = wild ? infinite[n - COUNT_OF(FLOATS)] : FLOATS[n];
      const float single = (float)number;
      memcpy(to, f->kind == FLOAT ? (const void *)&single : (const void *)&number, f->size);
      if (n == COUNT_OF(FLOATS)) return WANT(REFUSED, NULL, "NaN in a field");
      return WANT(ANYTHING, NULL, "an odd number in a field");
    }
    case U32:
    case I32:
    case SIZE:
      if (n >= COUNT_OF(NUMBERS)) return false;
      memcpy(to, &NUMBERS[n], f->size);
      return WANT(ANYTHING, NULL, "an odd number in a field");
    case USER:
    case STRUCT_SIZE: return false;
    default: abort();
  }
}

// The n-th struct that does not say its size right, in memory of its own: `in` is one that goes in.
static inline bool vary_size(call *c, const structure *s, int n, bool in, void **at, want *w) {
  const size_t size = s->size;
  const size_t wrong[] = {0, 1, 4, sizeof(void *), size - 1, size + 1, 4104, SIZE_MAX};
  if (n < COUNT_OF(wrong)) {
    memcpy(*at, &wrong[n], sizeof wrong[n]);
    return WANT(INVALID, "struct_size", "a wrong struct_size");
  }
  n -= COUNT_OF(wrong);
  if (n > 2) return false;
  // One as an older program has it, if there was one, and two of later programs.
  const size_t other = n == 0 ? size - 8 : size + 8;
  char *grown = guarded(&c->arena, other, 0);
  memcpy(grown, *at, other < size ? other : size);
  memcpy(grown, &other, sizeof other);
  if (n == 1) memset(grown + size, 0, 8);
  *at = grown;
  if (n == 2 && in) return WANT(INVALID, "newer", "a field of a later release");
  return WANT(ANYTHING, NULL, "a struct of another release");
}

static inline bool vary_structure(call *c, const structure *s, int n, void **at, want *w) {
  if (s->sized) {
    const int sizes = 11;
    if (n < sizes) return vary_size(c, s, n, true, at, w);
    n -= sizes;
  }
  for (int i = 0; i < s->field_count; i++) {
    int k = 0;
    // Counting needs a struct that may be spoilt.
    char *scratch = copied(&c->arena, *at, s->size);
    while (k <= n && vary_field(c, s, &s->fields[i], k, scratch, w)) k++;
    if (k > n) {
      if (vary_field(c, s, &s->fields[i], n, *at, w)) return true;
    }
    n -= k;
  }
  return false;
}

// ---- Parameters ---------------------------------------------------------------------------------

static inline bool vary_text(call *c, int i, int n, want *w) {
  static const char *const bad[] = {"\xff", "a\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80"};
  if (n < COUNT_OF(bad)) {
    c->v[i].at = copied(&c->arena, bad[n], strlen(bad[n]));
    c->v[i + 1].number = strlen(bad[n]);
    return WANT(NOT_UTF8, NULL, "no UTF-8");
  }
  const size_t size = n == COUNT_OF(bad) ? ((size_t)1 << 20) + 1 : 3;
  if (n - COUNT_OF(bad) > 1) return false;
  c->v[i].at = guarded(&c->arena, size, 0);
  memset(c->v[i].at, size > 3 ? 'a' : '\0', size);
  c->v[i + 1].number = size;
  return size > 3 ? WANT(INVALID, "1048576", "a text that is too long")
                  : WANT(ANYTHING, NULL, "a text of NUL");
}

static inline bool vary_array(call *c, int i, int n, want *w) {
  const parameter *p = &c->f->parameters[i];
  value *v = &c->v[i], *count = &c->v[i + 1];
  switch (n) {
    case 0: count->number = 0; return WANT(ANYTHING, NULL, "an array of nothing");
    case 1:
      v->at = NULL;
      count->number = 0;
      return WANT(ANYTHING, NULL, "NULL of nothing");
    case 2: count->number = SIZE_MAX; return WANT(INVALID, "impossible", "an impossible count");
    default: n -= 3;
  }
  if (strcmp(p->of, "char") == 0) return vary_text(c, i, n, w);
  if (is_structure(p->of)) {
    // The first element is varied.
    const structure *s = structure_of(p->of);
    count->number = 1;
    void *one = copied(&c->arena, v->at, s->size);
    v->at = one;
    return vary_structure(c, s, n, &v->at, w);
  }
  // Every byte of ids or of saved bytes is odd, or the end is missing.
  if (n > 1) return false;
  const size_t bytes = count->number * element_size(p->of);
  char *other = copied(&c->arena, v->at, bytes);
  v->at = other;
  if (n == 0) memset(other, 0xff, bytes);
  if (n == 1) count->number -= 1;
  if (n == 1) v->at = copied(&c->arena, other, bytes - element_size(p->of));
  return n == 0 ? WANT(REFUSED, NULL, "bytes of nothing") : WANT(ANYTHING, NULL, "a cut end");
}

static inline bool vary_string(call *c, int i, int n, want *w) {
  if (n > 2) return false;
  char *text = guarded(&c->arena, n == 2 ? 100001 : 2, 0);
  memset(text, n == 1 ? 0xff : 'a', n == 2 ? 100000 : 1);
  text[n == 2 ? 100000 : 1] = '\0';
  if (n == 0) text++;
  c->v[i].at = text;
  return n == 1 ? WANT(NOT_UTF8, NULL, "no UTF-8") : WANT(ANYTHING, NULL, "another string");
}

static inline bool vary_init_size(call *c, int i, int n, want *w) {
  const size_t size = c->v[i].number;
  const size_t wrong[] = {0, 1, 4, sizeof(void *), size - 1, size + 1, 4104, SIZE_MAX};
  if (n > COUNT_OF(wrong)) return false;
  c->v[i].number = n == COUNT_OF(wrong) ? size + 8 : wrong[n];
  if (n < COUNT_OF(wrong)) return WANT(INVALID, "struct_size", "a wrong struct_size");
  c->v[i - 1].at = guarded(&c->arena, size + 8, 0);
  return WANT(ANYTHING, NULL, "a struct of a later release");
}

static inline size_t alignment(const parameter *p) {
  switch (p->kind) {
    case STRING: return 1;
    case SCALAR_OUT: return is_structure(p->of) ? 4 : 8;
    case ARRAY:
    case BUFFER: return is_structure(p->of) || strcmp(p->of, "uint32_t") == 0 ? 4 : 1;
    default: return 8;
  }
}

// A pointer that lies one byte off; an object's needs no memory, since it is looked at first.
static inline void misalign(call *c, int i) {
  value *v = &c->v[i];
  const piece *good = piece_at(&c->arena, v->at);
  if (good == NULL) {
    v->at = (char *)v->at + 1;
  } else {
    const char *from = good->at;
    const size_t size = good->size;
    v->at = guarded(&c->arena, size, 1);
    memcpy(v->at, from, size);
  }
}

static inline bool vary_pointer(call *c, int i, int n, want *w) {
  const parameter *p = &c->f->parameters[i];
  if (n == 0) {
    c->v[i].at = NULL;
    return WANT(NULL_REFUSED, p->name, "NULL");
  }
  if (alignment(p) > 1) {
    if (n == 1) {
      misalign(c, i);
      return WANT(INVALID, "not aligned", "a misaligned pointer");
    }
    n--;
  }
  n--;
  switch (p->kind) {
    case STRING: return vary_string(c, i, n, w);
    case ARRAY: return vary_array(c, i, n, w);
    case STRUCT_IN: return vary_structure(c, structure_of(p->of), n, &c->v[i].at, w);
    case STRUCT_OUT: return vary_size(c, structure_of(p->of), n, false, &c->v[i].at, w);
    case BUFFER:
      if (n > 2) return false;
      c->v[i].at = n == 0 ? NULL : guarded(&c->arena, element_size(p->of) * (size_t)n, 0);
      c->v[i + 1].number = (size_t)n;
      return WANT(ANYTHING, NULL, "a small buffer");
    default: return false;
  }
}

// Gives the parameter at `i` its n-th value; false if there are no more. The others are good.
static inline bool vary(call *c, int i, int n, want *w) {
  const parameter *p = &c->f->parameters[i];
  value *v = &c->v[i];
  switch (p->kind) {
    case COUNT:
    case CAPACITY: return false;  // with their arrays
    case INIT_SIZE: return vary_init_size(c, i, n, w);
    case ENUM: {
      int32_t number = 0;
      const bool gives_text = c->f->gives == TEXT;
      if (!vary_enum(enumeration_of(p->of), n, gives_text, &number, w)) return false;
      v->number = (size_t)number;
      return true;
    }
    case U32:
    case I32:
    case SIZE:
      if (n >= COUNT_OF(NUMBERS)) return false;
      v->number = NUMBERS[n];
      return WANT(ANYTHING, NULL, "an odd number");
    case CALLBACK:
      if (n == 0) v->call = NULL;
      if (n > 0) c->reaction = (reaction)n;
      return n <= (int)CALL_AGAIN && WANT(ANYTHING, NULL, "another callback");
    case USER: return n == 0 && ((v->at = NULL), WANT(ANYTHING, NULL, "no user"));
    default: return vary_pointer(c, i, n, w);
  }
}

#endif
