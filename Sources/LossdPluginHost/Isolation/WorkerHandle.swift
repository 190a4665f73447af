import CLinux
import Glibc
import LossdTensor
import Synchronization

/// A process that runs a plugin, as the daemon holds it: its id, the socket for orders and answers,
/// and what it writes to its log. Both descriptors are closed with the last reference, and so the
/// process ends.
///
/// `@unchecked Sendable`: constants; who reads and writes the socket is agreed among its users.
public final class WorkerHandle: @unchecked Sendable {
  public let pid: Int32
  public let socket: Int32
  public let log: Int32
  let words: SharedWords
  private let isReaped = Atomic<Bool>(false)

  /// Takes the descriptors over.
  init(pid: Int32, socket: Int32, log: Int32, words: SharedWords) {
    self.pid = pid
    self.socket = socket
    self.log = log
    self.words = words
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

  /// What it has written to its log since the last time, at most so many bytes; nil: nothing more
  /// will come. Does not wait.
  public func takeLog(_ bytesMax: Int) -> [UInt8]? {
    var outcome = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: bytesMax) { buffer, count in
      outcome = read(log, buffer.baseAddress, bytesMax)
      count = max(outcome, 0)
    }
    return outcome > 0 || outcome < 0 && (errno == EAGAIN || errno == EINTR) ? bytes : nil
  }

  /// Processor time that it has used, nanoseconds.
  public var processorTime: UInt64 { clinux_processor_time(pid) }

  /// How it ended; nil while it has not. To be asked until it is not nil.
  public func end() -> ProcessEnd? {
    if isReaped.load(ordering: .relaxed) { return ProcessEnd(signal: 0, status: 0) }
    var (number, status): (Int32, Int32) = (0, 0)
    guard clinux_wait(pid, &number, &status) != 0 else { return nil }
    isReaped.store(true, ordering: .relaxed)
    return ProcessEnd(signal: number, status: status)
  }
}

/// Memory by which a process is told what a message would tell too late, and tells what a message
/// could not.
final class SharedWords: Sendable {
  private let told: SharedSegment
  private let telling: SharedSegment

  init() throws(StatusError) {
    told = try SharedSegment(MemoryLayout<UInt64>.size, isInput: true)
    telling = try SharedSegment(MemoryLayout<UInt64>.size, isInput: false)
    for segment in [told, telling] { try segment.allocate(0, MemoryLayout<UInt64>.size) }
  }

  var descriptors: [Int32] { [told.descriptor, telling.descriptor] }

  /// The number of the last call that is to stop.
  func stop(_ number: UInt64) {
    clinux_store(told.base.assumingMemoryBound(to: UInt64.self), number)
  }

  /// The mark of the last order that the process has begun with. It can write there what it likes.
  var begun: UInt64 { clinux_load(telling.base.assumingMemoryBound(to: UInt64.self)) }

  /// The process's own view.
  struct View {
    let stop: UnsafePointer<UInt64>
    let begun: UnsafeMutablePointer<UInt64>

    /// Takes the descriptors over; nil where they are not what `SharedWords` sends.
    init?(_ descriptors: [Int32]) {
      defer { for descriptor in descriptors { _ = close(descriptor) } }
      let size = MemoryLayout<UInt64>.size
      guard descriptors.count == 2, let told = clinux_map(descriptors[0], size),
        let telling = clinux_map(descriptors[1], size), mprotect(told, size, PROT_READ) == 0,
        mprotect(telling, size, PROT_READ | PROT_WRITE) == 0
      else { return nil }
      stop = UnsafePointer(told.assumingMemoryBound(to: UInt64.self))
      begun = telling.assumingMemoryBound(to: UInt64.self)
    }
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
  /// Memory of the daemon's that a process may have been shown at a time, bytes.
  public var sharedBytesMax: UInt64 = 32 << 30
  /// Threads that compute in each.
  public var threads = 1
  /// Processes of one plugin that may run at once, for each loop.
  public var processesMax = 2
  /// Whether a plugin is refused whose process the kernel cannot confine in full.
  public var confinement = ConfinementDemand.best
  /// How long a plugin may take to load, nanoseconds.
  public var loadTimeout: UInt64 = 10_000_000_000
  /// The program that has `plugin-host`.
  public var program = "/proc/self/exe"

  public init() {}
}
