/* Says to valgrind's callgrind where a measured section begins and ends; does nothing without it.

   build: cc -O2 -shared -fPIC mark.c -o mark.so       (needs valgrind's headers) */
#include <valgrind/callgrind.h>

void mark_begin(void) {
  CALLGRIND_START_INSTRUMENTATION;
  CALLGRIND_ZERO_STATS;
}

void mark_end(const char *name) {
  CALLGRIND_DUMP_STATS_AT(name);
  CALLGRIND_STOP_INSTRUMENTATION;
}
