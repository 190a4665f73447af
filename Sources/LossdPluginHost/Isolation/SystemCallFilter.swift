import CSeccomp
import Glibc

/// The system calls that a process which runs a plugin may make (seccomp(2)), and with which
/// arguments. Two filters, one on top of the other: a constructor that never returns stays below
/// the first alone, so the first lets nothing reach out of the process that the second does not,
/// but for libraries, which can be opened and mapped, and threads, which can be started.
///
/// An argument is compared in the bits that the kernel looks at: 32 where the kernel takes an int,
/// whatever the upper half says; all 64 of a pointer.
struct SystemCallFilter {
  enum Stage {
    case loading, running
  }

  private let filter: scmp_filter_ctx
  private let stage: Stage
  private var failure: String?

  /// For all threads of this process, for good. Returns what could not be done; nil: everything.
  static func install(_ stage: Stage) -> String? {
    guard let context = seccomp_init(refuse(EPERM)) else { return "no memory for a filter" }
    defer { seccomp_release(context) }
    var filter = SystemCallFilter(context, stage)
    filter.addRules()
    if let failure = filter.failure { return failure }
    let code = seccomp_load(context)
    return code == 0 ? nil : "seccomp: \(text(code))"
  }

  private init(_ filter: scmp_filter_ctx, _ stage: Stage) {
    self.filter = filter
    self.stage = stage
    // Of all threads; as a tree, since it is gone through with every call.
    set(SCMP_FLTATR_CTL_TSYNC, 1)
    set(SCMP_FLTATR_CTL_OPTIMIZE, 2)
    // Kernels before 5.16 would slow the process down to keep it from secrets of its own, which it
    // has none of.
    set(SCMP_FLTATR_CTL_SSB, 1)
    // A call by the numbers of another architecture (int 0x80) ends the process, not a thread that
    // others wait for.
    set(SCMP_FLTATR_ACT_BADARCH, SystemCallFilter.kill)
  }

  // MARK: - Rules

  private mutating func addRules() {
    for name in SystemCallFilter.computing { rule(name) }
    addMemory()
    // To itself alone, as abort does.
    rule("tgkill", [word(0, UInt32(bitPattern: getpid()))])
    if stage == .loading { addLoading() }
  }

  private mutating func addMemory() {
    let kind = MAP_SHARED | MAP_PRIVATE
    let (anonymous, huge) = (MAP_ANONYMOUS, SystemCallFilter.hugePages)
    // Private memory, and shared memory of a descriptor, which is the host's. Huge pages are
    // others' too.
    rule("mmap", [bits(2, PROT_EXEC, 0), bits(3, kind | huge, MAP_PRIVATE)])
    rule("mmap", [bits(2, PROT_EXEC, 0), bits(3, kind | anonymous | huge, MAP_SHARED)])
    // No memory becomes executable that could have been written: code is mapped from files.
    rule("mprotect", [bits(2, PROT_EXEC, 0)])
    if stage == .loading {
      rule(
        "mmap",
        [
          bits(2, PROT_EXEC | PROT_WRITE, PROT_EXEC),
          bits(3, kind | anonymous | huge, MAP_PRIVATE),
        ])
    }
    // Results' pages are the daemon's too: none is to be punched out of them or paged out, so
    // MADV_REMOVE and MADV_PAGEOUT, and what is not known yet, are not among these.
    for advice in SystemCallFilter.advices { rule("madvise", [word(2, advice)]) }
  }

  private mutating func addLoading() {
    for name in SystemCallFilter.looking { rule(name) }
    let writing = O_ACCMODE | O_CREAT | O_TRUNC | O_ASYNC
    rule("open", [bits(1, writing, O_RDONLY)])
    rule("openat", [bits(2, writing, O_RDONLY)])
    // Neither F_SETOWN nor F_SETSIG nor O_ASYNC by F_SETFL, which have the kernel send signals to
    // others; no leases.
    for command in [F_DUPFD, F_GETFD, F_SETFD, F_GETFL, SystemCallFilter.duplicate] {
      rule("fcntl", [word(1, UInt32(bitPattern: command))])
    }
    // Its own limits are read.
    rule("prlimit64", [word(0, 0), null(2)])
    // The calling thread's niceness, for workers: not of a group, nor of all processes of the user.
    rule("setpriority", [word(0, 0), word(1, 0)])
    rule("getpriority", [word(0, 0), word(1, 0)])
    for option in SystemCallFilter.processOptions { rule("prctl", [word(0, option)]) }
    rule("prctl", [word(0, SystemCallFilter.dumpable), null(1)])
    // The second filter.
    rule("seccomp", [word(0, 1), bits(1, SystemCallFilter.listener, 0)])
    rule("seccomp", [word(0, 2)])
    // clone3 hides its flags behind a pointer; libc falls back to clone. Threads of this process,
    // in no other namespace.
    rule("clone3", [], SystemCallFilter.refuse(ENOSYS))
    rule(
      "clone",
      [bits(0, SystemCallFilter.thread | SystemCallFilter.elsewhere, SystemCallFilter.thread)])
  }

  // MARK: - Names and numbers

  private static let computing = [
    "brk", "clock_getres", "clock_gettime", "clock_nanosleep", "close", "exit", "exit_group",
    "fstat", "futex", "getcpu", "getegid", "geteuid", "getgid", "getpid", "getppid", "getrandom",
    "getrusage", "gettid", "gettimeofday", "getuid", "lseek", "membarrier", "mremap", "munmap",
    "nanosleep", "pause", "poll", "ppoll", "read", "readv", "recvmsg", "restart_syscall", "rseq",
    "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait",
    "sched_getaffinity", "sched_yield", "sendmsg", "set_robust_list", "sigaltstack", "sysinfo",
    "time", "uname", "write", "writev",
  ]
  /// What the dynamic linker and starting threads take besides.
  private static let looking = [
    "access", "arch_prctl", "faccessat", "faccessat2", "fstatfs", "getcwd", "getdents64", "lstat",
    "newfstatat", "pread64", "readlink", "readlinkat", "sched_getparam", "sched_getscheduler",
    "set_tid_address", "stat", "statfs", "statx",
  ]

  /// linux/mman.h's NORMAL to DONTNEED, FREE, DONTFORK, DOFORK, HUGEPAGE to DODUMP, WIPEONFORK,
  /// KEEPONFORK and POPULATE_READ, POPULATE_WRITE.
  private static let advices: [UInt32] = [0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 18, 19, 22, 23]
  /// PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_SET_NO_NEW_PRIVS (which libseccomp sets),
  /// PR_GET_NO_NEW_PRIVS.
  private static let processOptions: [UInt32] = [3, 15, 16, 38, 39]
  /// PR_SET_DUMPABLE, to 0 alone.
  private static let dumpable: UInt32 = 4
  /// F_DUPFD_CLOEXEC.
  private static let duplicate: Int32 = 1030
  /// MAP_HUGETLB.
  private static let hugePages: Int32 = 0x0004_0000
  /// SECCOMP_FILTER_FLAG_NEW_LISTENER.
  private static let listener: Int32 = 1 << 3
  /// CLONE_THREAD of linux/sched.h.
  private static let thread: Int32 = 0x0001_0000
  /// CLONE_NEW..., CLONE_PIDFD, CLONE_PTRACE, CLONE_VFORK, CLONE_PARENT, CLONE_UNTRACED.
  private static let elsewhere = Int32(bitPattern: 0x7E82_F000)

  private static let allow: UInt32 = 0x7FFF_0000
  private static let kill: UInt32 = 0x8000_0000
  private static func refuse(_ number: Int32) -> UInt32 { 0x0005_0000 | UInt32(number) }
  private static func text(_ code: Int32) -> String { String(cString: strerror(-code)) }

  // MARK: - Words for libseccomp

  private func set(_ attribute: scmp_filter_attr, _ value: UInt32) {
    // What a library or kernel does not know is slower or laxer in what the comments above say.
    _ = seccomp_attr_set(filter, attribute, value)
  }

  private mutating func rule(
    _ name: String, _ conditions: [scmp_arg_cmp] = [], _ action: UInt32 = SystemCallFilter.allow
  ) {
    let number = seccomp_syscall_resolve_name(name)
    // One that this architecture does not have.
    if number < 0 { return }
    let code = seccomp_rule_add_array(
      filter, action, number, UInt32(conditions.count), conditions)
    if code != 0 { failure = "\(name): \(SystemCallFilter.text(code))" }
  }

  /// These bits of an argument are those of `value`.
  private func bits(_ argument: UInt32, _ mask: Int32, _ value: Int32) -> scmp_arg_cmp {
    scmp_arg_cmp(
      arg: argument, op: SCMP_CMP_MASKED_EQ, datum_a: UInt64(UInt32(bitPattern: mask)),
      datum_b: UInt64(UInt32(bitPattern: value)))
  }

  /// An argument that the kernel takes as an int is `value`.
  private func word(_ argument: UInt32, _ value: UInt32) -> scmp_arg_cmp {
    bits(argument, -1, Int32(bitPattern: value))
  }

  /// A pointer, or a long, is 0.
  private func null(_ argument: UInt32) -> scmp_arg_cmp {
    scmp_arg_cmp(arg: argument, op: SCMP_CMP_EQ, datum_a: 0, datum_b: 0)
  }
}
