import CLinux
import Glibc
import LossdEngine
import LossdTensor
import LossdThreads
import Synchronization

/// Starts processes from one thread that never ends: a process is killed with the thread that
/// started it, so that none outlives the daemon.
public final class ProcessSpawner: Sendable {
  public static let shared = ProcessSpawner()
  /// From the end of its socket to the end of a process, nanoseconds.
  private static let endTime: UInt64 = 1_000_000_000
  /// As much of a plugin's name is shown in the list of processes, bytes.
  private static let nameBytesMax = 64

  private struct State {
    var work: [@Sendable () -> Void] = []
    /// Processes that are to end, and when they are killed if they have not.
    var dying: [(pid: Int32, deadline: UInt64)] = []
    var isRunning = false
  }

  private let state = Mutex(State())
  private let wake = Semaphore()

  private init() {}

  /// Starts a process for the sealed library `descriptor` of the plugin `name`, copied from `path`;
  /// `completion` gets its handle on the spawner's thread. It loads the library next, and says
  /// READY or why not on its socket.
  func spawn(
    _ settings: IsolationSettings, library: Int32, name: String, path: String,
    completion: @escaping @Sendable (Result<WorkerHandle, StatusError>) -> Void
  ) {
    perform {
      do throws(StatusError) {
        completion(.success(try ProcessSpawner.start(settings, library, name, path)))
      } catch { completion(.failure(error)) }
    }
  }

  func reapLater(_ pid: Int32) {
    state.withLock { $0.dying.append((pid, Clock.now + ProcessSpawner.endTime)) }
    perform {}
  }

  /// On the spawner's thread: also for what would take a loop too long.
  func perform(_ work: @escaping @Sendable () -> Void) {
    let isFirst = state.withLock { state in
      state.work.append(work)
      defer { state.isRunning = true }
      return !state.isRunning
    }
    // Without it, whoever waits for a process waits until there is a thread for it.
    if isFirst && !tryToStartThread({ self.run() }) { state.withLock { $0.isRunning = false } }
    wake.signal()
  }

  private func run() {
    clinux_name_thread("lossd-spawner")
    while true {
      if state.withLock({ $0.dying.isEmpty }) {
        wake.wait()
      } else {
        usleep(2000)
        reap()
        if !wake.tryWait() { continue }
      }
      let work = state.withLock { state in
        defer { state.work.removeAll() }
        return state.work
      }
      for body in work { body() }
    }
  }

  private func reap() {
    let now = Clock.now
    state.withLock { state in
      for process in state.dying where process.deadline < now { kill(process.pid, SIGKILL) }
      state.dying.removeAll {
        var (number, status): (Int32, Int32) = (0, 0)
        return clinux_wait($0.pid, &number, &status) != 0
      }
    }
  }

  private static func start(
    _ settings: IsolationSettings, _ library: Int32, _ name: String, _ path: String
  ) throws(StatusError) -> WorkerHandle {
    func failure(_ what: String, _ number: Int32) -> StatusError {
      StatusError(
        .unavailable,
        "a process for \(path) cannot be started: \(what): \(String(cString: strerror(number)))")
    }
    let words = try SharedWords()
    var ends: (Int32, Int32) = (-1, -1)
    var log: (Int32, Int32) = (-1, -1)
    let code = withUnsafeMutablePointer(to: &ends) {
      $0.withMemoryRebound(to: Int32.self, capacity: 2) {
        clinux_message_pair($0, Int32(2 * Order.bytesMax))
      }
    }
    if code != 0 { throw failure("socketpair", errno) }
    let piped = withUnsafeMutablePointer(to: &log) {
      $0.withMemoryRebound(to: Int32.self, capacity: 2) { clinux_pipe($0) }
    }
    if piped != 0 {
      let number = errno
      _ = (close(ends.0), close(ends.1))
      throw failure("pipe", number)
    }
    var pid: Int32 = 0
    let shownName = PluginLog.harmless(name.utf8.prefix(ProcessSpawner.nameBytesMax))
    let number = withCStrings([
      CLINUX_PROCESS_PROGRAM, CLINUX_PROCESS_COMMAND, shownName,
    ]) { arguments in
      withCStrings(["LC_ALL=C", "MALLOC_ARENA_MAX=2"]) { environment in
        clinux_spawn(
          &pid, settings.program, UnsafeMutablePointer(mutating: arguments).mutableStrings,
          UnsafeMutablePointer(mutating: environment).mutableStrings, [log.1, ends.1, library], 3)
      }
    }
    _ = (close(ends.1), close(log.1))
    if number != 0 {
      _ = (close(ends.0), close(log.0))
      throw failure(settings.program, number)
    }
    let handle = WorkerHandle(pid: pid, socket: ends.0, log: log.0, words: words)
    let memory = MessageMemory()
    var order = Packer(memory.all)
    order.put(Order.configure, 0)
    order.put(settings.memoryBytes)
    order.put(settings.sharedBytesMax)
    order.put(UInt32(settings.threads))
    order.put(UInt32(settings.confinement == .full ? 1 : 0))
    order.put(getpid())
    order.put(shownName)
    order.put(path)
    let sent = clinux_send_message(
      ends.0, order.bytes.baseAddress, order.count, words.descriptors, 2, 0)
    if sent < 0 {
      throw failure("configure", errno)
    }
    return handle
  }
}

extension UnsafeMutablePointer where Pointee == UnsafePointer<CChar>? {
  /// As C's exec family declares it; it only reads.
  fileprivate var mutableStrings: UnsafePointer<UnsafeMutablePointer<CChar>?> {
    UnsafeRawPointer(self).assumingMemoryBound(to: UnsafeMutablePointer<CChar>?.self)
  }
}
