/* Tells the thread sanitizer of Swift's Mutex. Its code for a lock that somebody holds is in a library that is built
   without the sanitizer and asks the kernel to hand the lock over (FUTEX_LOCK_PI, FUTEX_UNLOCK_PI): the sanitizer does not
   see who waited for whom, and takes what the two did with the lock for a race. Linked into the program, these functions are
   called in place of the library's. A lock that is free is taken and given back by instrumented code. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *
/* Synchronization._MutexHandle._lockSlow(UInt32), _unlockSlow() */
#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

typedef SWIFT void lock_function(uint32_t thread, SELF mutex);
typedef SWIFT void unlock_function(SELF mutex);

static lock_function *swift_lock;
static unlock_function *swift_unlock;

__attribute__((constructor)) static void find(void) {
  swift_lock = (lock_function *)dlsym(RTLD_NEXT, LOCK);
  swift_unlock = (unlock_function *)dlsym(RTLD_NEXT, UNLOCK);
  if (!swift_lock || !swift_unlock) abort();
}

SWIFT void lock(uint32_t thread, SELF mutex) __asm__(LOCK);
SWIFT void lock(uint32_t thread, SELF mutex) {
  swift_lock(thread, mutex);
  __tsan_acquire(mutex);
}

SWIFT void unlock(SELF mutex) __asm__(UNLOCK);
SWIFT void unlock(SELF mutex) {
  __tsan_release(mutex);
  swift_unlock(mutex);
}
