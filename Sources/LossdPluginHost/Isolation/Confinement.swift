import CLinux
import CSeccomp
import Glibc

/// What a process that runs a plugin takes from itself, step by step, before and after the library is opened:
/// privileges, limits, files, system calls (seccomp(2), landlock(7)). What is refused is refused with EPERM, so that a
/// plugin which looks for something it may not have can go on without.
enum Confinement {
  private static let stackBytes: UInt64 = 8 << 20
  /// What the program itself reserves without using it: its libraries, malloc's arenas.
  private static let reservedBytes: UInt64 = 1 << 30

  /// - Parameters:
  ///   - memoryBytes: of private memory, beyond what the process takes by itself.
  ///   - sharedBytes: of the daemon's memory that it may be shown at a time.
  static func limit(memoryBytes: UInt64, sharedBytes: UInt64, threads: Int) {
    _ = clinux_no_new_privileges()
    _ = clinux_drop_capabilities()
    clinux_set_limit(Int32(RLIMIT_STACK.rawValue), stackBytes)
    // Stacks count as private memory too.
    let own = UInt64(64 << 20) + UInt64(threads + 2) * stackBytes
    clinux_set_limit(Int32(RLIMIT_DATA.rawValue), memoryBytes + own)
    // Memory that is only read is nobody's, but the tables of its pages are.
    clinux_set_limit(
      Int32(RLIMIT_AS.rawValue), memoryBytes + own + sharedBytes + reservedBytes)
    // A core file would have clients' tensors in it.
    clinux_set_limit(Int32(RLIMIT_CORE.rawValue), 0)
    clinux_set_limit(Int32(RLIMIT_FSIZE.rawValue), 0)
    clinux_set_limit(Int32(RLIMIT_NOFILE.rawValue), 128)
  }

  /// Before a line of the plugin runs: shared libraries can be opened, threads started, nothing else.
  /// Returns what could not be done; nil: everything.
  static func beforeLoading() -> String? {
    // An old kernel has no Landlock; the filter below already keeps files from being written.
    let readable = [
      "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache",
      "/proc/self/fd",
    ]
    withCStrings(readable) { _ = clinux_confine_files($0) }
    return install(Filter.running + Filter.loading, allowsExecution: true, startsThreads: true)
  }

  /// After the plugin has been loaded and started: computing, and answering on the descriptors that are open.
  static func afterLoading() -> String? {
    // Nobody looks into it from outside, and a core file, which a program may get whatever the limit says, is not made.
    clinux_forbid_inspection()
    return install(Filter.running, allowsExecution: false, startsThreads: false)
  }

  private enum Filter {
    static let running = [
      "brk", "clock_getres", "clock_gettime", "clock_nanosleep", "close", "exit", "exit_group",
      "fstat",
      "futex", "getcpu", "getegid", "geteuid", "getgid", "getpid", "getppid", "getrandom",
      "getrusage",
      "gettid", "gettimeofday", "getuid", "lseek", "membarrier", "mremap", "munmap",
      "nanosleep",
      "poll", "ppoll", "read", "readv", "recvmsg", "restart_syscall", "rseq", "rt_sigaction",
      "rt_sigpending",
      "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sched_getaffinity", "sched_yield",
      "sendmsg",
      "set_robust_list", "sigaltstack", "sysinfo", "time", "uname", "write", "writev",
    ]
    static let loading = [
      "access", "arch_prctl", "faccessat", "faccessat2", "fcntl", "getcwd", "getdents64",
      "getpriority",
      "landlock_create_ruleset", "lstat", "newfstatat", "prctl", "pread64", "prlimit64", "readlink",
      "readlinkat",
      "sched_getparam", "sched_getscheduler", "seccomp", "set_tid_address", "setpriority", "stat",
      "statfs",
      "fstatfs", "statx",
    ]
  }

  private static let allow: UInt32 = 0x7FFF_0000
  private static func refuse(_ number: Int32) -> UInt32 { 0x0005_0000 | UInt32(number) }

  private static func install(
    _ names: [String], allowsExecution: Bool, startsThreads: Bool
  ) -> String? {
    guard let filter = seccomp_init(refuse(EPERM)) else { return "no memory for a filter" }
    defer { seccomp_release(filter) }
    // Of all threads; as a tree, since it is gone through with every call.
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1)
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2)
    // Kernels before 5.16 would slow the process down to keep it from secrets of its own, which it has none of.
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1)
    var failure: String?
    func rule(_ name: String, _ action: UInt32 = allow, _ conditions: [scmp_arg_cmp] = []) {
      let number = seccomp_syscall_resolve_name(name)
      // One that this architecture does not have.
      if number < 0 { return }
      let code = seccomp_rule_add_array(
        filter, action, number, UInt32(conditions.count), conditions)
      if code != 0 { failure = "\(name): \(String(cString: strerror(-code)))" }
    }
    func masked(_ argument: UInt32, _ mask: Int32, _ value: Int32) -> scmp_arg_cmp {
      scmp_arg_cmp(
        arg: argument, op: SCMP_CMP_MASKED_EQ, datum_a: UInt64(UInt32(bitPattern: mask)),
        datum_b: UInt64(UInt32(bitPattern: value)))
    }
    for name in names { rule(name) }
    // Private memory, and shared memory of a descriptor, which is the host's.
    let kind = MAP_SHARED | MAP_PRIVATE
    let code: [scmp_arg_cmp] = allowsExecution ? [] : [masked(2, PROT_EXEC, 0)]
    rule("mmap", allow, code + [masked(3, kind, MAP_PRIVATE)])
    rule("mmap", allow, code + [masked(3, kind | MAP_ANONYMOUS, MAP_SHARED)])
    rule("mprotect", allow, code)
    // Results' pages are the daemon's too: none is to be punched out of them.
    rule(
      "madvise", allow,
      [scmp_arg_cmp(arg: 2, op: SCMP_CMP_NE, datum_a: UInt64(MADV_REMOVE), datum_b: 0)])
    // To itself alone, as abort does.
    let me = scmp_arg_cmp(
      arg: 0, op: SCMP_CMP_EQ, datum_a: UInt64(UInt32(bitPattern: getpid())), datum_b: 0)
    rule("tgkill", allow, [me])
    if allowsExecution { for name in ["open", "openat"] { rule(name, allow, [readOnly(name)]) } }
    if startsThreads {
      // clone3 hides its flags behind a pointer; libc falls back to clone.
      rule("clone3", refuse(ENOSYS))
      rule("clone", allow, [masked(0, threadFlag, threadFlag)])
    }
    let loaded = seccomp_load(filter)
    if loaded != 0 { failure = "seccomp: \(String(cString: strerror(-loaded)))" }
    return failure
  }

  /// CLONE_THREAD of linux/sched.h.
  private static let threadFlag: Int32 = 0x0001_0000

  private static func readOnly(_ name: String) -> scmp_arg_cmp {
    scmp_arg_cmp(
      arg: name == "open" ? 1 : 2, op: SCMP_CMP_MASKED_EQ,
      datum_a: UInt64(O_ACCMODE | O_CREAT | O_TRUNC), datum_b: UInt64(O_RDONLY))
  }
}

/// Lends a NULL-terminated array of C strings.
func withCStrings<Result>(
  _ texts: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Result
) -> Result {
  let copies = texts.map { strdup($0) }
  defer { for copy in copies { free(copy) } }
  let pointers = copies.map { UnsafePointer($0) } + [nil]
  return pointers.withUnsafeBufferPointer {
    // Never empty: its last element is NULL.
    body($0.baseAddress.unsafelyUnwrapped)
  }
}
