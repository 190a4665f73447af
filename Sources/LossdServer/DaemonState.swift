import LossdEngine
import LossdPluginHost
import LossdTensor
import Synchronization

/// What all loops of a daemon share. Any thread.
final class DaemonState: Sendable {
  let registry: Registry
  let scheduler: Scheduler
  let budget: MemoryBudget
  let pool: BufferPool
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
  let onLog: Mutex<@Sendable (LogLevel, String) -> Void> = Mutex({ _, _ in })

  /// One line for the log.
  func log(_ level: LogLevel, _ text: String) { onLog.withLock { $0 }(level, text) }

  init(
    registry: Registry, scheduler: Scheduler, software: String, kernels: String,
    totalBytesMax: Int, pooledBytesMax: Int, plugins: PluginManager?
  ) {
    self.registry = registry
    self.scheduler = scheduler
    self.software = software
    self.kernels = kernels
    self.plugins = plugins
    budget = MemoryBudget(bytesMax: totalBytesMax)
    pool = BufferPool(cacheBytesMax: pooledBytesMax)
  }
}

/// How grave a line of the log is.
public enum LogLevel: Sendable {
  case debug, info, notice, warning, error
}
