// libhybrid and another library written in Rust, in one program: both runtimes work.
#include <stdio.h>

#include "hybrid.h"

int other_panics(void);

int main(void) {
  hybrid_model *model = NULL;
  puts(hybrid_build_info());
  if (hybrid_model_open("/does/not/exist", NULL, &model) != HYBRID_ERR_IO) return 1;
  return other_panics() ? 0 : 1;
}
