import CLinux
import Glibc

/// What a process that runs a plugin takes from itself, step by step, before and after the library
/// is opened: privileges, limits, files, system calls (seccomp(2), landlock(7)). What is refused is
/// refused with EPERM, so that a plugin which looks for something it may not have can go on
/// without.
enum Confinement {
  private static let stackBytes: UInt64 = 8 << 20
  /// What the program itself reserves without using it: its libraries, malloc's arenas.
  private static let reservedBytes: UInt64 = 1 << 30

  /// Returns what could not be done.
  /// - Parameters:
  ///   - memoryBytes: of private memory, beyond what the process takes by itself.
  ///   - sharedBytes: of the daemon's memory that it may be shown at a time.
  static func limit(memoryBytes: UInt64, sharedBytes: UInt64, threads: Int) -> ConfinementGaps {
    var gaps: ConfinementGaps = []
    // Without it no filter can be installed, and that is an error.
    _ = clinux_no_new_privileges()
    if clinux_drop_capabilities() != 0 { gaps.insert(.capabilities) }
    func limit(_ resource: __rlimit_resource, _ value: UInt64) {
      if clinux_set_limit(Int32(resource.rawValue), value) != 0 { gaps.insert(.limits) }
    }
    limit(RLIMIT_STACK, stackBytes)
    // Stacks count as private memory too.
    let own = UInt64(64 << 20) + UInt64(threads + 2) * stackBytes
    limit(RLIMIT_DATA, memoryBytes + own)
    // Memory that is only read is nobody's, but the tables of its pages are.
    limit(RLIMIT_AS, memoryBytes + own + sharedBytes + reservedBytes)
    // A core file would have clients' tensors in it.
    limit(RLIMIT_CORE, 0)
    limit(RLIMIT_FSIZE, 0)
    limit(RLIMIT_NOFILE, 128)
    return gaps
  }

  /// Where libraries lie that a plugin may need.
  static let libraryFolders = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"]

  /// Files that can be read from now on, in this thread and those that it starts: libraries.
  /// Returns what Landlock could not do.
  static func confineFiles() -> ConfinementGaps {
    let readable = libraryFolders + ["/etc/ld.so.cache", "/proc/self/fd"]
    let version = withCStrings(readable) { clinux_confine_files($0) }
    return version == 0 ? [.files, .signals] : version < 6 ? [.signals] : []
  }

  /// Before a line of the plugin runs: shared libraries can be opened, threads started, nothing
  /// else. Returns what could not be done; nil: everything.
  static func beforeLoading() -> String? { SystemCallFilter.install(.loading) }

  /// After the plugin has been loaded and started: computing, and answering on the descriptors that
  /// are open.
  static func afterLoading() -> String? {
    // Nobody looks into it from outside, and a core file, which a program may get whatever the
    // limit says, is not made.
    if clinux_forbid_inspection() != 0 {
      return "PR_SET_DUMPABLE: \(String(cString: strerror(errno)))"
    }
    return SystemCallFilter.install(.running)
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
