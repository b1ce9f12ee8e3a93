/*
 * Preloaded into redis-server (LD_PRELOAD): its wall clock is the number in the file SIM_CLOCK, 8 bytes, microseconds since the epoch, little
 * endian. So TIME, TTLs, locks and ids of streams follow the simulation. The monotonic clock stays real: Redis only measures durations with it.
 *
 * The server dies with the process that started it, also where that process is killed.
 *
 * Redis also draws the seed of its hash tables from /dev/urandom. A constant seed keeps the order of HGETALL and SMEMBERS the same in every run.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t *shared_clock;

static uint64_t real_microseconds(void) {
  struct timespec now;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static uint64_t microseconds(void) {
  if (!shared_clock) {
    const char *path = getenv("SIM_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(0, sizeof(uint64_t), PROT_READ, MAP_SHARED, file, 0);
    if (file >= 0) close(file);
    if (mapped == MAP_FAILED) return real_microseconds();
    shared_clock = mapped;
  }
  return *shared_clock;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  uint64_t time = microseconds();
  now->tv_sec = time / 1000000u;
  now->tv_usec = time % 1000000u;
  return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) return syscall(SYS_clock_gettime, clock, now);
  uint64_t time = microseconds();
  now->tv_sec = time / 1000000u;
  now->tv_nsec = time % 1000000u * 1000u;
  return 0;
}

time_t time(time_t *out) {
  time_t seconds = microseconds() / 1000000u;
  if (out) *out = seconds;
  return seconds;
}

__attribute__((constructor)) static void die_with_parent(void) { prctl(PR_SET_PDEATHSIG, SIGKILL); }

typedef FILE *(*open_file)(const char *, const char *);

static FILE *open_without_chance(const char *name, const char *path, const char *mode) {
  open_file next = (open_file)dlsym(RTLD_NEXT, name);
  return next(strcmp(path, "/dev/urandom") == 0 ? "/dev/zero" : path, mode);
}

#undef fopen
#undef fopen64
FILE *fopen(const char *path, const char *mode) { return open_without_chance("fopen", path, mode); }
FILE *fopen64(const char *path, const char *mode) { return open_without_chance("fopen64", path, mode); }
