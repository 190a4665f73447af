import Glibc

/// What the unit's ExecReload= runs: asks a daemon to reload, waits, and tells how it went, since a
/// signal alone brings no answer back.
struct ReloadRequest {
  private static let pollMicroseconds: UInt32 = 10_000
  /// Reading a file takes milliseconds; a minute is for machines that are on their knees.
  private static let waitMicroseconds: UInt32 = 60_000_000

  /// Why the reload failed, nil when it did not. The daemon is $MAINPID, its file in
  /// $RUNTIME_DIRECTORY.
  static func run() -> String? {
    guard let file = ReloadFile.fromEnvironment() else {
      return
        "RUNTIME_DIRECTORY is not set: --reload is for the service manager; send SIGHUP instead"
    }
    guard let before = file.read() else {
      return "no running daemon: \(file.path) is not there"
    }
    let asked = getenv("MAINPID").flatMap { pid_t(String(cString: $0)) }
    if let asked, asked != before.pid {
      return "\(file.path) is of process \(before.pid), not of \(asked)"
    }
    if kill(before.pid, SIGHUP) != 0 {
      return "process \(before.pid): \(String(cString: strerror(errno)))"
    }
    var waited: UInt32 = 0
    while waited < waitMicroseconds {
      usleep(pollMicroseconds)
      waited += pollMicroseconds
      guard let now = file.read(), now.pid == before.pid, kill(now.pid, 0) == 0 else {
        return "the daemon ended during the reload"
      }
      // One that had begun before the signal does not count.
      if now.done > before.begun { return now.failure }
    }
    return "no answer from process \(before.pid)"
  }
}
