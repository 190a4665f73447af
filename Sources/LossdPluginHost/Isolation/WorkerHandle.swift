import CLinux
import Glibc
import Synchronization

/// A process that runs a plugin, as the daemon holds it: its id, the socket for orders and answers, and what it
/// writes to its log. Both descriptors are closed with the last reference, and so the process ends.
///
/// `@unchecked Sendable`: constants; who reads and writes the socket is agreed among its users.
public final class WorkerHandle: @unchecked Sendable {
  public let pid: Int32
  public let socket: Int32
  public let log: Int32
  /// The number of the last call that is to stop; the process sees it.
  let stopWord: UnsafeMutablePointer<UInt64>
  private let control: SharedSegment
  private let isReaped = Atomic<Bool>(false)

  /// Takes the descriptors over. `control` is memory that the process can read.
  init(pid: Int32, socket: Int32, log: Int32, control: SharedSegment) {
    self.pid = pid
    self.socket = socket
    self.log = log
    self.control = control
    stopWord = control.base.bindMemory(to: UInt64.self, capacity: 1)
  }

  deinit {
    _ = close(socket)
    _ = close(log)
    // It ends with its socket, or is made to.
    if pid > 0 && !isReaped.load(ordering: .relaxed) { ProcessSpawner.shared.reapLater(pid) }
  }

  public func kill() {
    // 0 and what is negative are more than one process.
    if pid > 0 && !isReaped.load(ordering: .relaxed) { Glibc.kill(pid, SIGKILL) }
  }

  /// What its log brings in one turn, bytes: no more than a second's lines of usual length.
  public static let logBytesMax = 1 << 14

  /// What it has written to its log since the last time, at most so many bytes; nil: nothing more will come. Does
  /// not wait.
  public func takeLog(_ bytesMax: Int) -> [UInt8]? {
    var outcome = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: bytesMax) { buffer, count in
      outcome = read(log, buffer.baseAddress, bytesMax)
      count = max(outcome, 0)
    }
    return outcome > 0 || outcome < 0 && (errno == EAGAIN || errno == EINTR) ? bytes : nil
  }

  /// How it ended; nil while it has not. To be asked until it is not nil.
  public func end() -> ProcessEnd? {
    if isReaped.load(ordering: .relaxed) { return ProcessEnd(signal: 0, status: 0) }
    var (number, status): (Int32, Int32) = (0, 0)
    guard clinux_wait(pid, &number, &status) != 0 else { return nil }
    isReaped.store(true, ordering: .relaxed)
    return ProcessEnd(signal: number, status: status)
  }
}

/// How a process ended.
public struct ProcessEnd: Sendable, Equatable {
  public var signal: Int32
  public var status: Int32

  /// `was killed by SIGSEGV`, `exited with status 3`.
  public var text: String {
    signal != 0
      ? "was killed by SIG\(String(cString: clinux_signal_name(signal)))"
      : "exited with status \(status)"
  }
}

/// How processes that run plugins are made.
public struct IsolationSettings: Sendable, Equatable {
  /// Private memory that a plugin's process may have, bytes.
  public var memoryBytes: UInt64 = 1 << 30
  /// Threads that compute in each.
  public var threads = 1
  /// Processes of one plugin that may run at once, for each loop.
  public var processesMax = 2
  /// How long a plugin may take to load, nanoseconds.
  public var loadTimeout: UInt64 = 10_000_000_000
  /// The program that has `plugin-host`.
  public var program = "/proc/self/exe"

  public init() {}
}
