import LossdEngine
import LossdPluginHost
import LossdSocket
import LossdTensor
import Synchronization

/// What all loops of a daemon share. Any thread.
final class DaemonState: Sendable {
  let registry: Registry
  let scheduler: WorkerThreads
  let budget: MemoryBudget
  let users: Users
  let pool: BufferPool
  let regions = Regions()
  let closer = DescriptorCloser()
  let software: String
  /// The name of the vector kernels in use, for GetStatus.
  let kernels: String
  /// nil: this daemon takes no plugins.
  let plugins: PluginManager?
  let startTime = Clock.now
  let connectionCount = Atomic<Int>(0)
  let isDraining = Atomic<Bool>(false)
  let metrics: Mutex<[Metrics]> = Mutex([])
  let listeners: Mutex<[String]> = Mutex([])
  /// Set once, before the first connection.
  let loops = Shared<[LoopContext]>([])
  /// Tells every loop that memory of a budget has been released.
  let onRelease: @Sendable (MemoryBudget) -> Void
  /// Bytes that loops have leased from users' budgets for small things, which are not told as bytes
  /// in flight.
  let leasedBytes = Atomic<Int>(0)
  private let connectionNumbers = Atomic<UInt64>(0)
  private let hasWarnedOfPeers = Atomic<Bool>(false)
  /// Calls and payloads that wait for memory, on all loops.
  private let waiterCount = Atomic<Int>(0)
  let onLog: Mutex<@Sendable (LogLevel, String) -> Void> = Mutex({ _, _ in })

  /// One line for the log.
  func log(_ level: LogLevel, _ text: String) { onLog.withLock { $0 }(level, text) }

  /// A number for a connection that is nobody else's.
  func nextConnection() -> UInt64 {
    connectionNumbers.add(1, ordering: .relaxed).newValue
  }

  /// How many connections there have been.
  var connectionsBegun: UInt64 { connectionNumbers.load(ordering: .relaxed) }

  /// Says once that there are peers whose user cannot be told.
  func warnOfUnknownPeers() {
    if hasWarnedOfPeers.exchange(true, ordering: .relaxed) { return }
    log(
      .warning,
      "who connects cannot be told, since the daemon's user namespace does not have their uids "
        + "(PrivateUsers=yes?): limits of users hold for each connection by itself")
  }

  func waiterBegan() {
    if waiterCount.add(1, ordering: .relaxed).oldValue > 0 { return }
    for loop in loops.withLock({ $0 }) { loop.loop.execute { loop.beginInspections() } }
  }

  func waiterEnded() { waiterCount.subtract(1, ordering: .relaxed) }

  var hasWaiters: Bool { waiterCount.load(ordering: .relaxed) > 0 }

  init(
    registry: Registry, scheduler: WorkerThreads, software: String, kernels: String,
    limits: ServerLimits, pooledBytesMax: Int, plugins: PluginManager?
  ) {
    self.registry = registry
    self.scheduler = scheduler
    self.software = software
    self.kernels = kernels
    self.plugins = plugins
    let loops = self.loops
    let onRelease: @Sendable (MemoryBudget) -> Void = { budget in
      for loop in loops.withLock({ $0 }) {
        loop.loop.execute { loop.memoryReleased(budget) }
      }
    }
    budget = MemoryBudget(
      bytesMax: limits.totalBytesMax, setting: "limits.total_bytes", owner: "the daemon",
      onRelease: onRelease)
    users = Users(bytesMax: limits.userBytes, within: budget, onRelease: onRelease)
    self.onRelease = onRelease
    pool = BufferPool(cacheBytesMax: pooledBytesMax)
  }
}

/// How grave a line of the log is.
public enum LogLevel: Sendable {
  case debug, info, notice, warning, error
}

/// A value behind a lock that several objects refer to.
final class Shared<Value: Sendable>: Sendable {
  private let value: Mutex<Value>
  init(_ value: Value) { self.value = Mutex(value) }
  func withLock<Result: Sendable>(_ body: (inout sending Value) -> sending Result) -> Result {
    value.withLock(body)
  }
}
